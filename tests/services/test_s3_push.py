from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from metta_cli.artifacts.cache import Cache
from metta_cli.artifacts.checkpoints import COMPLETE, save_checkpoint
from metta_cli.artifacts.loaders import ForeignFile, load_checkpoint
from metta_cli.errors import (
    AccessError,
    CheckpointError,
    MettaError,
    NotFoundError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from metta_cli.runs.push import push
from metta_cli.testing.loaders import example_checkpoint

from .s3_server import BUCKET, S3Fault, S3Server

FOLDER = f"s3://{BUCKET}/runs"
STORED = "runs/walker/checkpoints/walker:v12"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    save(tmp_path / "train_dir", "walker", 3, 12)
    return tmp_path / "train_dir"


def save(data_dir: Path, run: str, *epochs: int) -> None:
    for epoch in epochs:
        checkpoint = example_checkpoint(run, epoch)
        save_checkpoint(
            data_dir / run / "checkpoints", checkpoint.manifest, checkpoint.weights, checkpoint.trainer_state
        )


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("walker", f"{FOLDER}/walker:v12"),
        ("walker:latest", f"{FOLDER}/walker:v12"),
        ("walker:v3", f"{FOLDER}/walker:v3"),
        ("walker/checkpoints/walker:v3", f"{FOLDER}/walker:v3"),
    ],
)
def test_what_was_pushed_is_loaded_from_the_address_that_push_gives(
    s3_server: S3Server, data_dir: Path, source: str, address: str
) -> None:
    assert push(FOLDER, source, data_dir=data_dir) == address
    loaded = load_checkpoint(address)
    epoch = loaded.manifest.epoch
    assert torch.equal(
        loaded.weights["layer.weight"], example_checkpoint(epoch=epoch).weights["layer.weight"]
    )
    assert loaded.trainer_state is not None


def test_a_run_is_found_without_its_version(s3_server: S3Server, data_dir: Path) -> None:
    push(FOLDER, "walker:v3", data_dir=data_dir)
    push(FOLDER, "walker:v12", data_dir=data_dir)
    assert load_checkpoint(f"{FOLDER}/walker").manifest.epoch == 12


@pytest.mark.parametrize("target", [f"{FOLDER}/walker", f"{FOLDER}/walker/", f"{FOLDER}/"])
def test_the_folder_may_be_that_of_the_run(s3_server: S3Server, data_dir: Path, target: str) -> None:
    assert push(target, "walker", data_dir=data_dir) == f"{FOLDER}/walker:v12"


def test_the_folder_may_be_the_whole_bucket(s3_server: S3Server, data_dir: Path) -> None:
    assert push(f"s3://{BUCKET}", "walker", data_dir=data_dir) == f"s3://{BUCKET}/walker:v12"
    assert load_checkpoint(f"s3://{BUCKET}/walker").manifest.epoch == 12


def test_the_mark_is_stored_last(s3_server: S3Server, data_dir: Path) -> None:
    push(FOLDER, "walker", data_dir=data_dir)
    stored = [line.rsplit("/", 1)[1].partition("?")[0] for line in s3_server.asked("PUT")]
    assert stored[-2:] == ["manifest.json", COMPLETE]
    assert sorted(stored) == sorted(path.name for path in (data_dir / STORED.partition("/")[2]).iterdir())


def test_a_push_that_breaks_off_leaves_no_checkpoint_and_the_next_one_completes_it(
    s3_server: S3Server, data_dir: Path
) -> None:
    s3_server.faults.append(S3Fault("manifest.json", 403, "AccessDenied"))
    with pytest.raises(AccessError, match="may not use"):
        push(FOLDER, "walker", data_dir=data_dir)
    assert s3_server.stored() != []
    with pytest.raises(NotFoundError):
        load_checkpoint(f"{FOLDER}/walker")
    s3_server.faults.clear()
    assert load_checkpoint(push(FOLDER, "walker", data_dir=data_dir)).manifest.epoch == 12


def test_pushing_the_same_again_uploads_nothing(s3_server: S3Server, data_dir: Path) -> None:
    address = push(FOLDER, "walker", data_dir=data_dir)
    s3_server.requests.clear()
    assert push(FOLDER, "walker", data_dir=data_dir) == address
    assert s3_server.asked("PUT") == []


