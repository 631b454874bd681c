"""What holds for every test: no settings of the machine, no network, one thread, nothing left behind."""

from __future__ import annotations

import os

# Read once, when an OpenMP library is loaded: so before any test imports numpy or torch.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive", KMP_BLOCKTIME="0")

import ipaddress
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SETTINGS_PREFIXES = ("METTA_", "WANDB_", "AWS_")
# These change what a command prints.
TERMINAL_SETTINGS = (
    "LOG_LEVEL",
    "LOGLEVEL",
    "NO_COLOR",
    "FORCE_COLOR",
    "PY_COLORS",
    "GITHUB_ACTIONS",
    "COLUMNS",
    "LINES",
)
SHARED_MEMORY = Path("/dev/shm")
PATIENCE_SECONDS = 10.0


class NetworkBlockedError(RuntimeError):
    """A test wanted to leave this machine; not an OSError, so that no code under test takes it for a
    failing network.
    """


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(SETTINGS_PREFIXES) or name in TERMINAL_SETTINGS:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    # Only where a test imports torch: the tests of the command line must not pay for it.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(method: Callable) -> Callable:
        def call(self: socket.socket, *args: Any) -> Any:
            if self.family != socket.AF_UNIX:
                require_loopback(args[-1])
            return method(self, *args)

        return call

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> list:
        require_loopback((host,))
        return resolve(host, *args, **kwargs)

    resolve = socket.getaddrinfo
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, checked(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def require_loopback(address: Any) -> None:
    """Raise if an address is neither this machine's loopback nor, with an empty host, its own interfaces."""
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    if host in (None, "", "localhost"):
        return
    try:
        is_loopback = ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise NetworkBlockedError(f"tests have no network, and this one wants {host} (serve it on 127.0.0.1)")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail if this process leaves a child process or an unmapped shared-memory segment (Linux only)."""
    if not SHARED_MEMORY.is_dir() or not Path("/proc/self/maps").exists():
        yield
        return
    segments_before = owned_segments()
    yield
    # What ends at its own pace gets some time; what is still there then was forgotten.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := children() + abandoned_segments(segments_before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"the tests left behind: {left}"


def children() -> list[str]:
    """Return the living child processes of this one, without multiprocessing's own two servants."""
    multiprocessing.active_children()  # reaps those that ended
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # PID (NAME) STATE PARENT ...; a name may hold blanks and brackets.
        state, parent, *_ = read_or_empty(stat).rpartition(")")[2].split() or ("Z", "0")
        if int(parent) != os.getpid() or state == "Z":  # Z has ended and only waits for its parent
            continue
        command = read_or_empty(stat.parent / "cmdline").replace("\0", " ").strip()
        if "multiprocessing.resource_tracker" not in command and "multiprocessing.forkserver" not in command:
            found.append(f"process {stat.parent.name} ({command})")
    return found


def owned_segments() -> set[Path]:
    return {path for path in SHARED_MEMORY.iterdir() if owner(path) == os.getuid()}


def abandoned_segments(before: set[Path]) -> list[str]:
    """Return the new segments that no living process maps.

    Other programs, and the other workers of pytest-xdist, make segments too; theirs are in use.
    """
    new = owned_segments() - before
    if not new:
        return []
    maps = "\n".join(read_or_empty(path) for path in Path("/proc").glob("[0-9]*/maps"))
    return [f"shared memory {path}" for path in sorted(new) if f"{path}\n" not in maps]


def owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return None


def read_or_empty(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
