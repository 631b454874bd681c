"""A W&B server on this machine, for the real client: GraphQL, signed URLs, the file stream, and faults."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

from .wandb_backend import Backend

API_KEY = "0123456789" * 4
DROP, TRUNCATE, TAMPER = "drop", "truncate", "tamper"


@dataclass
class Fault:
    """What goes wrong with the next requests of a kind.

    Attributes:
        request: part of `graphql:OPERATION` or of the path of a request.
        effect: an HTTP status; or the connection is closed without an answer, after half of it, or
            the answer has one byte changed; None answers as usual.
        count: how many requests it hits.
        delay_seconds: how long the answer takes.
    """

    request: str
    effect: int | Literal["drop", "truncate", "tamper"] | None = None
    count: int = 1_000_000
    delay_seconds: float = 0.0


class WandbServer:
    """A running server; a context manager.

    Attributes:
        backend: what it knows.
        url: for `WANDB_BASE_URL`.
        faults: what goes wrong; the first that fits a request counts.
        requests: `graphql:OPERATION`, or the path, of every request so far.
        unknown: GraphQL operations that it had no answer to.
    """

    def __init__(self) -> None:
        self.backend = Backend()
        self.api_keys = {API_KEY}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.released = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.url = self.backend.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> WandbServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go away: whoever asks then is refused."""
        if self._thread.is_alive():
            self.released.set()
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    def environment(self, home: str) -> dict[str, str]:
        """Return the variables that send the client here, and its files to a directory."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "HOME": home, "WANDB_SILENT": "true"}

    def take_fault(self, request: str) -> Fault | None:
        with self.backend.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.request in request and fault.count > 0:
                    fault.count -= 1
                    return fault
        return None


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    owner: WandbServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client may go whenever it likes
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def serve_request(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path = unquote(self.path.partition("?")[0])
        question = json.loads(body) if path == "/graphql" else {}
        if question:
            named = re.search(r"(?:query|mutation)\s+(\w+)", question["query"])
            path = f"graphql:{question.get('operationName') or (named and named[1])}"
        fault = owner.take_fault(path)
        if fault is not None:
            owner.released.wait(fault.delay_seconds)
            if isinstance(fault.effect, int):
                self.send(fault.effect, {"errors": [{"message": f"injected {fault.effect}"}]})
                return
            if fault.effect == DROP:
                self.hang_up()
                return
        status, answer = self.answer(path, question, body)
        self.send(status, answer, fault.effect if fault else None)

    do_GET = do_POST = do_PUT = do_HEAD = serve_request

    def answer(self, path: str, question: dict[str, Any], body: bytes) -> tuple[int, Any]:
        backend = self.server.owner.backend
        if question:
            return self.answer_graphql(path.removeprefix("graphql:"), question.get("variables") or {})
        if stream := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            with backend.lock:
                take_file_stream(backend, stream.groups(), json.loads(body or b"{}"))
            return 200, {"exitcode": None, "limits": {}}
        if path.startswith("/storage/"):
            blob = path.removeprefix("/storage/")
            if self.command == "PUT":
                backend.blobs[blob] = body
                return 200, b""
            return (200, backend.blobs[blob]) if blob in backend.blobs else (404, b"")
        return 200, {}

    def answer_graphql(self, operation: str, variables: dict[str, Any]) -> tuple[int, Any]:
        owner = self.server.owner
        credentials = base64.b64decode(self.headers.get("Authorization", "Basic ").partition(" ")[2])
        if credentials.decode().partition(":")[2] not in owner.api_keys:
            return 401, {"errors": [{"message": "user is not logged in"}]}
        try:
            return 200, {"data": owner.backend.answer(operation, variables)}
        except KeyError as error:
            owner.unknown.append(f"{operation}: {error!r}")
            return 200, {"errors": [{"message": f"no answer to {operation}: {error!r}"}], "data": None}

    def send(self, status: int, answer: Any, effect: object = None) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if effect == TAMPER and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if effect == TRUNCATE:
            self.wfile.write(content[: len(content) // 2])
            self.hang_up()
        else:
            self.wfile.write(content)

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


def take_file_stream(backend: Backend, place: tuple[str, ...], message: dict[str, Any]) -> None:
    """Add what a run logs to what is known of it."""
    run = backend.runs[place[0], place[1], place[2]]
    files = message.get("files") or {}
    if rows := files.get("wandb-history.jsonl"):
        run.history[rows["offset"] :] = [json.loads(row) for row in rows["content"]]
    if summary := files.get("wandb-summary.json"):
        run.summary = json.loads(summary["content"][-1])
    if message.get("complete"):
        run.state = "failed" if message.get("exitcode") else "finished"
