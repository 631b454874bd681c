"""The trainer learns what can be learned, and only that. A flipped sign anywhere dies here."""

import pytest
import torch

from metta_cli.config.trainer import TrainerConfig
from metta_cli.policies.registry import create_policy
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.trainer import Trainer
from tests.learning.toys import CueTask

pytestmark = pytest.mark.slow

CONFIG = TrainerConfig(
    total_timesteps=120_000,
    batch_size=2048,
    minibatch_size=1024,
    bptt_horizon=32,
    update_epochs=4,
    sampling="sequential",
    optimizer={"learning_rate": 2e-3, "eps": 1e-8},
    ppo={"ent_coef": 0.003, "gamma": 0.95, "clip_coef": 0.2},
)


class Forgetful(torch.nn.Module):
    """A policy whose recurrent state is wiped before every step."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        inner = td.copy()
        inner["dones"] = torch.ones_like(td["dones"])
        outputs = self.policy(inner, None, action)
        for name in ("actions", "values", "value", "act_log_prob", "entropy", "full_log_probs"):
            if name in outputs.keys():  # noqa: SIM118  # a TensorDict iterates over its rows
                td[name] = outputs[name]
        return td


def trained_return(delay, wrap=lambda policy: policy, config=CONFIG):
    torch.manual_seed(0)
    environment = CueTask(num_agents=32, delay=delay)
    policy = wrap(create_policy("fast", environment.interface, {}))
    trainer = Trainer(
        config,
        environment=environment,
        policy=policy,
        optimizer=create_optimizer(config, policy),
        device=torch.device("cpu"),
    )
    trainer.train()
    return sum(trainer.recent_returns) / len(trainer.recent_returns)


def test_a_bandit_with_two_states_is_played_to_the_optimum():
    assert trained_return(delay=0) > 0.97


def test_memory_solves_the_recall_task():
    assert trained_return(delay=8) > 0.95


def test_without_memory_the_recall_task_stays_at_chance():
    assert 0.35 < trained_return(delay=8, wrap=Forgetful) < 0.65


def test_prioritized_sampling_learns_too():
    prioritized = CONFIG.model_copy(update={"sampling": "prioritized"})
    assert trained_return(delay=0, config=prioritized) > 0.95
