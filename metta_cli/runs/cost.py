"""What a run has cost, at the hourly price in METTA_HOURLY_COST."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from metta_cli.config.settings import read_settings
from metta_cli.training.callbacks import Callback
from metta_cli.training.trainer import Metrics, Trainer

NAME = "cost"
TOTAL = "cost/total"
PER_MILLION = "cost/per_million_agent_steps"
LOG_INTERVAL_SECONDS = 600.0

logger = logging.getLogger(__name__)


class CostMeter(Callback):
    """Adds up wall time, evaluations and checkpoints included, over all sessions of a run.

    Args:
        hourly_cost: price of an hour, in any currency.
        clock: seconds, from any origin.
    """

    def __init__(self, hourly_cost: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.hourly_cost, self.clock = hourly_cost, clock
        self.total = 0.0
        self.counted_at = self.logged_at = clock()

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """Return the cost so far, and that of a million agent steps."""
        now = self.clock()
        self.total += self.hourly_cost * (now - self.counted_at) / 3600.0
        self.counted_at = now
        per_million = 1e6 * self.total / trainer.state.agent_steps
        is_last = trainer.state.agent_steps >= trainer.config.total_timesteps
        if is_last or now - self.logged_at >= LOG_INTERVAL_SECONDS:
            self.logged_at = now
            logger.info("cost so far: %.2f (%.4f per million agent steps)", self.total, per_million)
        return {TOTAL: self.total, PER_MILLION: per_million}

    def state_dict(self) -> dict[str, Any]:
        """Return the cost so far."""
        return {"total": self.total}

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`; the time in between costs nothing."""
        self.total = data["total"]
        self.counted_at = self.clock()


def create_cost_meter() -> dict[str, Callback]:
    """Return the meter as a callback by name, if METTA_HOURLY_COST is set.

    Raises:
        ConfigError: if METTA_HOURLY_COST is no number.
    """
    hourly_cost = read_settings().hourly_cost
    return {} if hourly_cost is None else {NAME: CostMeter(hourly_cost)}


def cost_of(trainer: Trainer) -> float | None:
    """Return what a run has cost so far; None where METTA_HOURLY_COST is not set."""
    meter = trainer.callbacks.get(NAME)
    return meter.total if isinstance(meter, CostMeter) else None
