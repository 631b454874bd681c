from __future__ import annotations

import hashlib
import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from metta_cli.artifacts import s3
from metta_cli.artifacts.cache import Cache, Digest
from metta_cli.artifacts.checkpoints import COMPLETE, Checkpoint
from metta_cli.artifacts.loaders import ForeignFile, load_checkpoint
from metta_cli.errors import AccessError, CheckpointError, MettaError, NotFoundError, UsageError
from metta_cli.testing.loaders import LoaderContract, example_checkpoint
from metta_plugins.loaders.s3 import S3Loader

from .s3_server import BUCKET, S3Fault, S3Server

WEIGHTS = "weights.safetensors"
PATIENCE_SECONDS = 120.0


class TestS3Loader(LoaderContract):
    @pytest.fixture(autouse=True)
    def server(self, s3_server: S3Server) -> None:
        self.s3_server = s3_server

    def make_loader(self) -> S3Loader:
        return S3Loader()

    def store(self, checkpoint: Checkpoint, directory: Path) -> str:
        self.s3_server.put_checkpoint(checkpoint, directory, "runs/example/checkpoints")
        return f"s3://{BUCKET}/runs/example"

    def missing_uri(self, directory: Path) -> str:
        return f"s3://{BUCKET}/runs/missing"


@pytest.fixture
def walker(s3_server: S3Server, tmp_path: Path) -> S3Server:
    s3_server.put_run("walker", [3, 12], tmp_path)
    return s3_server


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/walker", "walker:v12"),
        ("runs/walker/", "walker:v12"),
        ("runs/walker:latest", "walker:v12"),
        ("runs/walker:v3", "walker:v3"),
        ("runs/walker/checkpoints", "walker:v12"),
        ("runs/walker/checkpoints:v3", "walker:v3"),
        ("runs/walker/checkpoints/walker:v3", "walker:v3"),
        ("runs/walker/checkpoints/walker:latest", "walker:v12"),
        ("runs/walker/checkpoints/walker", "walker:v12"),
    ],
)
def test_a_checkpoint_is_found_by_every_spelling(walker: S3Server, path: str, name: str) -> None:
    assert load_checkpoint(f"s3://{BUCKET}/{path}").manifest.name == name


