"""What lives beside a training run: opponents, curricula, monitors.

A callback is told when an epoch begins, when its acting is done and when it ends. What it knows is saved
in the checkpoints of the run. An exception in a callback ends the run, unless it is `Expendable`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from metta_cli.training.rollout import RolloutStatistics
    from metta_cli.training.trainer import Metrics, Trainer

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Callback:
    """Does nothing; override what is of interest."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch."""

    def on_rollout_end(self, trainer: Trainer, rollout: RolloutStatistics) -> Metrics:
        """After acting, before learning; return what was measured."""
        return {}

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """After the update; return what was measured. The gradients of the last minibatch are still there.

        Args:
            trainer: its counters include this epoch.
            metrics: everything measured in this epoch so far.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: nested dicts and lists of plain values and tensors."""
        return {}

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`."""


class Expendable(Callback):
    """A callback without which a run goes on: what fails is reported, and not called again.

    Args:
        name: what the report calls it.
        callback: what may fail.
    """

    def __init__(self, name: str, callback: Callback) -> None:
        self.name, self.callback = name, callback
        self.has_failed = False

    def on_epoch_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        self._call(lambda: self.callback.on_epoch_start(trainer), None)

    def on_rollout_end(self, trainer: Trainer, rollout: RolloutStatistics) -> Metrics:
        """See `Callback`."""
        return self._call(lambda: self.callback.on_rollout_end(trainer, rollout), {})

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """See `Callback`."""
        return self._call(lambda: self.callback.on_epoch_end(trainer, metrics), {})

    def state_dict(self) -> dict[str, Any]:
        """See `Callback`."""
        return self._call(self.callback.state_dict, {})

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """See `Callback`."""
        self._call(lambda: self.callback.load_state_dict(data), None)

    def _call(self, call: Callable[[], Result], otherwise: Result) -> Result:
        if self.has_failed:
            return otherwise
        try:
            return call()
        except Exception:
            self.has_failed = True
            logger.warning("%s failed and is switched off; training goes on", self.name, exc_info=True)
            return otherwise
