"""A headless Chromium, driven through two pipes: Chrome's DevTools protocol, and nothing to install."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
EXECUTABLE = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers, and the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network, whatever the page asks for
    "--force-device-scale-factor=1",
    "--window-size=1200,800",
    "--remote-debugging-pipe",
)
PATIENCE_SECONDS = 60.0


class Browser:
    """One page in a browser of its own; a context manager.

    Args:
        directory: for the profile.
        script: JavaScript that runs in every new page before its own.

    Attributes:
        requests: addresses that the page asked for.
        errors: what it threw, or wrote to its console as an error.
    """

    def __init__(self, directory: Path, script: str = "") -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._number = 0
        self._unread = b""
        self._session: str | None = None
        self._process = self._start(directory)
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        assert EXECUTABLE is not None

        def as_3_and_4() -> None:  # the numbers that Chromium reads from and writes to
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        process = subprocess.Popen(
            [EXECUTABLE, *FLAGS, f"--user-data-dir={directory}"],
            preexec_fn=as_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        return process

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._to)
        os.close(self._from)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def open(self, url: str) -> None:
        """Load a page and wait until it is complete."""
        self._call("Page.navigate", {"url": url})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.run("document.readyState === 'complete' && location.href !== 'about:blank'"):
            assert time.monotonic() < deadline, f"{url} does not load"

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", {"expression": script, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector: str, across: float = 0.5) -> None:
        """Press the mouse on an element, `across` of its width from the left, and let go."""
        x, y = self.run(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            f" return [box.left + {across} * box.width, box.top + box.height / 2]; }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", event)

    def press(self, key: str) -> None:
        """Press a key and let go."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, " ": 32}[key]
        for kind in ("keyDown", "keyUp"):
            event: dict[str, Any] = {"type": kind, "key": key, "windowsVirtualKeyCode": code}
            self._call("Input.dispatchKeyEvent", event)

    def screenshot(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"])

    def _call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            received = os.read(self._from, 1 << 16) if ready else b""
            assert received, "the browser does not answer"
            self._unread += received
        message, _, self._unread = self._unread.partition(b"\0")
        content: dict[str, Any] = json.loads(message)
        return content

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
