"""A second S3 server, rclone's, which checks signatures and clocks.

It runs where `rclone serve s3` is on the PATH (1.65 or newer; docs/remote.md says how to get it).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from metta_cli.artifacts.checkpoints import save_checkpoint
from metta_cli.artifacts.loaders import ForeignFile, load_checkpoint
from metta_cli.errors import AccessError, NotFoundError
from metta_cli.runs.listing import Query, list_runs
from metta_cli.runs.push import push
from metta_cli.testing.loaders import example_checkpoint

RCLONE = shutil.which("rclone")
KEY, SECRET = "the-access-key", "the-secret-key"
PATIENCE_SECONDS = 20.0


def can_serve() -> bool:
    if RCLONE is None:
        return False
    answer = subprocess.run([RCLONE, "serve", "s3", "--help"], capture_output=True, text=True, check=False)
    return "--auth-key" in answer.stdout


pytestmark = pytest.mark.skipif(not can_serve(), reason="needs `rclone serve s3` on the PATH")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL of the server, and the directory whose folders are its buckets."""
    assert RCLONE is not None
    directory = tmp_path_factory.mktemp("buckets")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = [
        "serve",
        "s3",
        str(directory),
        "--addr",
        address,
        "--auth-key",
        f"{KEY},{SECRET}",
        "--dir-cache-time",
        "0s",
        "--config",
        "",
    ]
    process = subprocess.Popen([RCLONE, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(address)
        yield f"http://{address}", directory
    finally:
        process.kill()
        process.wait()


def wait_for(address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("rclone did not start")


@pytest.fixture
def bucket(served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty bucket `bucket`, and credentials for it."""
    url, directory = served
    bucket = directory / "bucket"
    shutil.rmtree(bucket, ignore_errors=True)
    bucket.mkdir()
    settings = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for epoch in (3, 12):
        checkpoint = example_checkpoint("walker", epoch)
        save_checkpoint(tmp_path / "runs/walker/checkpoints", checkpoint.manifest, checkpoint.weights)
    return tmp_path / "runs"


def test_what_is_pushed_is_found_listed_and_loaded(bucket: Path, data_dir: Path) -> None:
    address = push("s3://bucket/runs", "walker:v3", data_dir=data_dir)
    push("s3://bucket/runs", "walker", data_dir=data_dir)
    assert load_checkpoint(address).manifest.epoch == 3
    loaded = load_checkpoint("s3://bucket/runs/walker")
    assert torch.equal(loaded.weights["layer.weight"], example_checkpoint(epoch=12).weights["layer.weight"])
    found = list_runs(Query(data_dir, "s3", buckets=["s3://bucket/runs"]), lambda: "metta")
    assert [run.uri for run in found.runs] == ["s3://bucket/runs/walker:latest"]


def test_a_checkpoint_is_a_directory_on_the_disk_of_the_server(bucket: Path, data_dir: Path) -> None:
    push("s3://bucket", "walker:v3", data_dir=data_dir)
    stored = bucket / "walker/checkpoints/walker:v3"
    local = data_dir / "walker/checkpoints/walker:v3"
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == {
        path.name: path.read_bytes() for path in local.iterdir()
    }


def test_a_file_that_is_replaced_is_downloaded_again(bucket: Path) -> None:
    for content in (b"old", b"newer"):
        (bucket / "policy.pt").write_bytes(content)
        found = load_checkpoint("s3://bucket/policy.pt")
        assert isinstance(found, ForeignFile)
        assert found.path.read_bytes() == content


def test_a_wrong_secret_is_refused(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(AccessError, match="refuses the secret key"):
        load_checkpoint("s3://bucket/policy.pt")


def test_an_unknown_key_is_refused(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(AccessError, match="does not know this access key"):
        load_checkpoint("s3://bucket/policy.pt")


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wrong_clock_is_named(bucket: Path, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = pytest.importorskip("botocore.auth")
    now = auth.get_current_datetime
    monkeypatch.setattr(auth, "get_current_datetime", lambda *words: now(*words) + timedelta(hours=hours))
    with pytest.raises(AccessError, match="the clock of this machine is off"):
        load_checkpoint("s3://bucket/policy.pt")


def test_what_is_missing_is_told_apart(bucket: Path) -> None:
    (bucket / "policy.pt").write_bytes(b"weights")
    with pytest.raises(NotFoundError, match=r"did you mean 's3://bucket/policy.pt'"):
        load_checkpoint("s3://bucket/polic.pt")
    with pytest.raises(NotFoundError, match=r"no bucket 'buckett' .*did you mean 'bucket'"):
        load_checkpoint("s3://buckett/policy.pt")
