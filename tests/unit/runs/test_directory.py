import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metta_cli.errors import MettaError, StorageError, UsageError
from metta_cli.runs.directory import RunDirectory, RunInfo, list_runs

HOLD_THE_LOCK = """
import sys
from metta_cli.runs.directory import RunDirectory
with RunDirectory(sys.argv[1], "walker").lock():
    print("locked", flush=True)
    sys.stdin.read()
"""

# The worker outlives its parent, as one that hangs in a system call would.
HOLD_THE_LOCK_WITH_A_WORKER = """
import os, sys, time
from metta_cli.runs.directory import RunDirectory
with RunDirectory(sys.argv[1], "walker").lock():
    if os.fork() == 0:
        os.close(0)
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.read()
"""


@contextmanager
def holder(program: str, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path, "walker")
    directory.create()
    return directory


def test_everything_of_a_run_lies_in_its_directory(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "walker")
    assert not directory.path.exists()
    directory.create()
    assert directory.path == tmp_path / "walker"
    names = ["checkpoints", "command.txt", "config.yaml", "evals", "learning_curve.png", "metrics.jsonl"]
    parts = [directory.config, directory.command, directory.versions, directory.metrics, directory.curve]
    parts += [directory.checkpoints, directory.evals, directory.replays]
    assert sorted(part.name for part in parts) == [*names, "replays", "versions.json"]
    assert {part.parent for part in parts} == {directory.path}
    assert sorted(os.listdir(directory.path)) == ["checkpoints", "evals", "replays"]


def test_creating_twice_keeps_what_is_there(directory: RunDirectory) -> None:
    directory.metrics.write_text("{}\n")
    directory.create()
    assert directory.metrics.read_text() == "{}\n"


@pytest.mark.parametrize(
    "run",
    ["", "a/b", "../a", ".", "..", ".hidden", "-option", "a:v1", "a b", "a\nb", "a\0b", "\u00fc", "x" * 129],
)
def test_a_bad_run_name_is_refused_before_anything_is_created(tmp_path: Path, run: str) -> None:
    with pytest.raises(UsageError, match="a run cannot be called"):
        RunDirectory(tmp_path, run)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("run", ["a", "A-1", "user.recipes.arena.2x8.07-24-00-18", "_x", "x" * 128])
def test_an_ordinary_run_name_works(tmp_path: Path, run: str) -> None:
    RunDirectory(tmp_path, run).create()
    assert os.listdir(tmp_path) == [run]


def test_a_data_dir_that_is_a_file_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "train_dir").write_text("a file")
    with pytest.raises(StorageError, match=r"train_dir.*cannot be written: .*\(choose a data_dir"):
        RunDirectory(tmp_path / "train_dir", "walker").create()


def test_a_place_that_nobody_can_write_is_an_error_with_a_cure() -> None:
    with pytest.raises(StorageError, match="/proc/walker"):
        RunDirectory("/proc", "walker").create()


def test_a_second_process_is_told_who_holds_the_run(directory: RunDirectory) -> None:
    with holder(HOLD_THE_LOCK, directory.path.parent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(StorageError, match=f"being trained by process {process.pid} "), directory.lock():
            pass
        process.kill()
        process.wait()
        with directory.lock():
            assert directory.lock_file.read_text() == f"{os.getpid()}\n"


def test_a_run_is_locked_within_one_process_too(directory: RunDirectory) -> None:
    with directory.lock(), pytest.raises(StorageError, match=f"process {os.getpid()} "), directory.lock():
        pass
    with directory.lock():
        pass


def test_a_forked_worker_does_not_keep_a_killed_run_locked(directory: RunDirectory) -> None:
    with holder(HOLD_THE_LOCK_WITH_A_WORKER, directory.path.parent) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            os.kill(worker, 0)
            with directory.lock():
                pass
        finally:
            os.kill(worker, 9)


def test_the_lock_is_freed_when_the_run_fails(directory: RunDirectory) -> None:
    with pytest.raises(MettaError, match="failed"), directory.lock():
        raise MettaError("failed")
    with directory.lock():
        pass


def test_runs_are_told_from_other_directories(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "missing") == []
    for name in ("b", "a", "notes", ".hidden", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    for name in ("b", "a", ".hidden"):
        (tmp_path / name / "config.yaml").write_text("run: x\n")
    for name, marked in (("c:v9", True), ("c:v10", True), ("c:v11", False)):
        checkpoint = tmp_path / "c" / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        if marked:
            (checkpoint / "COMPLETE").write_text("")
    assert list_runs(tmp_path) == [
        RunInfo("a", tmp_path / "a", None),
        RunInfo("b", tmp_path / "b", None),
        RunInfo("c", tmp_path / "c", 10),
    ]
    assert RunDirectory(tmp_path, "a").exists
    assert not RunDirectory(tmp_path, "notes").exists
