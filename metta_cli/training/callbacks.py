"""What lives beside a training run: opponents, curricula, monitors.

A callback is told when an epoch begins, when its acting is done and when it ends. What it knows is saved
in the checkpoints of the run. An exception in a callback ends the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_cli.training.rollout import RolloutStatistics
    from metta_cli.training.trainer import Metrics, Trainer


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
