"""What a configuration says at one moment of a run."""

from __future__ import annotations

import pytest

from metta_cli.config.trainer import TrainerConfig
from metta_cli.training.schedules import PPO_SCHEDULES, config_at, scheduled_values

SIZES = {"total_timesteps": 1000, "batch_size": 100, "minibatch_size": 100, "bptt_horizon": 10}


def config_of(**changes):
    return TrainerConfig(**(SIZES | {"optimizer": {"learning_rate": 0.4}} | changes))


def learning_rates(config, *agent_steps):
    return [config_at(config, steps).optimizer.learning_rate for steps in agent_steps]


def test_an_annealed_learning_rate_falls_linearly_to_zero():
    config = config_of(lr_scheduler={"enabled": True, "anneal_lr": True})
    assert learning_rates(config, 0, 250, 1000, 1500) == pytest.approx([0.4, 0.3, 0.0, 0.0])


@pytest.mark.parametrize(
    "schedule", [{}, {"anneal_lr": True}, {"schedule_type": "cosine"}, {"warmup_steps": 9}]
)
def test_without_enabled_the_learning_rate_stays(schedule):
    assert learning_rates(config_of(lr_scheduler=schedule), 0, 900) == [0.4, 0.4]


def test_schedule_type_is_the_shape_of_the_fall():
    config = config_of(lr_scheduler={"enabled": True, "schedule_type": "cosine"})
    assert learning_rates(config, 0, 500, 1000) == pytest.approx([0.4, 0.2, 0.0])
    assert learning_rates(config, 100)[0] > 0.38


def test_warm_up_counts_the_steps_of_the_batch_that_is_learned_from():
    config = config_of(lr_scheduler={"enabled": True, "warmup_steps": 400})
    assert learning_rates(config, 0, 100, 300, 900) == pytest.approx([0.1, 0.2, 0.4, 0.4])


def test_warm_up_goes_with_a_schedule_of_the_learning_rate():
    schedules = {"learning_rate_schedule": {"type": "linear", "min_value": 0.0}}
    config = config_of(
        lr_scheduler={"enabled": True, "warmup_steps": 200}, hyperparameter_scheduler=schedules
    )
    assert learning_rates(config, 0, 500) == pytest.approx([0.2, 0.2])


def test_learning_rate_schedule_has_a_start_an_end_and_a_default_end_of_a_tenth():
    schedule = {"learning_rate_schedule": {"type": "linear", "initial_value": 0.2, "min_value": 0.1}}
    assert learning_rates(config_of(hyperparameter_scheduler=schedule), 0, 500, 1000) == pytest.approx(
        [0.2, 0.15, 0.1]
    )
    schedule = {"learning_rate_schedule": {"type": "cosine"}}
    assert learning_rates(config_of(hyperparameter_scheduler=schedule), 0, 1000) == pytest.approx([0.4, 0.04])


@pytest.mark.parametrize(("name", "setting"), PPO_SCHEDULES.items())
def test_every_scheduled_setting_moves_alone_and_is_logged(name, setting):
    config = config_of(
        ppo={setting: 0.8},
        hyperparameter_scheduler={name: {"type": "exponential", "decay_rate": 0.25, "min_value": 0.3}},
    )
    for agent_steps, expected in ((0, 0.8), (500, 0.4), (1000, 0.3)):
        present = config_at(config, agent_steps)
        assert getattr(present.ppo, setting) == pytest.approx(expected)
        assert scheduled_values(config, present) == {
            f"hyperparameters/{setting}": getattr(present.ppo, setting)
        }
        assert (
            config_at(config, 0).ppo.model_copy(update={setting: getattr(present.ppo, setting)})
            == present.ppo
        )
    assert getattr(config.ppo, setting) == 0.8


def test_decay_rates_are_those_of_the_reference_unless_set():
    def after(kind, agent_steps):
        schedule = {"ppo_clip_schedule": {"type": kind, "min_value": 0.0}}
        config = config_of(ppo={"clip_coef": 1.0}, hyperparameter_scheduler=schedule)
        return config_at(config, agent_steps).ppo.clip_coef

    assert after("exponential", 1000) == pytest.approx(0.95)
    assert after("logarithmic", 500) == pytest.approx(1 - 0.5119093)  # ln(1.05) / ln(1.1)
