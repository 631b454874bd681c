"""How hyperparameters change over a run."""

from __future__ import annotations

import difflib
from typing import Self

from pydantic import Field, field_validator, model_validator

from metta_cli.config.section import Section

SCHEDULE_TYPES = ("constant", "linear", "cosine", "exponential", "logarithmic")
DECAY_RATES = {"exponential": 0.95, "logarithmic": 0.1}
"""Types that have a decay rate, and its default."""


def known_schedule(name: str) -> str:
    """Return the name of a schedule.

    Raises:
        ValueError: if there is none; the message says which one was probably meant.
    """
    if name in SCHEDULE_TYPES:
        return name
    close = difflib.get_close_matches(name.lower(), SCHEDULE_TYPES, n=1)
    meant = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(SCHEDULE_TYPES)}"
    raise ValueError(f"no schedule is called '{name}': {meant}")


class ScheduleConfig(Section):
    """The way of one hyperparameter from its value at the start to one at the end of the run."""

    type: str
    """Shape: constant, linear, cosine, exponential or logarithmic."""
    initial_value: float | None = Field(default=None, ge=0)
    """Value at the start; None is the setting that is scheduled."""
    min_value: float | None = Field(default=None, ge=0)
    """Value at the end, or the least one of an exponential schedule; None is a tenth of that at the start."""
    decay_rate: float | None = Field(default=None, gt=0)
    """What is left after an exponential schedule (None: 0.95); the bend of a logarithmic one (0.1)."""

    _known_type = field_validator("type")(known_schedule)

    @model_validator(mode="after")
    def _everything_acts(self) -> Self:
        if self.decay_rate is not None and self.type not in DECAY_RATES:
            raise ValueError(f"decay_rate does nothing in a {self.type} schedule")
        if self.decay_rate is not None and self.type == "exponential" and self.decay_rate > 1:
            raise ValueError(f"decay_rate ({self.decay_rate}) of an exponential schedule must be at most 1")
        if self.min_value is not None and self.type == "constant":
            raise ValueError("min_value does nothing in a constant schedule")
        return self


class HyperparameterSchedulerConfig(Section):
    """Schedules of single hyperparameters over `total_timesteps`; None leaves one where it is."""

    learning_rate_schedule: ScheduleConfig | None = None
    """Schedule of `optimizer.learning_rate`."""
    ppo_clip_schedule: ScheduleConfig | None = None
    """Schedule of `ppo.clip_coef`."""
    ppo_ent_coef_schedule: ScheduleConfig | None = None
    """Schedule of `ppo.ent_coef`."""
    ppo_vf_clip_schedule: ScheduleConfig | None = None
    """Schedule of `ppo.vf_clip_coef`."""
    ppo_l2_reg_loss_schedule: ScheduleConfig | None = None
    """Schedule of `ppo.l2_reg_loss_coef`."""
    ppo_l2_init_loss_schedule: ScheduleConfig | None = None
    """Schedule of `ppo.l2_init_loss_coef`."""


class LearningRateSchedulerConfig(Section):
    """A schedule of the learning rate from its setting to 0, and a warm-up."""

    enabled: bool = False
    """Whether there is one."""
    anneal_lr: bool = False
    """Whether the learning rate falls to 0 at `total_timesteps`: linearly, unless `schedule_type` is set."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Agent steps over which the learning rate rises linearly from 0 at the start; None is none."""
    schedule_type: str | None = None
    """Shape of the fall to 0, as in `hyperparameter_scheduler`; None is linear if `anneal_lr`, else none."""

    @field_validator("schedule_type")
    @classmethod
    def _known_type(cls, value: str | None) -> str | None:
        return None if value is None else known_schedule(value)

    @property
    def shape(self) -> str:
        """Type of the schedule that acts."""
        if not self.enabled:
            return "constant"
        return self.schedule_type or ("linear" if self.anneal_lr else "constant")
