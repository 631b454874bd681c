"""An S3 server on this machine (moto's), behind a proxy that can make anything go wrong."""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

from metta_cli.artifacts import s3
from metta_cli.artifacts.checkpoints import Checkpoint, save_checkpoint
from metta_cli.testing.loaders import example_checkpoint

BUCKET = "bucket"
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "server", "date"}


@dataclass
class S3Fault:
    """What goes wrong with the next requests of a kind.

    Attributes:
        request: beginning of `METHOD /path?query`, or any part of it.
        effect: an HTTP status, with `code` as its reason; or the connection is closed without an answer, or
            after half of it; or one bit of what is sent or stored is flipped; None answers as usual.
        code: of an S3 error.
        count: how many requests it hits.
        delay_seconds: how long the answer takes.
    """

    request: str
    effect: int | Literal["drop", "truncate", "flip", "flip stored"] | None = None
    code: str = "InternalError"
    count: int = 1_000_000
    delay_seconds: float = 0.0


class S3Server:
    """A running server with one bucket.

    Attributes:
        url: for `AWS_ENDPOINT_URL`.
        client: of boto3, straight to the server, without the faults.
        faults: what goes wrong; the first that fits a request counts.
        requests: `METHOD /path?query` of every request so far.
    """

    def __init__(self) -> None:
        import boto3
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.faults: list[S3Fault] = []
        self.requests: list[str] = []
        self.released = threading.Event()
        self._moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self.upstream = self._moto.get_host_and_port()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.client: Any = boto3.client(
            "s3",
            endpoint_url="http://{}:{}".format(*self.upstream),
            aws_access_key_id="seeder",
            aws_secret_access_key="seeder",
            region_name="us-east-1",
        )

    def reset(self) -> None:
        """Begin anew, with an empty bucket."""
        self.released.set()
        self.released = threading.Event()
        connection = http.client.HTTPConnection(*self.upstream)
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
        connection.close()
        self.faults, self.requests = [], []
        self.client.create_bucket(Bucket=BUCKET)

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._moto.stop()
        self.client.close()

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def stored(self) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]

    def put_directory(self, directory: Path, prefix: str) -> None:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(directory).as_posix()}", path.read_bytes())

    def put_run(self, run: str, epochs: list[int], directory: Path, root: str = "runs") -> None:
        """Store a run as `metta push` does."""
        for epoch in epochs:
            self.put_checkpoint(
                example_checkpoint(run, epoch), directory, f"{root}/{run}/checkpoints".lstrip("/")
            )

    def put_checkpoint(self, checkpoint: Checkpoint, directory: Path, prefix: str) -> None:
        stored = save_checkpoint(
            directory / "stored", checkpoint.manifest, checkpoint.weights, checkpoint.trainer_state
        )
        self.put_directory(stored, f"{prefix}/{stored.name}")

    def asked(self, request: str) -> list[str]:
        """Return the requests so far that have a part."""
        return [line for line in self.requests if request in line]


class _Http(ThreadingHTTPServer):
    owner: S3Server
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that hung up: that is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.path}"
        owner.requests.append(line)
        fault = next((fault for fault in owner.faults if fault.request in line and fault.count > 0), None)
        effect = None
        if fault is not None:
            fault.count -= 1
            effect = fault.effect
            owner.released.wait(fault.delay_seconds)
        if isinstance(effect, int) and fault is not None:
            text = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>".encode()
            self._answer(effect, [("Content-Type", "application/xml")], text)
        elif effect == "drop":
            self.close_connection = True
        else:
            self._forward(_flipped(body) if effect == "flip stored" else body, effect)

    def _forward(self, body: bytes, effect: object) -> None:
        connection = http.client.HTTPConnection(*self.server.owner.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        content = _flipped(content) if effect == "flip" else content
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        kept = [item for item in answer.getheaders() if item[0].lower() not in HOP_BY_HOP]
        self._answer(answer.status, kept, content, cut=effect == "truncate", length=length)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        *,
        cut: bool = False,
        length: str | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1]) if content else content


@pytest.fixture(scope="session")
def s3_session() -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="needs the extra metta-cli[s3]")
    pytest.importorskip("moto.server", reason="needs the development tools")
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3_server(
    s3_session: S3Server, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """An S3 server that this process and its children take for theirs, and an empty cache."""
    s3_session.reset()
    home = tmp_path_factory.mktemp("home")
    settings = {
        "AWS_ENDPOINT_URL": s3_session.url,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",  # else botocore asks 169.254.169.254 for credentials
        "AWS_CONFIG_FILE": str(home / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "none"),
        "XDG_CACHE_HOME": str(home / ".cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "_FIRST_WAIT_SECONDS", 0.01)
    yield s3_session
    s3_session.released.set()
