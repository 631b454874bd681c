"""Schedules are checked when a configuration is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from metta_cli.config.schedules import ScheduleConfig
from metta_cli.config.trainer import TrainerConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "cosin"}, "did you mean 'cosine'"),
        ({"type": "Linear"}, "did you mean 'linear'"),
        ({"type": "qqq"}, "there are constant, linear"),
        ({"type": "linear", "decay_rate": 0.5}, "decay_rate does nothing in a linear schedule"),
        ({"type": "constant", "min_value": 0.5}, "min_value does nothing"),
        ({"type": "exponential", "decay_rate": 1.5}, "must be at most 1"),
        ({"type": "logarithmic", "decay_rate": 0}, "greater than 0"),
        ({"type": "linear", "minimum": 0}, "Extra inputs"),
    ],
)
def test_a_schedule_that_would_not_act_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        ScheduleConfig(**settings)
    with pytest.raises(ValidationError, match=message):
        TrainerConfig(hyperparameter_scheduler={"ppo_clip_schedule": settings})


def test_an_unknown_schedule_type_of_the_learning_rate_is_refused():
    with pytest.raises(ValidationError, match="did you mean 'cosine'"):
        TrainerConfig(lr_scheduler={"schedule_type": "cosien"})


def test_two_schedules_of_the_learning_rate_are_refused():
    schedule = {"learning_rate_schedule": {"type": "cosine"}}
    TrainerConfig(hyperparameter_scheduler=schedule, lr_scheduler={"anneal_lr": True})
    with pytest.raises(ValidationError, match=r"keep one, as with lr_scheduler\.enabled=false"):
        TrainerConfig(hyperparameter_scheduler=schedule, lr_scheduler={"enabled": True, "anneal_lr": True})


@pytest.mark.parametrize("size", [100, 96, 2048])
def test_the_size_of_parts_divides_the_minibatch_and_is_whole_segments(size):
    sizes = {"batch_size": 4096, "minibatch_size": 1024, "bptt_horizon": 64}
    TrainerConfig(**sizes, max_minibatch_size=256)
    with pytest.raises(ValidationError, match="max_minibatch_size"):
        TrainerConfig(**sizes, max_minibatch_size=size)
