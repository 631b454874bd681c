"""Every setting of learning acts: change it, and other weights come out. And what it knows is saved."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from metta_cli.artifacts.state_codec import decode_state, encode_state
from metta_cli.config.learning import (
    OptimizerConfig,
    PPOConfig,
    PrioritizedExperienceReplayConfig,
    RewardCenteringConfig,
    VTraceConfig,
)
from metta_cli.config.schedules import HyperparameterSchedulerConfig, LearningRateSchedulerConfig
from metta_cli.config.trainer import TrainerConfig
from metta_cli.errors import MettaError
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.trainer import Trainer
from tests.learning.toys import CueTask

CPU = torch.device("cpu")
# Everything is on, and far from where it would do nothing.
SETTINGS = {
    "total_timesteps": 1024,
    "batch_size": 128,
    "minibatch_size": 32,
    "bptt_horizon": 8,
    "update_epochs": 2,
    "sampling": "prioritized",
    "optimizer": {"learning_rate": 0.03, "eps": 1e-3, "weight_decay": 0.01},
    "ppo": {"clip_coef": 0.05, "vf_clip_coef": 0.05, "max_grad_norm": 0.05, "ent_coef": 0.05},
    "prioritized_experience_replay": {"prio_alpha": 0.7},
}
LINEAR = {"type": "linear", "min_value": 0.9}
CHANGES = {
    OptimizerConfig: [
        *({"optimizer": {"type": kind}} for kind in ("adamw", "muon", "adamw_schedulefree")),
        {"optimizer": {"learning_rate": 0.02}},
        {"optimizer": {"beta1": 0.5}},
        {"optimizer": {"beta2": 0.5}},
        {"optimizer": {"eps": 1e-2}},
        {"optimizer": {"weight_decay": 0.1}},
    ],
    PPOConfig: [
        {"ppo": {"clip_coef": 0.5}},
        {"ppo": {"ent_coef": 0.2}},
        {"ppo": {"gae_lambda": 0.5}},
        {"ppo": {"gamma": 0.5}},
        {"ppo": {"max_grad_norm": 5.0}},
        {"ppo": {"vf_clip_coef": 0.5}},
        {"ppo": {"vf_coef": 2.0}},
        {"ppo": {"l2_reg_loss_coef": 0.1}},
        {"ppo": {"l2_init_loss_coef": 0.1}},
        {"ppo": {"norm_adv": False}},
        {"ppo": {"clip_vloss": False}},
        {"ppo": {"target_kl": 1e-6}},
    ],
    PrioritizedExperienceReplayConfig: [
        {"prioritized_experience_replay": {"prio_alpha": 0.2}},
        {"prioritized_experience_replay": {"prio_beta0": 0.1}},
    ],
    VTraceConfig: [{"vtrace": {"vtrace_rho_clip": 0.5}}, {"vtrace": {"vtrace_c_clip": 0.5}}],
    RewardCenteringConfig: [{"reward_centering": {"enabled": True}}],
    HyperparameterSchedulerConfig: [
        {"hyperparameter_scheduler": {"learning_rate_schedule": {"type": "cosine"}}},
        {"hyperparameter_scheduler": {"ppo_clip_schedule": LINEAR}},
        {"hyperparameter_scheduler": {"ppo_ent_coef_schedule": LINEAR}},
        {"hyperparameter_scheduler": {"ppo_vf_clip_schedule": LINEAR}},
        {"hyperparameter_scheduler": {"ppo_l2_reg_loss_schedule": LINEAR}},
        {"hyperparameter_scheduler": {"ppo_l2_init_loss_schedule": LINEAR}},
    ],
    LearningRateSchedulerConfig: [
        {"lr_scheduler": {"enabled": True, "anneal_lr": True}},
        {"lr_scheduler": {"enabled": True, "schedule_type": "cosine"}},
        {"lr_scheduler": {"enabled": True, "warmup_steps": 500}},
    ],
    TrainerConfig: [
        {"sampling": "sequential"},
        {"bootstrap_truncations": False},
        {"update_epochs": 1},
        {"recompute_advantages": True},
        {"minibatch_size": 64},
        {"bptt_horizon": 16},
        {"total_timesteps": 2048},  # beta rises more slowly
    ],
}
# What acts only beside another setting.
PAIRS = [
    ({"optimizer": {"type": "muon"}}, {"optimizer": {"learning_rate_adam": 0.001}}),
    ({"ppo": {"l2_init_loss_coef": 0.1}}, {"ppo": {"l2_init_weight_update_interval": 1}}),
    ({"reward_centering": {"enabled": True}}, {"reward_centering": {"beta": 0.5}}),
]


class CutTask(CueTask):
    """The same task, except that its episodes are cut by time."""

    def step(self, actions):
        observations, rewards, ends, nothing, episodes = super().step(actions)
        self.final_observations[:] = observations
        return observations, rewards, nothing, ends, episodes


class Small(nn.Module):
    """A policy without memory."""

    def __init__(self):
        super().__init__()
        self.hidden, self.actor, self.value = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        seen = td["env_obs"][..., :2, 1:].flatten(-2).float() / 255
        present = (td["env_obs"][..., :2, 0] != 255).float()
        hidden = torch.tanh(self.hidden(torch.cat([seen, present], -1)))
        log_probs, value = self.actor(hidden).log_softmax(-1), self.value(hidden)[..., 0]
        if action is None:
            action = torch.distributions.Categorical(logits=log_probs).sample()
            td["actions"], td["values"] = action, value
        td["value"], td["full_log_probs"] = value, log_probs
        td["act_log_prob"] = log_probs.gather(-1, action[..., None])[..., 0]
        td["entropy"] = -(log_probs.exp() * log_probs).sum(-1)
        return td


def merged(settings, *changes):
    for change in changes:
        for name, value in change.items():
            inner = settings.get(name, {})
            settings = settings | {name: inner | value if isinstance(value, dict) else value}
    return settings


def trainer_of(*changes, seed=0, policy=None):
    torch.manual_seed(0)
    config = TrainerConfig(**merged(SETTINGS, *changes))
    policy = policy or Small()
    environment = CutTask(num_agents=8, delay=2, seed=seed)
    return Trainer(
        config,
        environment=environment,
        policy=policy,
        optimizer=create_optimizer(config, policy),
        device=CPU,
    )


def weights_of(trainer, epochs=2):
    for _ in range(epochs):
        experience, _ = trainer.collect()
        trainer.update(experience)
    return torch.cat([part.detach().flatten().clone() for part in trainer.policy.parameters()])


@pytest.fixture(scope="module")
def plain():
    return weights_of(trainer_of())


def test_without_a_change_the_weights_are_the_same(plain):
    assert torch.equal(weights_of(trainer_of()), plain)


@pytest.mark.parametrize("change", [change for changes in CHANGES.values() for change in changes], ids=str)
def test_a_change_of_a_setting_changes_the_weights(change, plain):
    weights = weights_of(trainer_of(change))
    assert torch.isfinite(weights).all()
    assert (weights - plain).abs().max() > 1e-5


@pytest.mark.parametrize(("base", "change"), PAIRS, ids=str)
def test_a_change_beside_another_setting_changes_the_weights(base, change):
    difference = weights_of(trainer_of(base, change)) - weights_of(trainer_of(base))
    assert difference.abs().max() > 1e-5


@pytest.mark.parametrize("section", list(CHANGES)[:-1])
def test_no_setting_is_left_out(section):
    changed = {
        name
        for change in [*CHANGES[section], *(change for _, change in PAIRS)]
        for part in change.values()
        for name in part
    }
    assert section.model_fields.keys() <= changed


def test_size_of_parts_changes_nothing(plain):
    torch.testing.assert_close(weights_of(trainer_of({"max_minibatch_size": 8})), plain, atol=1e-5, rtol=1e-5)


def test_clipping_keeps_weights_in_their_range_and_a_policy_without_it_goes_beyond(plain):
    class Clipped(Small):
        def clip_weights(self):
            for part in self.parameters():
                part.data.clamp_(-0.2, 0.2)

    torch.manual_seed(0)
    assert weights_of(trainer_of(policy=Clipped())).abs().max() <= 0.2
    assert plain.abs().max() > 0.2


def test_l2_makes_weights_smaller_and_l2_init_keeps_them_where_they_were():
    def hidden(change):
        trainer = trainer_of({"optimizer": {"learning_rate": 0.005}}, change)
        start = trainer.policy.hidden.weight.detach().clone()
        weights_of(trainer, 6)
        end = trainer.policy.hidden.weight.detach()
        return float(end.norm()), float((end - start).norm())

    norm, distance = hidden({})
    assert hidden({"ppo": {"l2_reg_loss_coef": 3.0}})[0] < 0.7 * norm
    assert hidden({"ppo": {"l2_init_loss_coef": 3.0}})[1] < 0.5 * distance


def test_centered_rewards_lose_their_mean():
    trainer = trainer_of(
        {"reward_centering": {"enabled": True, "beta": 0.1}}, {"bootstrap_truncations": False}
    )
    plain = trainer_of({"bootstrap_truncations": False})
    for _ in range(3):
        centered, with_mean = trainer.collect()[0], plain.collect()[0]
    assert with_mean.rewards[:, 1:].mean() > 0.05
    assert centered.rewards[:, 1:].mean().abs() < 0.4 * with_mean.rewards[:, 1:].mean()


def test_without_a_discount_centered_rewards_keep_values_bounded():
    trainer = trainer_of({"ppo": {"gamma": 1.0}}, {"reward_centering": {"enabled": True, "beta": 0.1}})
    weights_of(trainer, 6)
    assert trainer.experience.values.abs().max() < 10


def test_scheduled_values_are_logged_as_they_act():
    trainer = trainer_of(
        {"hyperparameter_scheduler": {"ppo_clip_schedule": {"type": "linear", "min_value": 0.0}}}
    )
    seen = []
    trainer.train(lambda trainer, metrics: seen.append(metrics["hyperparameters/clip_coef"]))
    assert seen == pytest.approx([0.05 * (1 - epoch / 8) for epoch in range(8)])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": {"type": "muon"}},
        {"optimizer": {"type": "adamw_schedulefree"}},
        {"ppo": {"l2_init_loss_coef": 0.1}},
        {"reward_centering": {"enabled": True, "beta": 0.1}},
        {"hyperparameter_scheduler": {"ppo_l2_init_loss_schedule": LINEAR}},
    ],
    ids=str,
)
def test_a_resumed_run_goes_on_as_one_that_was_not_stopped(change):
    first = trainer_of(change)
    weights_of(first)
    data, tensors = encode_state(first.state_dict())
    data, tensors = json.loads(json.dumps(data)), {name: part.clone() for name, part in tensors.items()}
    weights = {name: part.clone() for name, part in first.policy.state_dict().items()}

    going_on = Trainer(
        first.config,
        environment=CutTask(num_agents=8, delay=2, seed=1),
        policy=first.policy,
        optimizer=first.optimizer,
        device=CPU,
    )
    going_on.state, going_on.initial_weights = first.state, first.initial_weights
    going_on.experience.reward_means[:] = first.experience.reward_means
    rng = torch.get_rng_state()
    expected = weights_of(going_on)

    torch.manual_seed(99)
    policy = Small()
    policy.load_state_dict(weights)
    resumed = trainer_of(change, seed=1, policy=policy)
    resumed.load_state_dict(decode_state(data, tensors))
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.equal(weights_of(resumed), expected)


def test_schedule_free_leaves_its_mean_weights_in_the_policy_between_epochs():
    trainer = trainer_of({"optimizer": {"type": "adamw_schedulefree"}})
    weights_of(trainer)
    mean = trainer.policy.hidden.weight.detach().clone()
    trainer.optimizer.train()
    assert (trainer.policy.hidden.weight - mean).abs().max() > 1e-4
    trainer.optimizer.eval()
    # While acting and learning it is the other ones, so that the first ratio of an epoch is 1.
    experience, _ = trainer.collect()
    seen = trainer.update(experience)
    assert seen["losses/importance"] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("name", ["rewards", "values", "behavior_log_probs"])
def test_a_number_that_is_none_ends_the_run_and_leaves_the_weights(name):
    trainer = trainer_of()
    before = weights_of(trainer)
    experience, _ = trainer.collect()
    getattr(experience, name)[:] = float("nan")
    with pytest.raises(MettaError, match="not finite"):
        trainer.update(experience)
    after = torch.cat([part.detach().flatten() for part in trainer.policy.parameters()])
    assert torch.equal(after, before)
