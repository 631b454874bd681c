"""Checkpoints on their way to W&B: in the background, and never in the way of training."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """A checkpoint that is to be uploaded.

    Attributes:
        name: of the checkpoint, `RUN:vEPOCH`.
        epoch: which epoch it is of.
        path: a directory with its files, which belongs to this upload.
        metadata: what is stored with it.
    """

    name: str
    epoch: int
    path: Path
    metadata: dict[str, Any]


class CheckpointUploads:
    """Uploads one checkpoint after the other; of those that wait only the newest is kept.

    Args:
        directory: where files wait, as further names of the same content, so that the run may delete its
            checkpoints meanwhile. What an earlier session left there is removed.
        send: uploads one, within a time limit of its own; raises whatever it likes.
        on_sent: told the epoch of each one that has arrived.
    """

    def __init__(
        self, directory: Path, send: Callable[[Upload], None], on_sent: Callable[[int], None]
    ) -> None:
        self._directory, self._send, self._on_sent = directory, send, on_sent
        self._condition = threading.Condition()
        self._waiting: Upload | None = None
        self._is_busy = False
        self._has_warned = False
        shutil.rmtree(directory, ignore_errors=True)

    def add(self, checkpoint: Path, epoch: int, metadata: Mapping[str, Any]) -> None:
        """Upload a checkpoint as soon as the one before is through; returns at once."""
        path = self._directory / f"v{epoch}"
        try:
            path.mkdir(parents=True)
            for file in checkpoint.iterdir():
                _link(file, path / file.name)
        except OSError as error:
            self._warn(f"{checkpoint.name} is not uploaded to W&B: {error.strerror or error}")
            return
        with self._condition:
            replaced, self._waiting = self._waiting, Upload(checkpoint.name, epoch, path, dict(metadata))
            if not self._is_busy:
                self._is_busy = True
                threading.Thread(target=self._work, name="wandb uploads", daemon=True).start()
        if replaced is not None:
            logger.info("%s is not uploaded to W&B, a newer one is ready", replaced.name)
            shutil.rmtree(replaced.path, ignore_errors=True)

    def close(self, seconds: float) -> None:
        """Wait for what is on its way; what is not through in time is left behind, with a warning."""
        with self._condition:
            if self._is_busy:
                logger.info("waiting for the last upload to W&B, for %g s at most", seconds)
            is_done = self._condition.wait_for(lambda: not self._is_busy, seconds)
        if not is_done:
            self._warn(f"the last upload to W&B was not through after {seconds:g} s")

    def _work(self) -> None:
        while True:
            with self._condition:
                upload, self._waiting = self._waiting, None
                if upload is None:
                    self._is_busy = False
                    self._condition.notify_all()
                    return
            try:
                self._send(upload)
                self._on_sent(upload.epoch)
                logger.info("%s is on W&B", upload.name)
            except Exception as error:  # W&B raises anything, and training is worth more
                self._warn(f"{upload.name} was not uploaded to W&B: {_describe(error)}")
            finally:
                shutil.rmtree(upload.path, ignore_errors=True)

    def _warn(self, message: str) -> None:
        """Warn once; who reads the log at all has seen it then."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%s; later send a checkpoint with `metta push`", message)
        else:
            logger.info("%s", message)


def _link(source: Path, target: Path) -> None:
    """Give a file a further name; where the file system cannot, copy it."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _describe(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
