"""Where metrics go."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Keeps the metrics of a run. What the names mean is in `metta_cli.tracking.metrics`."""

    def log(self, metrics: Mapping[str, float], *, agent_steps: int, epoch: int) -> None:
        """Keep the metrics of an epoch.

        Args:
            metrics: name -> value.
            agent_steps: environment steps summed over learner agents, since the start of the run.
            epoch: the epoch they were measured in.
        """
        ...

    def save_checkpoint(self, path: Path, *, epoch: int, metadata: Mapping[str, Any], is_last: bool) -> None:
        """Take a copy of a checkpoint, if this tracker keeps any and it is time for one; returns at once.

        Args:
            path: its directory, which may be deleted any time after this call.
            epoch: which epoch it is of.
            metadata: what is stored with it.
            is_last: whether the run ends with it.
        """
        ...

    def close(self) -> None:
        """Hand over what is still on its way, in bounded time. Nothing is logged afterwards."""
        ...


class TrackerGroup:
    """Sends metrics to several trackers.

    Args:
        trackers: who gets them, in this order.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = tuple(trackers)

    def log(self, metrics: Mapping[str, float], *, agent_steps: int, epoch: int) -> None:
        """Send the metrics of an epoch to every tracker."""
        for tracker in self.trackers:
            tracker.log(metrics, agent_steps=agent_steps, epoch=epoch)

    def save_checkpoint(self, path: Path, *, epoch: int, metadata: Mapping[str, Any], is_last: bool) -> None:
        """Offer a checkpoint to every tracker."""
        for tracker in self.trackers:
            tracker.save_checkpoint(path, epoch=epoch, metadata=metadata, is_last=is_last)

    def close(self) -> None:
        """Close every tracker, also where an earlier one fails."""
        with contextlib.ExitStack() as stack:
            for tracker in reversed(self.trackers):
                stack.callback(tracker.close)
