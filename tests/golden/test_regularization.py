"""Terms of the loss that keep weights small or near, and rewards less their mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metta_cli.algorithms.regularization import layer_weights, squared_distance, squared_norm
from metta_cli.algorithms.rewards import center_rewards


class OwnConvolution(nn.Module):
    """A layer that torch does not know, as the first one of `fast` is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 2, 2))
        self.bias = nn.Parameter(torch.zeros(3))


def network():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(2, 3, 2),
            "own": OwnConvolution(),
            "norm": nn.LayerNorm((4, 4)),
            "embedding": nn.Embedding(5, 4),
            "lstm": nn.LSTM(4, 4),
            "head": nn.Sequential(nn.Linear(4, 3), nn.ConvTranspose2d(2, 2, 2)),
        }
    )


def test_weights_of_linear_and_convolution_layers_count_and_nothing_else():
    weights = layer_weights(network())
    assert weights.keys() == {"conv", "own", "head.0", "head.1"}


def test_squared_norm_is_the_sum_of_all_squares_and_has_a_gradient_of_twice_the_weights():
    module = network()
    weights = layer_weights(module)
    expected = sum(entry**2 for weight in weights.values() for entry in weight.flatten().tolist())
    loss = squared_norm(weights)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    for weight in weights.values():
        torch.testing.assert_close(weight.grad, 2 * weight.detach())
    assert module["conv"].bias.grad is None
    assert module["lstm"].weight_hh_l0.grad is None


def test_squared_distance_is_zero_at_the_reference_and_pulls_back_to_it():
    weights = layer_weights(network())
    reference = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    assert float(squared_distance(weights, reference).detach()) == 0
    with torch.no_grad():
        weights["conv"].add_(0.5)
    loss = squared_distance(weights, reference)
    assert float(loss.detach()) == pytest.approx(0.25 * weights["conv"].numel(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(weights["conv"].grad, torch.ones_like(weights["conv"]))
    assert all(weight.grad is None for weight in reference.values())


def test_reference_of_another_network_is_refused():
    with pytest.raises(ValueError, match="of one network"):
        squared_distance(layer_weights(network()), {})


def test_network_without_such_layers_has_no_loss():
    assert float(squared_norm({})) == 0


def test_centered_rewards_are_those_of_a_loop():
    rewards = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 2.0, -1.0])
    means = torch.zeros(3)
    for step, row in enumerate(rewards):
        centered, means = center_rewards(row, means, 0.1)
        for agent in range(3):
            mean = 0.0
            for past in rewards[:step, agent].tolist():
                mean = 0.9 * mean + 0.1 * past
            assert float(centered[agent]) == pytest.approx(float(row[agent]) - mean, abs=1e-5)


def test_without_beta_rewards_and_means_stay():
    rewards = torch.tensor([1.0, -2.0])
    centered, means = center_rewards(rewards, torch.zeros(2), 0.0)
    assert torch.equal(centered, rewards)
    assert torch.equal(means, torch.zeros(2))


def test_means_of_other_agents_are_refused():
    with pytest.raises(ValueError, match="means"):
        center_rewards(torch.zeros(3), torch.zeros(1), 0.1)
