"""The PPO losses and diagnostics against step-by-step references, worked numbers, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_close, minibatch
from references import ppo

from metta_cli.algorithms import diagnostics, losses

CLIP_COEFS = [0.1, 0.3]


def flat(*tensors):
    return [tensor.flatten().tolist() for tensor in tensors]


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


@pytest.fixture
def worked():
    """Three steps, computed by hand."""
    return {
        "log_probs": row(-0.9, -0.7, -2.0),
        "behavior_log_probs": row(-1.0, -0.5, -2.0),
        "advantages": row(1.0, -1.0, 0.5),
        "values": row(0.7, 0.35, 0.3),
        "behavior_values": row(0.5, 0.4, 0.3),
    }


def test_losses_and_diagnostics_give_the_worked_numbers(worked):
    new, old = worked["log_probs"], worked["behavior_log_probs"]
    advantages = losses.normalize_advantages(worked["advantages"])
    policy_loss = losses.clipped_policy_loss(new, old, advantages, 0.1)
    returns = worked["behavior_values"] + worked["advantages"]
    value_loss = losses.value_loss(worked["values"], worked["behavior_values"], returns, 0.1)
    total = losses.total_loss(policy_loss, value_loss, torch.tensor(1.2), vf_coef=0.44, ent_coef=0.0021)
    ratio = losses.log_importance_ratio(new, old).exp()
    for actual, expected in (
        (ratio, [[1.105171, 0.818731, 1.0]]),
        (advantages, [[0.800641, -1.120897, 0.320256]]),
        (policy_loss, -0.0640513),
        (value_loss, 0.3270833),
        (diagnostics.approx_kl(new, old), 0.0079672),
        (diagnostics.clip_fraction(new, old, 0.1), 0.666667),
        (total, 0.0773454),
    ):
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(actual.double(), expected, atol=6e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("clip_coef", CLIP_COEFS)
def test_policy_loss_is_the_negative_of_the_clipped_objective(clip_coef, dtype):
    batch = minibatch(dtype=dtype)
    tensors = batch["log_probs"], batch["behavior_log_probs"], batch["advantages"]
    actual = losses.clipped_policy_loss(*tensors, clip_coef)
    assert_close(actual, -ppo.policy_objective(*flat(*tensors), clip_coef))


def test_weights_scale_the_advantages_of_their_segment():
    batch = minibatch(seed=1)
    tensors = batch["log_probs"], batch["behavior_log_probs"], batch["advantages"]
    actual = losses.clipped_policy_loss(*tensors, 0.1, batch["weights"])
    by_segment = [
        weight * -ppo.policy_objective(*(tensor[segment].tolist() for tensor in tensors), 0.1)
        for segment, weight in enumerate(batch["weights"].flatten().tolist())
    ]
    assert_close(actual, ppo.mean(by_segment))


def test_policy_loss_pushes_towards_better_actions_until_the_clip_and_back_without_limit():
    # ratio: within the clip, above it, below it; each once with a good and once with a bad action
    new = row(0.0, 0.5, -0.5, 0.0, 0.5, -0.5).requires_grad_()
    advantages = row(1.0, 1.0, 1.0, -1.0, -1.0, -1.0)
    losses.clipped_policy_loss(new, torch.zeros_like(new), advantages, 0.2).backward()
    ratio = new.detach().exp()
    assert_close(new.grad, -advantages * ratio * row(1, 0, 1, 1, 1, 0) / 6)


def test_policy_loss_has_a_gradient_for_the_log_probs_alone():
    batch = {name: tensor.requires_grad_() for name, tensor in minibatch().items()}
    losses.clipped_policy_loss(
        batch["log_probs"], batch["behavior_log_probs"], batch["advantages"], 0.1, batch["weights"]
    ).backward()
    assert batch["log_probs"].grad.abs().sum() > 0
    assert all(batch[name].grad is None for name in ("behavior_log_probs", "advantages", "weights"))


def test_importance_ratio_stays_finite_for_any_log_probs():
    new, old = row(0.0, -500.0), row(-500.0, 0.0)
    assert_close(losses.log_importance_ratio(new, old), [[losses.MAX_LOG_RATIO, -losses.MAX_LOG_RATIO]])
    loss = losses.clipped_policy_loss(new.float(), old.float(), row(-1.0, -1.0).float(), 0.1)
    assert math.isfinite(loss)
    assert math.isfinite(diagnostics.approx_kl(new.float(), old.float()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("clip_coef", [0.1, 0.3, None])
def test_value_loss_is_half_the_larger_squared_error(clip_coef, dtype):
    batch = minibatch(dtype=dtype)
    tensors = batch["values"], batch["behavior_values"], batch["returns"]
    assert_close(losses.value_loss(*tensors, clip_coef), ppo.value_loss(*flat(*tensors), clip_coef))


def test_clipped_value_loss_stops_a_value_that_has_moved_far_enough_towards_its_target():
    # old value 0; moved within the clip, beyond it towards the target, and beyond it away from the target
    values = row(0.1, 0.5, -0.5).requires_grad_()
    losses.value_loss(values, row(0.0, 0.0, 0.0), row(2.0, 2.0, 2.0), 0.2).backward()
    assert_close(values.grad, row(0.1 - 2.0, 0.0, -0.5 - 2.0) / 3)


def test_value_loss_has_a_gradient_for_the_values_alone():
    batch = {name: tensor.requires_grad_() for name, tensor in minibatch().items()}
    losses.value_loss(batch["values"], batch["behavior_values"], batch["returns"], 0.1).backward()
    assert batch["values"].grad.abs().sum() > 0
    assert all(batch[name].grad is None for name in ("behavior_values", "returns"))


def test_total_loss_is_the_negative_of_the_objective():
    batch = minibatch(seed=2)
    policy_loss, value_loss = torch.tensor([0.3, 0.7], dtype=torch.float64)
    actual = losses.total_loss(policy_loss, value_loss, batch["entropy"], vf_coef=0.44, ent_coef=0.02)
    assert_close(actual, ppo.loss(-0.3, 0.7, batch["entropy"].flatten().tolist(), 0.44, 0.02))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_normalized_advantages_have_mean_0_and_unbiased_deviation_1(dtype):
    advantages = minibatch(seed=3, segments=2, horizon=3, dtype=dtype)["advantages"] * 5 + 2
    expected = ppo.normalized(advantages.flatten().tolist())
    assert_close(losses.normalize_advantages(advantages).flatten(), expected)


def test_tiny_advantages_are_not_blown_up_to_full_size():
    # The deviation is sqrt(2) * 1e-8, so that the 1e-8 in the denominator decides.
    actual = losses.normalize_advantages(row(1e-8, -1e-8))
    assert_close(actual, [[1 / (2**0.5 + 1), -1 / (2**0.5 + 1)]])


# The mean of 1000 times 0.1 in float32 is not 0.1.
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.0, 1e6])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (10, 100)])
def test_equal_advantages_normalize_to_zeros(constant, shape):
    actual = losses.normalize_advantages(torch.full(shape, constant))
    assert torch.equal(actual, torch.zeros(shape))


def test_parts_are_normalized_by_the_statistics_of_the_whole():
    whole = torch.randn(6, 5, generator=torch.Generator().manual_seed(4))
    statistics = losses.advantage_statistics(whole.requires_grad_())
    parts = [losses.normalize_advantages(part, statistics) for part in whole.split(2)]
    assert_close(torch.cat(parts).flatten(), ppo.normalized(whole.flatten().tolist()))
    assert not any(part.requires_grad for part in (*parts, *statistics))


def test_normalized_advantages_carry_no_gradient():
    assert not losses.normalize_advantages(row(1.0, 2.0).requires_grad_()).requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_approx_kl_is_the_k3_estimate(dtype):
    batch = minibatch(dtype=dtype)
    tensors = batch["log_probs"], batch["behavior_log_probs"]
    assert_close(diagnostics.approx_kl(*tensors), ppo.approx_kl(*flat(*tensors)))


def test_approx_kl_has_the_divergence_as_its_expectation():
    behavior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    policy = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    # Ten actions in exactly the proportions of the behavior policy.
    actions = torch.tensor([[0] * 5 + [1] * 3 + [2] * 2])
    divergence = (behavior * (behavior / policy).log()).sum()
    assert_close(diagnostics.approx_kl(policy.log()[actions], behavior.log()[actions]), divergence)


def test_approx_kl_of_small_changes_is_exact_in_float32():
    # (ratio - 1) - log(ratio) computed as such loses every digit here.
    change = torch.full((1, 4), 1e-4)
    actual = diagnostics.approx_kl(change, torch.zeros(1, 4))
    torch.testing.assert_close(actual, torch.tensor(5e-9), rtol=0.05, atol=0)


@pytest.mark.parametrize("clip_coef", CLIP_COEFS)
def test_clip_fraction_counts_ratios_outside_the_clip(clip_coef):
    batch = minibatch()
    tensors = batch["log_probs"], batch["behavior_log_probs"]
    expected = ppo.clip_fraction(*flat(*tensors), clip_coef)
    assert 0 < expected < 1
    assert_close(diagnostics.clip_fraction(*tensors, clip_coef), expected)


def test_explained_variance_compares_residuals_with_targets():
    batch = minibatch()
    tensors = batch["values"], batch["returns"]
    assert_close(diagnostics.explained_variance(*tensors), ppo.explained_variance(*flat(*tensors)))


def test_explained_variance_is_1_for_the_targets_and_0_for_their_mean():
    returns = minibatch()["returns"]
    assert_close(diagnostics.explained_variance(returns, returns), 1.0)
    assert_close(diagnostics.explained_variance(returns.mean().expand_as(returns), returns), 0.0)


@pytest.mark.parametrize("target", [0.0, 0.1])
def test_explained_variance_of_equal_targets_is_0(target):
    returns = torch.full((10, 100), target)
    for values in (returns, torch.arange(1000.0).view(10, 100)):
        assert diagnostics.explained_variance(values, returns) == 0.0


def test_diagnostics_carry_no_gradient():
    batch = {name: tensor.requires_grad_() for name, tensor in minibatch().items()}
    tensors = batch["log_probs"], batch["behavior_log_probs"]
    assert not diagnostics.approx_kl(*tensors).requires_grad
    assert not diagnostics.clip_fraction(*tensors, 0.1).requires_grad
    assert not diagnostics.explained_variance(batch["values"], batch["returns"]).requires_grad


@pytest.mark.parametrize(
    "call",
    [
        lambda good, bad: losses.clipped_policy_loss(good, bad, good, 0.1),
        lambda good, bad: losses.clipped_policy_loss(good, good, bad, 0.1),
        lambda good, bad: losses.clipped_policy_loss(good, good, good, 0.1, bad[0]),
        lambda good, bad: losses.value_loss(good, bad, good, 0.1),
        lambda good, bad: losses.value_loss(good, good, bad, None),
        lambda good, bad: losses.total_loss(good, bad[0, 0], good, vf_coef=1.0, ent_coef=1.0),
        lambda good, bad: diagnostics.approx_kl(good, bad),
        lambda good, bad: diagnostics.clip_fraction(good, bad, 0.1),
        lambda good, bad: diagnostics.explained_variance(bad, good),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call):
    with pytest.raises(ValueError, match="has shape"):
        call(torch.zeros(4, 8), torch.zeros(4, 1))
