"""What was downloaded before: kept under the cache directory of the user, verified whenever it is used.

    $XDG_CACHE_HOME/metta/artifacts/        by default ~/.cache/metta/artifacts
        ENTRY/                              named by the sha256 of its key
            files/...                       what was downloaded
            index.json                      the key, and size and sha256 of every file
        ENTRY.lock                          held by whoever fills, replaces or removes the entry

An entry appears whole or not at all: it is filled under a temporary name, verified, synced to the device
and renamed. What a killed process leaves behind is never used, and removed by the next one.

A key names one content for ever: it holds the address **and** the version, ETag or digest that the
service says is behind that address now. Whoever asks resolves `latest` first; nothing here can be stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metta_cli.artifacts.atomic import (
    TEMPORARY_PREFIX,
    require_free_space,
    storage_errors,
    sync_directory,
    write_synced,
)
from metta_cli.artifacts.downloads import Digest, file_digests, require_digests, sync_tree
from metta_cli.artifacts.locks import acquire, release
from metta_cli.errors import CheckpointError, StorageError

__all__ = ["Cache", "CacheEntry", "Digest", "default_root"]

INDEX = "index.json"
FILES = "files"
FORMAT_VERSION = 1
DIRECTORY_MODE = 0o700
WAIT_SECONDS = 600.0
"""How long to wait for another process that downloads the same thing."""

_CURE = "choose another cache directory with XDG_CACHE_HOME, or make room with `metta cache prune`"
_WAIT = "wait for it, or stop it"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheEntry:
    """What the cache holds under one key.

    Attributes:
        key: address and version, as whoever fetched it gave them; None if the entry cannot say any more.
        path: directory of the entry.
        num_files: how many files it has.
        num_bytes: what they take together.
        created_at: when it was downloaded.
        used_at: when it was last asked for.
    """

    key: str | None
    path: Path
    num_files: int
    num_bytes: int
    created_at: datetime
    used_at: datetime


class Cache:
    """Downloads of this user; several processes may use it at once.

    Args:
        root: its directory, created when something is kept; by default the one that `default_root` gives.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_root() if root is None else root

    def fetch(
        self,
        key: str,
        fill: Callable[[Path], None],
        *,
        expected: Mapping[str, Digest] | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> Path:
        """Return a directory with the files behind a key, downloading them only if need be.

        Every file is compared with the sha256 that it had when it was downloaded. An entry that has
        changed since is downloaded again, with a warning. Of several processes that want the same key, one
        downloads and the others wait for it.

        Trap: the directory belongs to the cache. Read it at once and change nothing; `prune` may take it.

        Args:
            key: what is wanted, with its version, ETag or digest; see above.
            fill: writes the files, and directories of files, into the empty directory that it is given. It
                maps the errors of its service to a `MettaError`; whatever it raises, nothing is kept.
            expected: path in the directory, with `/`, -> what is known of that file. Where it is given,
                these files must be there and no others.
            wait_seconds: how long to wait for another process.

        Raises:
            CheckpointError: what `fill` wrote is not what was expected.
            StorageError: the cache cannot be written, or another process holds the entry for too long.
        """
        entry = self.root / hashlib.sha256(key.encode()).hexdigest()[:40]
        with _cache_errors():
            self._create_root()
            with _locked(entry, key, wait_seconds):
                if not self._is_good(entry, key):
                    self._fill(entry, key, fill, expected)
                os.utime(entry)
                return entry / FILES

    def ls(self) -> list[CacheEntry]:
        """Return everything in the cache, what was used last first."""
        found = [_describe(path) for path in self._entries()]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.used_at)[::-1]

    def verify(self) -> list[tuple[CacheEntry, str | None]]:
        """Compare every file in the cache with its sha256.

        Returns:
            Each entry with the reason why it will be downloaded again when it is next asked for, or None.
        """
        return [(entry, _problem(entry.path, entry.key)) for entry in self.ls()]

    def prune(
        self,
        *,
        unused_seconds: float | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> list[CacheEntry]:
        """Remove entries, and what killed processes left behind. An entry that is being filled stays.

        Args:
            unused_seconds: remove what was not used for so long; 0 removes everything.
            max_bytes: remove what was not used for longest, until the rest is not larger than this.
            dry_run: remove nothing.

        Returns:
            What was removed, or would be.

        Raises:
            StorageError: something cannot be removed.
        """
        now = datetime.now(UTC)
        chosen, num_bytes = [], 0
        for entry in self.ls():
            num_bytes += entry.num_bytes
            too_old = unused_seconds is not None and (now - entry.used_at).total_seconds() >= unused_seconds
            if too_old or (max_bytes is not None and num_bytes > max_bytes):
                chosen.append(entry)
        if dry_run:
            return chosen
        with _cache_errors():
            removed = [entry for entry in chosen if _remove(entry.path)]
            self._remove_leftovers()
        return removed

    def _create_root(self) -> None:
        with storage_errors(self.root):
            self.root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def _entries(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        with storage_errors(self.root):
            return [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _is_good(self, entry: Path, key: str) -> bool:
        if not os.path.lexists(entry):
            return False
        problem = _problem(entry, key)
        if problem is None:
            return True
        logger.warning("the cached copy of %s is damaged and is downloaded again: %s", key, problem)
        return False

    def _fill(
        self,
        entry: Path,
        key: str,
        fill: Callable[[Path], None],
        expected: Mapping[str, Digest] | None,
    ) -> None:
        _remove_temporaries(entry)
        require_free_space(entry, sum(digest.bytes or 0 for digest in (expected or {}).values()))
        temporary = entry.with_name(f"{TEMPORARY_PREFIX}{entry.name}-{os.getpid()}")
        try:
            with storage_errors(entry):
                (temporary / FILES).mkdir(mode=DIRECTORY_MODE, parents=True)
            fill(temporary / FILES)
            with storage_errors(entry):
                files = file_digests(temporary / FILES)
                require_digests(temporary / FILES, files, expected, key)
                sync_tree(temporary / FILES)
                index = {"format_version": FORMAT_VERSION, "key": key, "files": files}
                write_synced(temporary / INDEX, json.dumps(index, indent=1).encode())
                sync_directory(temporary)
                if os.path.lexists(entry):
                    _discard(entry)
                os.rename(temporary, entry)
                sync_directory(self.root)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # the first failure is the one to report
            raise

    def _remove_leftovers(self) -> None:
        """Remove temporary directories and locks that no living process holds."""
        if not self.root.is_dir():
            return
        with storage_errors(self.root):
            paths = list(self.root.iterdir())
        names = {
            path.name.removeprefix(TEMPORARY_PREFIX).split("-")[0].removesuffix(".lock") for path in paths
        }
        for name in names:
            entry = self.root / name
            if not entry.is_dir():
                _remove(entry)


def default_root() -> Path:
    """Return `$XDG_CACHE_HOME/metta/artifacts`, or the same below `~/.cache`."""
    text = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(text) if os.path.isabs(text) else Path("~/.cache").expanduser()
    return base / "metta" / "artifacts"


@contextlib.contextmanager
def _cache_errors() -> Iterator[None]:
    """Give every `StorageError` the cure that helps with a cache."""
    try:
        yield
    except StorageError as error:
        raise StorageError(error.message, _WAIT if error.cure == _WAIT else _CURE) from error


@contextlib.contextmanager
def _locked(entry: Path, key: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock of an entry.

    Raises:
        StorageError: another process holds it for longer than `wait_seconds`.
    """
    descriptor = acquire(
        _lock_of(entry), wait_seconds, lambda: logger.info("waiting: another process downloads %s", key)
    )
    if descriptor is None:
        raise StorageError(f"another process has been downloading {key} for {wait_seconds:g} s", _WAIT)
    try:
        yield
    finally:
        release(descriptor)


def _lock_of(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")


def _remove(entry: Path) -> bool:
    """Remove an entry, what was left of it, and its lock; False if another process is at it."""
    descriptor = acquire(_lock_of(entry))
    if descriptor is None:
        return False
    try:
        with storage_errors(entry):
            if entry.is_dir():
                _discard(entry)
            _remove_temporaries(entry)
            _lock_of(entry).unlink(missing_ok=True)
    finally:
        release(descriptor)
    return True


def _discard(entry: Path) -> None:
    """Delete an entry so that no crash leaves a part of it under its own name."""
    doomed = entry.with_name(f"{TEMPORARY_PREFIX}{entry.name}-removed")
    if os.path.lexists(doomed):
        shutil.rmtree(doomed)
    os.rename(entry, doomed)
    shutil.rmtree(doomed)


def _remove_temporaries(entry: Path) -> None:
    """Delete what killed processes left of an entry; the caller holds its lock."""
    with storage_errors(entry):
        for leftover in entry.parent.glob(f"{TEMPORARY_PREFIX}{entry.name}-*"):
            shutil.rmtree(leftover)


def _read_index(entry: Path) -> dict[str, Any]:
    """Return the index of an entry.

    Raises:
        ValueError: it has none that can be understood.
    """
    try:
        index = json.loads((entry / INDEX).read_bytes())
        if index["format_version"] != FORMAT_VERSION or not isinstance(index["key"], str):
            raise ValueError(f"{INDEX} is of another version")
        for digest in index["files"].values():
            if not (isinstance(digest["bytes"], int) and isinstance(digest["sha256"], str)):
                raise ValueError(f"{INDEX} lacks digests")
    except (OSError, KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError(f"{INDEX} cannot be read ({error})") from error
    return dict(index)


def _describe(entry: Path) -> CacheEntry | None:
    """Return what `ls` says of an entry; None if it has just gone."""
    try:
        files = [path for path in (entry / FILES).rglob("*") if path.is_file()]
        num_bytes = sum(path.stat().st_size for path in files)
        used = entry.stat().st_mtime
        created = (entry / INDEX).stat().st_mtime if (entry / INDEX).exists() else used
    except FileNotFoundError:
        return None
    try:
        key = str(_read_index(entry)["key"])
    except ValueError:
        key = None
    times = (datetime.fromtimestamp(seconds, UTC) for seconds in (created, used))
    return CacheEntry(key, entry, len(files), num_bytes, *times)


def _problem(entry: Path, key: str | None) -> str | None:
    """Return why an entry must not be used, or None."""
    try:
        index = _read_index(entry)
        if index["key"] != key:
            return "it is another one's"
        actual = file_digests(entry / FILES)
    except (ValueError, CheckpointError) as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    for name in sorted(index["files"].keys() | actual.keys()):
        if index["files"].get(name) != actual.get(name):
            state = (
                "missing" if name not in actual else "unknown" if name not in index["files"] else "changed"
            )
            return f"{name} is {state}"
    return None
