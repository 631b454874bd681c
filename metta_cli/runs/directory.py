"""The directory of a run: the names of everything in it, and who may write to it."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metta_cli.artifacts.atomic import make_directory, require_free_space, storage_errors
from metta_cli.artifacts.checkpoints import list_checkpoints
from metta_cli.artifacts.manifest import RUN_NAME
from metta_cli.errors import StorageError, UsageError

_MINIMUM_FREE_BYTES = 16_000_000


class RunDirectory:
    """`DATA_DIR/RUN` and what a run keeps there.

    Nothing is created or touched before `create`.

    Args:
        data_dir: where all runs are, such as `train_dir`.
        run: name of the run: letters, digits, `.`, `_` and `-`, not starting with `.` or `-`.

    Raises:
        UsageError: the name is not allowed.
    """

    def __init__(self, data_dir: Path | str, run: str) -> None:
        check_run_name(run)
        self.run = run
        self.path = Path(data_dir) / run

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def command(self) -> Path:
        """The command line that started the run, one line for each time it was started."""
        return self.path / "command.txt"

    @property
    def versions(self) -> Path:
        """Versions of everything that shapes the numbers, and the git commit, JSON."""
        return self.path / "versions.json"

    @property
    def metrics(self) -> Path:
        """Every logged metric, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints `RUN:vEPOCH`."""
        return self.path / "checkpoints"

    @property
    def evals(self) -> Path:
        """Directory of evaluation results."""
        return self.path / "evals"

    @property
    def replays(self) -> Path:
        """Directory of recorded episodes."""
        return self.path / "replays"

    @property
    def curve(self) -> Path:
        """The learning curve, PNG."""
        return self.path / "learning_curve.png"

    @property
    def league(self) -> Path:
        """Directory of the snapshots that the learner meets."""
        return self.path / "league"

    @property
    def league_report(self) -> Path:
        """Opponents, payoffs and ratings after the last epoch, JSON."""
        return self.path / "league.json"

    @property
    def league_evaluation(self) -> Path:
        """Matches of `metta league evaluate`, JSON."""
        return self.path / "league_evaluation.json"

    @property
    def lock_file(self) -> Path:
        """The file whose lock the training process holds; it contains that process's id."""
        return self.path / ".lock"

    @property
    def exists(self) -> bool:
        """Whether a run of this name has been started before."""
        return _is_run(self.path)

    def create(self) -> None:
        """Create the directory with its parts and see that it can be written.

        Raises:
            StorageError: it cannot be created or written, or the disk is as good as full.
        """
        for directory in (self.path, self.checkpoints, self.evals, self.replays):
            make_directory(directory)
        probe = self.path / f".probe-{os.getpid()}"
        with storage_errors(self.path):
            probe.write_bytes(b"can this be written?")
            probe.unlink()
        require_free_space(self.path, _MINIMUM_FREE_BYTES)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from writing to this run.

        The kernel frees the lock when the process ends, however it ends; forked workers do not keep it.

        Raises:
            StorageError: another process, which the message names, holds the lock, or the directory cannot
                be written.
        """
        with storage_errors(self.lock_file):
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(descriptor)
            _let_forks_forget_locks()
            _locks.add(descriptor)
            yield
        finally:
            _locks.discard(descriptor)
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        with storage_errors(self.lock_file):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
                raise StorageError(
                    f"run '{self.run}' is being trained by process {holder} ({self.path})",
                    f"wait for it, stop it with `kill {holder}`, or choose another run name",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


_locks: set[int] = set()


@functools.cache
def _let_forks_forget_locks() -> None:
    """A forked worker that outlives a killed parent must not keep the run locked."""
    os.register_at_fork(after_in_child=_forget_locks)


def _forget_locks() -> None:
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


@dataclass(frozen=True)
class RunInfo:
    """A run on disk.

    Attributes:
        run: its name.
        path: its directory.
        epoch: its newest complete checkpoint; None if it has none yet.
    """

    run: str
    path: Path
    epoch: int | None


def list_runs(data_dir: Path | str) -> list[RunInfo]:
    """Return the runs in a data directory by name, without reading any checkpoint."""
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        return []
    found = []
    for path in sorted(data_dir.iterdir()):
        if re.fullmatch(RUN_NAME, path.name) and _is_run(path):
            checkpoints = list_checkpoints(path / "checkpoints")
            found.append(RunInfo(path.name, path, checkpoints[-1].epoch if checkpoints else None))
    return found


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() or bool(list_checkpoints(path / "checkpoints"))


def check_run_name(run: str) -> None:
    """Refuse a name that could not be a directory, part of a URI and a W&B artifact.

    Raises:
        UsageError: it is not allowed.
    """
    if re.fullmatch(RUN_NAME, run):
        return
    shown = run if len(run) <= 60 else f"{run[:57]}..."
    raise UsageError(
        f"a run cannot be called {shown!r}",
        "use up to 128 letters, digits, '.', '_' and '-', not starting with '.' or '-'",
    )