def test_a_stored_checkpoint_that_was_damaged_is_mended(
    s3_server: S3Server, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = push(FOLDER, "walker", data_dir=data_dir)
    s3_server.put(f"{STORED}/weights.safetensors", b"damaged")
    push(FOLDER, "walker", data_dir=data_dir)
    assert "is damaged (weights.safetensors) and is uploaded again" in caplog.text
    assert load_checkpoint(address).manifest.epoch == 12


def test_another_checkpoint_of_that_name_is_not_overwritten(
    s3_server: S3Server, data_dir: Path, tmp_path: Path
) -> None:
    s3_server.put_run("walker", [12], tmp_path)
    before = s3_server.get(f"{STORED}/manifest.json")
    with pytest.raises(StorageError, match="already exists, with other weights"):
        push(FOLDER, "walker", data_dir=data_dir)
    assert s3_server.get(f"{STORED}/manifest.json") == before


def test_what_does_not_arrive_whole_is_uploaded_again(
    s3_server: S3Server, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3_server.faults.append(S3Fault("PUT", "flip stored", count=1))
    assert load_checkpoint(push(FOLDER, "walker", data_dir=data_dir)).manifest.epoch == 12
    assert "did not arrive whole" in caplog.text


def test_what_never_arrives_whole_is_an_error_and_gets_no_mark(s3_server: S3Server, data_dir: Path) -> None:
    s3_server.faults.append(S3Fault("PUT", "flip stored"))
    with pytest.raises(CheckpointError, match="is not what was uploaded"):
        push(FOLDER, "walker", data_dir=data_dir)
    assert not any(key.endswith(COMPLETE) for key in s3_server.stored())


def test_a_server_without_digests_is_read_back(
    s3_server: S3Server, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metta_cli.artifacts import s3

    monkeypatch.setattr(s3, "_MD5", s3.re.compile("never"))
    address = push(FOLDER, "walker", data_dir=data_dir)
    assert len(s3_server.asked("GET")) >= 5
    assert load_checkpoint(address).manifest.epoch == 12


@pytest.mark.parametrize("effect", [500, "drop"])
def test_a_fault_that_passes_does_no_harm(s3_server: S3Server, data_dir: Path, effect: int | str) -> None:
    s3_server.faults.append(S3Fault("PUT", effect, count=2))
    assert load_checkpoint(push(FOLDER, "walker", data_dir=data_dir)).manifest.epoch == 12


def test_a_damaged_checkpoint_is_not_pushed(s3_server: S3Server, data_dir: Path) -> None:
    weights = data_dir / "walker/checkpoints/walker:v12/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        push(FOLDER, "walker", data_dir=data_dir)
    assert s3_server.stored() == []


def test_a_file_of_weights_is_stored_under_the_name_that_is_given(
    s3_server: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "policy.pt").write_bytes(b"weights")
    address = push(f"s3://{BUCKET}/models/best.pt", str(tmp_path / "policy.pt"), data_dir=tmp_path)
    found = load_checkpoint(address)
    assert isinstance(found, ForeignFile)
    assert (found.path.name, found.path.read_bytes()) == ("best.pt", b"weights")


@pytest.mark.parametrize(
    ("target", "source", "error", "message"),
    [
        (FOLDER, "wlker", NotFoundError, "did you mean 'walker'"),
        (FOLDER, "walker:v4", NotFoundError, "there is v3, v12"),
        ("ftp://host/runs", "walker", UnknownNameError, "s3://"),
        ("train_dir", "walker", UnknownNameError, "s3://"),
        (FOLDER, "s3://bucket/runs/walker", UsageError, "only what is on this machine"),
        (f"{FOLDER}:v3", "walker", UsageError, "says its version"),
        ("s3://no-such-bucket/runs", "walker", NotFoundError, "no bucket 'no-such-bucket'"),
    ],
)
def test_mistakes_are_told_before_anything_is_uploaded(
    s3_server: S3Server, data_dir: Path, target: str, source: str, error: type[MettaError], message: str
) -> None:
    with pytest.raises(error, match=message):
        push(target, source, data_dir=data_dir)
    assert s3_server.asked("PUT") == []


def test_pushing_does_not_touch_the_cache(
    s3_server: S3Server, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    push(FOLDER, "walker", data_dir=data_dir)
    assert Cache().ls() == []