def test_a_copy_of_a_checkpoint_under_another_name_is_found(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.put_run("walker", [3], tmp_path)
    s3_server.put_directory(tmp_path / "stored" / "walker:v3", "shared/best")
    assert load_checkpoint(f"s3://{BUCKET}/shared/best").manifest.name == "walker:v3"


def test_a_file_of_another_tool_comes_as_it_is_stored(s3_server: S3Server) -> None:
    s3_server.put("models/policy.pt", b"weights")
    found = load_checkpoint(f"s3://{BUCKET}/models/policy.pt")
    assert isinstance(found, ForeignFile)
    assert (found.path.name, found.path.read_bytes()) == ("policy.pt", b"weights")


def test_what_was_downloaded_once_is_not_downloaded_again(walker: S3Server) -> None:
    load_checkpoint(f"s3://{BUCKET}/runs/walker")
    load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert len(walker.asked(f"v12/{WEIGHTS}")) == 1


def test_latest_is_a_checkpoint_that_was_stored_a_moment_ago(walker: S3Server, tmp_path: Path) -> None:
    load_checkpoint(f"s3://{BUCKET}/runs/walker:latest")
    walker.put_run("walker", [13], tmp_path)
    assert load_checkpoint(f"s3://{BUCKET}/runs/walker:latest").manifest.name == "walker:v13"


def test_a_file_that_was_replaced_is_downloaded_again(s3_server: S3Server) -> None:
    for content in (b"old", b"new"):
        s3_server.put("policy.pt", content)
        found = load_checkpoint(f"s3://{BUCKET}/policy.pt")
        assert isinstance(found, ForeignFile)
        assert found.path.read_bytes() == content


def test_a_checkpoint_that_is_still_being_uploaded_is_skipped_with_a_warning(
    walker: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    walker.client.delete_object(Bucket=BUCKET, Key=f"runs/walker/checkpoints/walker:v12/{COMPLETE}")
    assert load_checkpoint(f"s3://{BUCKET}/runs/walker").manifest.name == "walker:v3"
    assert "walker:v12/ is incomplete" in caplog.text
    with pytest.raises(CheckpointError, match="incomplete"):
        load_checkpoint(f"s3://{BUCKET}/runs/walker/checkpoints/walker:v12")


@pytest.mark.parametrize(
    ("request_part", "effect", "count"),
    [
        (f"/{WEIGHTS}", 500, 2),
        (f"/{WEIGHTS}", "truncate", 2),
        (f"/{WEIGHTS}", "drop", 2),
        (f"/{WEIGHTS}", "flip", 2),
        ("manifest.json", "truncate", 1),
        ("manifest.json", "flip", 1),
        (f"GET /{BUCKET}/runs/walker/checkpoints/walker%3Av12/{COMPLETE}", "truncate", 1),
        ("list-type=2", 503, 2),
        ("list-type=2", "drop", 1),
        ("HEAD", 500, 1),
    ],
)
def test_a_fault_that_passes_does_no_harm(
    walker: S3Server, request_part: str, effect: int | str, count: int
) -> None:
    walker.faults.append(S3Fault(request_part, effect, count=count))
    loaded = load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert torch.equal(loaded.weights["layer.weight"], example_checkpoint(epoch=12).weights["layer.weight"])
    assert walker.faults[0].count == 0


@pytest.mark.parametrize(
    ("effect", "error", "message"),
    [
        (500, MettaError, r"fails at .*InternalError \(500\)"),
        ("truncate", MettaError, "failed at"),
        ("drop", MettaError, "failed at"),
        ("flip", CheckpointError, "is damaged"),
    ],
)
def test_a_fault_that_lasts_is_an_error_and_leaves_nothing_in_the_cache(
    walker: S3Server, effect: int | str, error: type[MettaError], message: str
) -> None:
    walker.faults.append(S3Fault(f"GET /{BUCKET}/runs/walker/checkpoints/walker%3Av12/{WEIGHTS}", effect))
    with pytest.raises(error, match=message):
        load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert walker.faults[0].count < 1_000_000
    assert Cache().ls() == []
    assert not [path for path in Cache().root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_server_that_is_silent_is_given_up_at_the_deadline(
    walker: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3.S3.__init__, "__kwdefaults__", {"deadline_seconds": 1.0, "total_seconds": 60.0})
    walker.faults.append(S3Fault("HEAD", delay_seconds=600.0))
    with pytest.raises(MettaError, match=r"did not deliver s3://bucket/runs/walker within 1 s"):
        load_checkpoint(f"s3://{BUCKET}/runs/walker")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "InvalidAccessKeyId", "does not know this access key"),
        (403, "SignatureDoesNotMatch", "refuses the secret key"),
        (403, "AccessDenied", "may not use .*AccessDenied"),
        (403, "RequestTimeTooSkewed", "the clock of this machine is off"),
        (400, "ExpiredToken", "session has expired"),
    ],
)
def test_every_refusal_has_its_own_message(walker: S3Server, status: int, code: str, message: str) -> None:
    walker.faults.append(S3Fault("/bucket", status, code))
    with pytest.raises(AccessError, match=message) as caught:
        load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert caught.value.cure


def test_without_credentials_the_error_says_how_to_give_them(
    walker: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessError, match=r"no credentials.*AWS_ACCESS_KEY_ID"):
        load_checkpoint(f"s3://{BUCKET}/runs/walker")


def test_without_permission_to_read_the_error_says_so(walker: S3Server) -> None:
    walker.put("policy.pt", b"weights")
    walker.faults.append(S3Fault("HEAD", 403))
    with pytest.raises(AccessError, match=r"may list .* but not read it"):
        load_checkpoint(f"s3://{BUCKET}/policy.pt")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://buckets/runs/walker", "no bucket 'buckets' .*did you mean 'bucket'"),
        (f"s3://{BUCKET}/runs/wlker", f"did you mean 's3://{BUCKET}/runs/walker'"),
        (f"s3://{BUCKET}/runs/walker:v4", "there is v3, v12"),
        (f"s3://{BUCKET}/runs", f"there is s3://{BUCKET}/runs"),
        (f"s3://{BUCKET}", f"there is s3://{BUCKET}/runs"),
    ],
)
def test_what_is_not_there_is_not_found_and_the_nearest_is_named(
    walker: S3Server, uri: str, message: str
) -> None:
    with pytest.raises(NotFoundError, match=message):
        load_checkpoint(uri)


def test_no_server_is_told_from_a_missing_object(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        MettaError, match=r"http://127.0.0.1:9 cannot be reached: Connection refused"
    ) as caught:
        load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert not isinstance(caught.value, NotFoundError | AccessError)


@pytest.mark.parametrize(
    "path", ["../secrets", f"{BUCKET}/../other", f"{BUCKET}/a//b", f"{BUCKET}/./a", "/", "a b/c"]
)
def test_an_address_that_leads_elsewhere_is_refused(s3_server: S3Server, path: str) -> None:
    with pytest.raises(UsageError, match="not an address on S3"):
        load_checkpoint(f"s3://{path}")
    assert s3_server.requests == []


