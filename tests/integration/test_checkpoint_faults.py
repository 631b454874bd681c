"""Faults while a checkpoint is being saved: killed, disk full, device failing, place read-only."""

import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from metta_cli.artifacts import checkpoints
from metta_cli.artifacts.atomic import require_free_space, write_file
from metta_cli.artifacts.checkpoints import (
    latest_valid_checkpoint,
    list_checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from metta_cli.errors import StorageError
from metta_cli.testing.loaders import example_checkpoint

WRITER = Path(__file__).with_name("checkpoint_writer.py")


def save(directory: Path, epoch: int, num_floats: int = 250_000) -> Path:
    manifest = example_checkpoint(epoch=epoch).manifest
    weights = {"w": torch.full((num_floats,), float(epoch))}
    return save_checkpoint(directory, manifest, weights, {"epoch": epoch})


def save_up_to(directory: Path, epoch: int) -> None:
    for each in range(1, epoch + 1):
        save(directory, each)


def assert_only_whole_checkpoints(directory: Path, epochs: list[int]) -> None:
    assert sorted(os.listdir(directory)) == sorted(f"example:v{epoch}" for epoch in epochs)
    for info in list_checkpoints(directory):
        assert (read_checkpoint(info.path).weights["w"] == info.epoch).all()


def test_no_acknowledged_checkpoint_is_lost_to_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, WRITER, tmp_path, "20"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = json.loads(result.stdout)
    assert counts["kills"] == 20
    assert counts["saved"] > 0
    assert (counts["lost"], counts["wrong"], counts["skipped"]) == (0, 0, 0)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(("call", "num_calls"), [("fsync", 7), ("rename", 1), ("mkdir", 1)])
def test_a_call_that_fails_at_any_point_harms_nothing(
    tmp_path: Path, call: str, num_calls: int, error: int
) -> None:
    for failing_call in range(num_calls + 1):
        directory = tmp_path / str(failing_call)
        save(directory, 1, 10)
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_call(patch, call, failing_call, error)
            if failing_call == num_calls:
                save(directory, 2, 10)
                assert len(calls) == num_calls
            else:
                with pytest.raises(StorageError, match=r"example:v2.* was not written.*\("):
                    save(directory, 2, 10)
        # Once renamed it is whole, even though the device did not confirm its name.
        is_renamed = call == "fsync" and failing_call == num_calls - 1
        assert_only_whole_checkpoints(directory, [1, 2] if failing_call == num_calls or is_renamed else [1])
        save(directory, 2, 10)
        assert_only_whole_checkpoints(directory, [1, 2])


def fail_call(patch: pytest.MonkeyPatch, name: str, failing_call: int, error: int) -> list[Any]:
    """Let the system call fail once, when it is made for the n-th time; return the calls made."""
    original: Callable[..., Any] = getattr(os, name)
    calls: list[Any] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == failing_call + 1:
            raise OSError(error, os.strerror(error))
        return original(*args, **kwargs)

    patch.setattr(os, name, counted)
    return calls


def test_a_file_size_limit_harms_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"files may not grow that large here .*\(raise the limit"):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_only_whole_checkpoints(tmp_path, [1])
    save(tmp_path, 2)
    assert_only_whole_checkpoints(tmp_path, [1, 2])


def test_what_cannot_fit_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the disk is full.*needs 1000000000\.0 GB, has .*B"):
        require_free_space(tmp_path / "not" / "yet" / "there", 10**18)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("is_foreseen", [True, False], ids=["before the first byte", "while writing"])
def test_a_full_disk_harms_nothing_and_training_can_go_on(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, is_foreseen: bool
) -> None:
    if not is_foreseen:
        monkeypatch.setattr(checkpoints, "require_free_space", lambda path, num_bytes: None)
    with pytest.raises(StorageError, match=r"the disk is full.*: needs [12]\.\d MB, has .*\(free some space"):
        save_up_to(small_disk, 20)
    num_saved = len(list_checkpoints(small_disk))
    assert num_saved >= 6
    epochs = list(range(1, num_saved + 1))
    assert_only_whole_checkpoints(small_disk, epochs)
    checkpoints.prune_checkpoints(small_disk, keep=2)
    save(small_disk, num_saved + 1)
    assert_only_whole_checkpoints(small_disk, [*epochs[-2:], num_saved + 1])


@contextmanager
def without_privileges() -> Iterator[None]:
    """Obey permissions like everybody else; root would not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_directory_is_named_and_can_still_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        save(directory, 1, 10)
        directory.chmod(0o555)
        with without_privileges():
            with pytest.raises(
                StorageError, match=r"example:v2 cannot be written: Permission denied \(choose"
            ):
                save(directory, 2, 10)
            checkpoint, skipped = latest_valid_checkpoint(directory)
            with pytest.raises(StorageError, match="Permission denied"):
                write_file(directory / "config.yaml", "run: x\n")
        assert checkpoint is not None
        assert (checkpoint.manifest.epoch, skipped) == (1, [])
        directory.chmod(0o755)
        assert_only_whole_checkpoints(directory, [1])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_file(path, "old\n")
    for failing_call in range(3):
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_call(patch, "fsync", failing_call, errno.ENOSPC)
            if failing_call < 2:
                with pytest.raises(StorageError, match="the disk is full"):
                    write_file(path, "new\n")
        assert path.read_text() == ("old\n" if failing_call == 0 else "new\n")
        assert os.listdir(tmp_path) == ["config.yaml"]
    assert calls == []
