"""Metrics in a file, one JSON object per line: always on, and enough to draw every curve again."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metta_cli.errors import MettaError, NotFoundError, StorageError


class JsonlTracker:
    """Appends to a file; every line is there as soon as it is logged.

    A line that a crash has cut in half is removed when the file is opened again. Numbers that are not
    finite are written as null, which every JSON reader understands.

    Args:
        path: the file; created if need be, in a directory that exists.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._descriptor, _length_of_whole_lines(path))
        except OSError as error:
            raise _cannot_write(path, error) from error

    def log(self, metrics: Mapping[str, float], *, agent_steps: int, epoch: int) -> None:
        """Append one line.

        Raises:
            StorageError: the disk is full, or fails; the file keeps its whole lines.
        """
        record: dict[str, Any] = {"agent_steps": agent_steps, "epoch": epoch, "timestamp": time.time()}
        record |= {name: _finite(value) for name, value in metrics.items()}
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        length = os.fstat(self._descriptor).st_size
        try:
            while line:  # a disk that takes only a part says why at the next attempt
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            os.ftruncate(self._descriptor, length)
            raise _cannot_write(self.path, error) from error

    def save_checkpoint(self, path: Path, *, epoch: int, metadata: Mapping[str, Any], is_last: bool) -> None:
        """Keep none: a file holds lines, and the checkpoint is in the run directory already."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the logged records of a run, one for each epoch, in order.

    A run that was resumed from an earlier checkpoint logs some epochs twice: the later record counts.
    null reads as NaN; a last line that is still being written does not count.

    Raises:
        NotFoundError: there is no such file.
        MettaError: it holds something else.
    """
    if not path.is_file():
        raise NotFoundError(f"there are no metrics at {path}", "give the directory of a run that was trained")
    records: list[dict[str, float]] = []
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            record = {name: math.nan if value is None else value for name, value in json.loads(line).items()}
            epoch = record["epoch"]
        except (ValueError, AttributeError, KeyError) as error:
            raise MettaError(
                f"line {number} of {path} is not a record of metrics", "remove that line"
            ) from error
        while records and records[-1]["epoch"] >= epoch:
            records.pop()
        records.append(record)
    return records


def _length_of_whole_lines(path: Path) -> int:
    """Return where the last line feed ends."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cannot_write(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the metrics cannot be written to {path}: {error.strerror}",
        "free some space, or choose another data_dir",
    )
