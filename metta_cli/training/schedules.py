"""The configuration as it is at one moment of a run."""

from __future__ import annotations

from metta_cli.algorithms.schedules import SCHEDULES, warmed_up
from metta_cli.config.schedules import DECAY_RATES, ScheduleConfig
from metta_cli.config.trainer import TrainerConfig

PPO_SCHEDULES = {
    "ppo_clip_schedule": "clip_coef",
    "ppo_ent_coef_schedule": "ent_coef",
    "ppo_vf_clip_schedule": "vf_clip_coef",
    "ppo_l2_reg_loss_schedule": "l2_reg_loss_coef",
    "ppo_l2_init_loss_schedule": "l2_init_loss_coef",
}
"""Name of a schedule -> name of the setting of `ppo` that it moves."""


def config_at(config: TrainerConfig, agent_steps: int) -> TrainerConfig:
    """Return the configuration with every scheduled setting at its present value.

    Args:
        config: of the run; not changed.
        agent_steps: of the run before the epoch.
    """
    schedules, progress = config.hyperparameter_scheduler, agent_steps / config.total_timesteps
    present = {
        setting: value_at(schedule, getattr(config.ppo, setting), progress)
        for name, setting in PPO_SCHEDULES.items()
        if (schedule := getattr(schedules, name)) is not None
    }
    optimizer = {"learning_rate": _learning_rate(config, agent_steps, progress)}
    return config.model_copy(
        update={
            "ppo": config.ppo.model_copy(update=present),
            "optimizer": config.optimizer.model_copy(update=optimizer),
        }
    )


def scheduled_values(config: TrainerConfig, present: TrainerConfig) -> dict[str, float]:
    """Return what is logged of a configuration at one moment: the settings that have a schedule.

    Args:
        config: of the run.
        present: what `config_at` made of it.
    """
    return {
        f"hyperparameters/{setting}": float(getattr(present.ppo, setting))
        for name, setting in PPO_SCHEDULES.items()
        if getattr(config.hyperparameter_scheduler, name) is not None
    }


def value_at(schedule: ScheduleConfig, setting: float, progress: float) -> float:
    """Return the value of a schedule.

    Args:
        schedule: its type and ends.
        setting: the value at the start if the schedule names none.
        progress: share of the run that is over.
    """
    initial = setting if schedule.initial_value is None else schedule.initial_value
    minimum = 0.1 * initial if schedule.min_value is None else schedule.min_value
    decay_rate = schedule.decay_rate or DECAY_RATES.get(schedule.type, 1.0)
    return SCHEDULES[schedule.type](initial, minimum, decay_rate, progress)


def _learning_rate(config: TrainerConfig, agent_steps: int, progress: float) -> float:
    setting = config.optimizer.learning_rate
    schedule = config.hyperparameter_scheduler.learning_rate_schedule
    if schedule is None:
        schedule = ScheduleConfig(type=config.lr_scheduler.shape)
        if schedule.type != "constant":
            schedule.min_value = 0.0
    value = value_at(schedule, setting, progress)
    if not config.lr_scheduler.enabled:
        return value
    # With the steps of the batch that is learned from: the first epoch would otherwise have none at all.
    return warmed_up(value, agent_steps + config.batch_size, config.lr_scheduler.warmup_steps or 0)
