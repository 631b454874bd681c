"""Writes that a crash cannot cut in half.

A file or directory is written under a temporary name beside its final one, synced to the device,
and renamed: whoever looks finds the old thing or the new one, never a part. What a full disk or a
read-only place says through `OSError` becomes a `StorageError` here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from metta_cli.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
"""A name that starts like this is unfinished, and belongs to nobody once its writer is gone."""

_FREE_SPACE_MARGIN_BYTES = 1 << 20


@contextlib.contextmanager
def storage_errors(path: Path, num_bytes: int = 0) -> Iterator[None]:
    """Turn every `OSError` of the block into a `StorageError` that names `path`.

    Args:
        path: what is being written.
        num_bytes: how much it needs, for the message about a full disk.

    Raises:
        StorageError: the disk or a quota is full, the place is read-only, the device fails, ...
    """
    try:
        yield
    except OSError as error:
        raise _storage_error(path, num_bytes, error) from error


def _storage_error(path: Path, num_bytes: int, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = free_bytes(path)
        has = "" if free is None else f", has {format_bytes(free)}"
        needs = f": needs {format_bytes(num_bytes)}{has}" if num_bytes else ""
        return StorageError(
            f"the disk is full, {path} was not written{needs}",
            "free some space, or choose a data_dir on another disk",
        )
    if error.errno == errno.EFBIG:
        return StorageError(
            f"{path} was not written: files may not grow that large here ({reason})",
            "raise the limit that `ulimit -f` shows",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return StorageError(f"{path} cannot be written: {reason}", "choose a data_dir that you can write to")
    if error.errno == errno.ENAMETOOLONG:
        return StorageError(f"{path} cannot be written: {reason}", "choose a shorter name")
    return StorageError(
        f"{path} was not written: {reason}", "look at the disk and its mount, or choose another data_dir"
    )


def free_bytes(path: Path) -> int | None:
    """Return what an ordinary user may still write where `path` is or will be; None if nobody can say."""
    for place in (path, *path.absolute().parents):
        try:
            status = os.statvfs(place)
        except OSError:
            continue  # not there yet: its nearest existing parent is on the same disk
        return status.f_bavail * status.f_frsize
    return None


def require_free_space(path: Path, num_bytes: int) -> None:
    """Refuse before the first byte what would not fit.

    Raises:
        StorageError: fewer than `num_bytes` and a small margin are free where `path` will be.
    """
    free = free_bytes(path)
    needed = num_bytes + _FREE_SPACE_MARGIN_BYTES
    if free is not None and free < needed:
        raise StorageError(
            f"the disk is full, {path} was not written: "
            f"needs {format_bytes(needed)}, has {format_bytes(free)}",
            "free some space, or choose a data_dir on another disk",
        )


def format_bytes(num_bytes: int) -> str:
    """Return `num_bytes` in the largest decimal unit that leaves at least one whole digit."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the device has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the device knows the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and its parents so that a power cut does not take them back.

    Raises:
        StorageError: one of them cannot be created.
    """
    with storage_errors(path):
        missing = [place for place in (path, *path.parents) if not place.is_dir()]
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            sync_directory(place.parent)


def write_file(path: Path, data: str | bytes) -> None:
    """Replace a file in one step.

    Raises:
        StorageError: it could not be written; the old file, if there was one, is untouched.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    with storage_errors(path, len(content)):
        try:
            write_synced(temporary, content)
            os.replace(temporary, path)
            sync_directory(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # the first failure is the one to report
                temporary.unlink(missing_ok=True)
            raise


def write_directory(path: Path, files: dict[str, bytes]) -> None:
    """Create a directory with all its files in one step.

    Trap: `path` must not exist, a directory cannot replace another one.

    Args:
        path: the final name; its parent exists.
        files: file name -> content, written in this order.

    Raises:
        StorageError: it could not be written; nothing of it is left behind.
    """
    num_bytes = sum(map(len, files.values()))
    with storage_errors(path, num_bytes):
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
        try:
            temporary.mkdir()
            for name, content in files.items():
                write_synced(temporary / name, content)
            sync_directory(temporary)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # the first failure is the one to report
            raise
        sync_directory(path.parent)


def remove_directory(path: Path) -> None:
    """Delete a directory so that no crash leaves a part of it under its own name."""
    doomed = path.with_name(f"{TEMPORARY_PREFIX}removed-{path.name}")
    with storage_errors(path):
        if doomed.exists():
            shutil.rmtree(doomed)
        os.rename(path, doomed)
        shutil.rmtree(doomed)


def remove_leftovers(directory: Path) -> list[Path]:
    """Delete what a killed writer left in a directory, and return it.

    Trap: call it only where no other process is writing; a run holds a lock on its directory.
    """
    with storage_errors(directory):
        leftovers = sorted(directory.glob(f"{TEMPORARY_PREFIX}*"))
        for leftover in leftovers:
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
    return leftovers
