import pytest
import torch

from metta_cli.config.trainer import TrainerConfig
from metta_cli.training.optimizers import create_optimizer, learning_rate_at

ANNEALED = {"enabled": True, "anneal_lr": True}


def config_of(**schedule):
    return TrainerConfig(total_timesteps=1000, optimizer={"learning_rate": 0.4}, lr_scheduler=schedule)


@pytest.mark.parametrize(("agent_steps", "expected"), [(0, 0.4), (250, 0.3), (1000, 0.0), (1500, 0.0)])
def test_an_annealed_learning_rate_falls_linearly_to_zero(agent_steps, expected):
    assert learning_rate_at(config_of(**ANNEALED), agent_steps) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", [{}, {"anneal_lr": True}, {"enabled": True}])
def test_without_annealing_it_stays(schedule):
    assert learning_rate_at(config_of(**schedule), 900) == 0.4


def test_it_is_set_for_every_group():
    optimizer = create_optimizer(config_of(), torch.nn.Linear(1, 1))
    optimizer.optimizers[0].add_param_group({"params": torch.nn.Linear(1, 1).parameters()})
    optimizer.set_learning_rate(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_adam_is_built_with_every_setting():
    settings = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.6, "eps": 1e-3, "weight_decay": 0.2}
    config = TrainerConfig(optimizer=settings, ppo={"max_grad_norm": 0.7})
    optimizer = create_optimizer(config, torch.nn.Linear(2, 2))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.5, 0.6), 1e-3, 0.2)
    assert optimizer.max_grad_norm == 0.7