@pytest.mark.parametrize("name", ["../../../escaped", "/escaped", "a/b", "..", "", "COMPLETE"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(
    s3_server: S3Server, tmp_path: Path, name: str
) -> None:
    s3_server.put_run("walker", [3], tmp_path)
    prefix = "runs/walker/checkpoints/walker:v3"
    manifest = json.loads(s3_server.get(f"{prefix}/manifest.json"))
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 4}
    restore(s3_server, prefix, manifest)
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert Cache().ls() == []


def restore(server: S3Server, prefix: str, manifest: object) -> None:
    """Store a manifest with the mark that belongs to it."""
    content = json.dumps(manifest).encode()
    server.put(f"{prefix}/manifest.json", content)
    server.put(f"{prefix}/{COMPLETE}", hashlib.sha256(content).hexdigest().encode())


def test_weights_that_were_tampered_with_in_the_bucket_are_refused(walker: S3Server) -> None:
    key = f"runs/walker/checkpoints/walker:v12/{WEIGHTS}"
    content = walker.get(key)
    walker.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is damaged"):
        load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert Cache().ls() == []


def test_a_tampered_cache_entry_is_noticed_and_downloaded_again(
    walker: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    load_checkpoint(f"s3://{BUCKET}/runs/walker")
    (stored,) = Cache().root.rglob(WEIGHTS)
    stored.write_bytes(stored.read_bytes()[:-4] + b"\1\2\3\4")
    with caplog.at_level(logging.WARNING):
        loaded = load_checkpoint(f"s3://{BUCKET}/runs/walker")
    assert torch.equal(loaded.weights["layer.weight"], example_checkpoint(epoch=12).weights["layer.weight"])
    assert "is damaged and is downloaded again" in caplog.text


def test_many_names_are_read_to_the_last_page(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.put_run("walker", [3], tmp_path)
    for epoch in range(4, 9):
        s3_server.put(f"runs/walker/checkpoints/walker:v{epoch}/{WEIGHTS}", b"")
    store = s3.S3()
    ask = store._call
    monkeypatch.setattr(store, "_call", lambda method, **words: ask(method, MaxKeys=2, **words))
    listing = store.find(BUCKET, "runs/walker/checkpoints/", folders=True)
    assert listing.folders == [f"walker:v{epoch}" for epoch in range(3, 9)]
    assert listing.is_complete
    assert not store.find(BUCKET, "runs/walker/checkpoints/", folders=True, max_pages=2).is_complete


def test_a_download_that_fails_leaves_no_file(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.put("policy.pt", bytes(2_000_000))
    s3_server.faults.append(S3Fault("GET", "truncate"))
    store = s3.S3()
    with pytest.raises(MettaError):
        store.download(BUCKET, "policy.pt", tmp_path / "policy.pt", Digest(2_000_000))
    assert list(tmp_path.iterdir()) == []


def test_many_slow_answers_end_together_at_the_total_deadline(s3_server: S3Server) -> None:
    s3_server.faults.append(S3Fault("list-type=2", delay_seconds=0.4))
    store = s3.S3(total_seconds=1.0)
    with pytest.raises(MettaError, match="did not deliver"):
        [store.find(BUCKET, "runs/") for _ in range(50)]
    assert len(s3_server.asked("list-type=2")) < 5


LOAD = "import sys; from metta_cli.artifacts.loaders import load_checkpoint; load_checkpoint(sys.argv[1])"
GET_WEIGHTS = f"GET /{BUCKET}/runs/walker/checkpoints/walker%3Av12/{WEIGHTS}"


def load_in_a_process(uri: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", LOAD, uri])


def test_a_process_that_is_killed_while_it_downloads_leaves_nothing_that_is_used(walker: S3Server) -> None:
    walker.faults.append(S3Fault(GET_WEIGHTS, delay_seconds=600.0, count=1))
    process = load_in_a_process(f"s3://{BUCKET}/runs/walker")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not walker.asked(GET_WEIGHTS) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert any(path.name == "manifest.json" for path in Cache().root.rglob("*"))  # it was on its way
    assert Cache().ls() == []
    assert load_checkpoint(f"s3://{BUCKET}/runs/walker").manifest.name == "walker:v12"
    assert len(Cache().ls()) == 1
    assert not [path for path in Cache().root.iterdir() if path.name.startswith(".")]


def test_two_processes_download_a_checkpoint_once(walker: S3Server) -> None:
    walker.faults.append(S3Fault(GET_WEIGHTS, delay_seconds=0.5))
    processes = [load_in_a_process(f"s3://{BUCKET}/runs/walker") for _ in range(2)]
    assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0, 0]
    assert len(walker.asked(GET_WEIGHTS)) == 1
