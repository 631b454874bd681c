"""Optimizers: every type steps as its own formula says, and every setting acts."""

from __future__ import annotations

import builtins
import copy
import json
import sys

import pytest
import torch
from torch import nn

from metta_cli.artifacts.state_codec import decode_state, encode_state
from metta_cli.config.trainer import TrainerConfig
from metta_cli.errors import CheckpointError, ConfigError
from metta_cli.training.muon import hidden_matrices
from metta_cli.training.optimizers import OPTIMIZER_TYPES, Optimizer, create_optimizer

SETTINGS = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.6, "eps": 1e-3, "weight_decay": 0.2}


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 6, 3)
        self.embedding = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.hidden = nn.Linear(4, 8)
        self.lstm = nn.LSTM(8, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.free = nn.Parameter(torch.randn(4, 3))
        self.critic_1 = nn.Linear(4, 8)
        self.value_head = nn.Linear(8, 1)
        self.estimate = nn.Linear(8, 1)
        self.actor = nn.ModuleList([nn.Linear(4, 3)])

    def loss(self):
        """Return a loss that is different in every direction."""
        generator = torch.Generator().manual_seed(1)
        return sum((part * torch.randn(part.shape, generator=generator)).sum() for part in self.parameters())


def saved_and_read(state):
    """Return a state as it comes out of a checkpoint."""
    data, tensors = encode_state(state)
    return decode_state(json.loads(json.dumps(data)), {name: part.clone() for name, part in tensors.items()})


def optimizer_of(kind, policy, **changes):
    config = TrainerConfig(optimizer=SETTINGS | {"type": kind} | changes, ppo={"max_grad_norm": 1e9})
    return create_optimizer(config, policy)


@pytest.mark.parametrize(("kind", "expected"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_and_adamw_are_built_with_every_setting(kind, expected):
    config = TrainerConfig(optimizer=SETTINGS | {"type": kind}, ppo={"max_grad_norm": 0.7})
    optimizer = create_optimizer(config, nn.Linear(2, 2))
    assert type(optimizer.optimizers[0]) is expected
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.5, 0.6), 1e-3, 0.2)
    assert optimizer.max_grad_norm == 0.7


def test_no_two_types_make_the_same_weights():
    results = []
    for kind in OPTIMIZER_TYPES:
        policy = Policy()
        optimizer = optimizer_of(kind, policy)
        for _ in range(2):
            optimizer.step(policy.loss())
        results.append(policy.hidden.weight.detach())
    for first in range(len(results)):
        for second in range(first):
            assert (results[first] - results[second]).abs().max() > 1e-4


def test_muon_steps_hidden_matrices_and_leaves_the_rest_to_adam():
    policy = Policy()
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    assert {names[id(parameter)] for parameter in hidden_matrices(policy)} == {
        "conv.weight",
        "hidden.weight",
        "critic_1.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }
    optimizer = optimizer_of("muon", policy)
    muon, adam = optimizer.optimizers
    stepped = [id(part) for part in muon.parameters] + [
        id(part) for group in adam.param_groups for part in group["params"]
    ]
    assert sorted(stepped) == sorted(names)


def test_step_of_muon_is_the_orthogonal_factor_of_the_gradient_as_long_as_one_of_adam():
    policy = Policy()
    before = copy.deepcopy(policy)
    optimizer_of("muon", policy, weight_decay=0.0).step(policy.loss())
    for name in ("hidden", "conv", "critic_1"):
        weight, old = (getattr(module, name).weight.detach() for module in (policy, before))
        step = (old - weight).flatten(1)
        gradient = getattr(policy, name).weight.grad.flatten(1)
        # The polar factor by singular values; Newton-Schulz makes them about, and not exactly, 1.
        left, _, right = torch.linalg.svd(gradient, full_matrices=False)
        scale = 0.1 * 0.2 * max(step.shape) ** 0.5
        singular_values = torch.linalg.svdvals(step) / scale
        assert singular_values.min() > 0.6
        assert singular_values.max() < 1.3
        cosine = (step * (left @ right)).sum() / step.norm() / (left @ right).norm()
        assert cosine > 0.95


def test_decay_of_muon_shrinks_weights_also_if_it_is_less_than_one():
    weights = []
    for decay in (0.0, 0.5):
        policy = Policy()
        before = policy.hidden.weight.detach().clone()
        optimizer_of("muon", policy, weight_decay=decay).step(policy.loss())
        weights.append(policy.hidden.weight.detach())
    torch.testing.assert_close(weights[0] - weights[1], 0.1 * 0.5 * before)


def test_what_muon_leaves_to_adam_has_a_learning_rate_of_its_own_and_keeps_the_ratio():
    optimizer = optimizer_of("muon", Policy(), learning_rate_adam=0.02)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.02])
    optimizer.set_learning_rate(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.01])


def test_a_torch_without_muon_is_named(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"torch .* has no Muon"):
        optimizer_of("muon", Policy())


def test_a_policy_without_hidden_matrices_has_nothing_for_muon():
    with pytest.raises(ConfigError, match="no hidden matrices"):
        optimizer_of("muon", nn.LayerNorm(3))


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="adamw_schedulefree"):
        Optimizer("sgdd", Policy())


def test_learning_rate_is_set_for_every_group():
    optimizer = optimizer_of("adam", nn.Linear(1, 1))
    optimizer.optimizers[0].add_param_group({"params": nn.Linear(1, 1).parameters()})
    optimizer.set_learning_rate(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize("kind", OPTIMIZER_TYPES)
def test_a_saved_optimizer_goes_on_as_if_it_had_not_been_saved(kind):
    policy = Policy()
    optimizer = optimizer_of(kind, policy)
    for _ in range(2):
        optimizer.step(policy.loss())
    optimizer.eval()
    saved = saved_and_read(optimizer.state_dict())
    other = Policy()
    other.load_state_dict(policy.state_dict())
    resumed = optimizer_of(kind, other)
    resumed.load_state_dict(saved)
    for going_on in (optimizer, resumed):
        going_on.train()
        going_on.step(going_on.policy.loss())
        going_on.eval()
    for name, part in policy.state_dict().items():
        assert torch.equal(part, other.state_dict()[name]), name


def test_the_state_of_another_type_is_refused():
    saved = optimizer_of("adam", Policy()).state_dict()
    with pytest.raises(CheckpointError, match="adam, not muon"):
        optimizer_of("muon", Policy()).load_state_dict(saved)


def test_schedule_free_shows_the_mean_of_its_weights_in_evaluation_and_the_others_in_training():
    policy = Policy()
    optimizer = optimizer_of("adamw_schedulefree", policy)
    for _ in range(3):
        optimizer.step(policy.loss())
    training = policy.hidden.weight.detach().clone()
    optimizer.eval()
    optimizer.eval()
    evaluation = policy.hidden.weight.detach().clone()
    assert (training - evaluation).abs().max() > 1e-3
    optimizer.train()
    torch.testing.assert_close(policy.hidden.weight.detach(), training)


def test_schedule_free_without_its_package_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "schedulefree":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "schedulefree", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"metta-cli\[schedulefree\]"):
        optimizer_of("adamw_schedulefree", Policy())
