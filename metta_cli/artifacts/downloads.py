"""What is checked of a download before anything uses it: the names and the bytes of its files."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from metta_cli.artifacts.atomic import format_bytes, sync_directory
from metta_cli.artifacts.uris import MAX_PART_BYTES
from metta_cli.errors import CheckpointError

_CHUNK_BYTES = 1 << 20
_AGAIN = "download it again; if that does not help, whoever stored it must store it again"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Digest:
    """What is known of a file before it is downloaded; None where nothing is.

    Attributes:
        bytes: its size.
        sha256: in lower-case hexadecimal digits.
        md5: in lower-case hexadecimal digits; finds accidents, not attacks.
    """

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None


def safe_path(directory: Path, name: str) -> Path:
    """Return where a file that a service names may be written.

    Args:
        directory: what it must stay in.
        name: a relative path with `/`, as the service gave it.

    Raises:
        CheckpointError: the name leads elsewhere, or no file system can hold it.
    """
    parts = name.split("/")
    too_long = any(len(os.fsencode(part)) > MAX_PART_BYTES for part in parts)
    if any(part in ("", ".", "..") for part in parts) or too_long or not name.isprintable() or "\\" in name:
        raise CheckpointError(
            f"the name {name[:80]!r} is refused: a download must stay in its directory",
            "nothing was written there; ask whoever stored it to store it under plain names",
        )
    return directory.joinpath(*parts)


def file_digests(directory: Path) -> dict[str, dict[str, Any]]:
    """Return path with `/` -> `bytes` and `sha256`, of every file below a directory.

    Raises:
        CheckpointError: something there is neither a file nor a directory.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise CheckpointError(f"{path.name} is neither a file nor a directory", _AGAIN)
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            found[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path, "sha256")}
    return found


def hash_file(path: Path, algorithm: str) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_problem(path: Path, expected: Digest, actual: Mapping[str, Any] | None = None) -> str | None:
    """Return how a file differs from what is known of it, or None.

    Args:
        path: the file.
        expected: what is known.
        actual: its `bytes` and `sha256`, where somebody has looked already.
    """
    num_bytes = path.stat().st_size if actual is None else actual["bytes"]
    if expected.bytes not in (None, num_bytes):
        return f"has {num_bytes} of {expected.bytes} bytes"
    for algorithm, wanted in (("sha256", expected.sha256), ("md5", expected.md5)):
        if wanted is None:
            continue
        known = actual.get(algorithm) if actual is not None else None
        if wanted != (known or hash_file(path, algorithm)):
            return "has other bytes than it should have"
    return None


def require_digests(
    directory: Path,
    files: Mapping[str, Mapping[str, Any]],
    expected: Mapping[str, Digest] | None,
    source: str,
) -> None:
    """Compare what was downloaded with what the service said it would be.

    Args:
        directory: where it is.
        files: what `file_digests` says of it.
        expected: path -> what is known; these files and no others. None accepts anything.
        source: what was downloaded, for messages.

    Raises:
        CheckpointError: a file is missing, additional, or another one.
    """
    if expected is None:
        return
    differences = [f"{name} is missing" for name in sorted(expected.keys() - files.keys())]
    differences += [f"{name} was not announced" for name in sorted(files.keys() - expected.keys())]
    for name in sorted(expected.keys() & files.keys()):
        problem = digest_problem(directory / PurePosixPath(name), expected[name], files[name])
        if problem is not None:
            differences.append(f"{name} {problem}")
    if differences:
        raise CheckpointError(f"the download of {source} is damaged: {'; '.join(differences)}", _AGAIN)


class ProgressLog:
    """Says how far a long transfer is, every few seconds; one that is done in less says nothing.

    Args:
        what: such as `downloading s3://...`.
        total_bytes: how much there is; None if nobody knows.
        interval_seconds: between two lines.
    """

    def __init__(self, what: str, total_bytes: int | None, interval_seconds: float = 3.0) -> None:
        self.what, self.total_bytes, self.interval_seconds = what, total_bytes, interval_seconds
        self.num_bytes = 0
        self._next = time.monotonic() + interval_seconds

    def __call__(self, num_bytes: int) -> None:
        """Count what has just come."""
        self.num_bytes += num_bytes
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.interval_seconds
        done = format_bytes(self.num_bytes)
        if self.total_bytes:
            percent = 100 * self.num_bytes // self.total_bytes
            logger.info("%s: %s of %s (%d %%)", self.what, done, format_bytes(self.total_bytes), percent)
        else:
            logger.info("%s: %s", self.what, done)


def sync_tree(directory: Path) -> None:
    """Wait until the device has every file below a directory, and their names."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_dir():
            sync_directory(path)
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
