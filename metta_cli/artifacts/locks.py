"""Locks between processes, as files; the kernel frees them when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from metta_cli.artifacts.atomic import storage_errors

_POLL_SECONDS = 0.05


def acquire(path: Path, wait_seconds: float = 0.0, on_wait: Callable[[], None] | None = None) -> int | None:
    """Lock a file, which is created if need be; its holder may remove it.

    Args:
        path: the lock file; its directory exists.
        wait_seconds: how long to wait for another holder.
        on_wait: called once if there is one.

    Returns:
        A descriptor for `release`; None if another process, or thread, holds it for too long.

    Raises:
        StorageError: the file cannot be created or locked.
    """
    deadline, has_waited = time.monotonic() + wait_seconds, False
    while True:
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if _try_lock(path, descriptor):
                return descriptor
        if time.monotonic() >= deadline:
            return None
        if not has_waited and on_wait is not None:
            on_wait()
        has_waited = True
        time.sleep(_POLL_SECONDS)


def release(descriptor: int) -> None:
    """Give up a lock."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a child process has a copy
    os.close(descriptor)


def _try_lock(path: Path, descriptor: int) -> bool:
    """Lock a descriptor, or close it; also where its last holder has just removed the file."""
    is_locked = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_locked = os.path.samestat(os.stat(path), os.fstat(descriptor))
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not is_locked:
            os.close(descriptor)
    return is_locked
