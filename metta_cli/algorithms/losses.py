"""The parts of the PPO loss.

Source of all of them: Schulman et al. 2017, https://arxiv.org/abs/1707.06347.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metta_cli.algorithms.shapes import expect_shape

MAX_LOG_RATIO = 10.0
"""Bound on the log of the importance ratio: `exp` of more soon overflows and one NaN ends a run."""

_NORMALIZATION_EPS = 1e-8


def log_importance_ratio(log_probs: Tensor, behavior_log_probs: Tensor) -> Tensor:
    """Return `log_probs - behavior_log_probs`, limited to `MAX_LOG_RATIO` on both sides.

    A step beyond the limit has no gradient. Take `exp` for the importance ratio.

    Args:
        log_probs: `[M, T]` log-probability of each action under the policy being trained.
        behavior_log_probs: `[M, T]` the same under the policy that acted.

    Returns:
        `[M, T]`, differentiable in `log_probs`.

    Raises:
        ValueError: if the shapes differ.
    """
    expect_shape(log_probs.shape, behavior_log_probs=behavior_log_probs)
    return (log_probs - behavior_log_probs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_policy_loss(
    log_probs: Tensor,
    behavior_log_probs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Return PPO's clipped surrogate as a loss: the mean of `-min(ratio * A, clip(ratio) * A)`.

    The gradient reaches `log_probs` only; advantages and weights are constants, whatever they came from.

    Args:
        log_probs: `[M, T]` log-probability of each action under the policy being trained.
        behavior_log_probs: `[M, T]` the same under the policy that acted.
        advantages: `[M, T]`, normalized or not.
        clip_coef: how far the ratio may move from 1 before its gradient stops.
        weights: `[M, 1]` importance weight of each segment, applied to its advantages; None is 1.

    Returns:
        Scalar.

    Raises:
        ValueError: if the shapes differ.
    """
    expect_shape(log_probs.shape, advantages=advantages)
    advantages = advantages.detach()
    if weights is not None:
        expect_shape((log_probs.shape[0], 1), weights=weights)
        advantages = advantages * weights.detach()
    ratio = log_importance_ratio(log_probs, behavior_log_probs.detach()).exp()
    clipped_ratio = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    return torch.maximum(-advantages * ratio, -advantages * clipped_ratio).mean()


def value_loss(values: Tensor, behavior_values: Tensor, returns: Tensor, clip_coef: float | None) -> Tensor:
    """Return half the mean squared error of the critic, clipped around its earlier output.

    The clipped form takes the larger of two errors: that of the new value, and that of the new value held
    within `clip_coef` of the old one. It only removes the gradient of values that have moved far towards
    their target.

    Args:
        values: `[M, T]` output of the critic being trained.
        behavior_values: `[M, T]` its output when the experience was collected.
        returns: `[M, T]` targets, `advantages + behavior_values`.
        clip_coef: how far a value may move, in discounted reward; None does not clip.

    Returns:
        Scalar, differentiable in `values`.

    Raises:
        ValueError: if the shapes differ.
    """
    expect_shape(values.shape, behavior_values=behavior_values, returns=returns)
    behavior_values, returns = behavior_values.detach(), returns.detach()
    squared_error = (values - returns).square()
    if clip_coef is not None:
        change = (values - behavior_values).clamp(-clip_coef, clip_coef)
        squared_error = torch.maximum(squared_error, (behavior_values + change - returns).square())
    return 0.5 * squared_error.mean()


def total_loss(
    policy_loss: Tensor, value_loss: Tensor, entropy: Tensor, *, vf_coef: float, ent_coef: float
) -> Tensor:
    """Return the loss to minimize: `policy_loss + vf_coef * value_loss - ent_coef * mean(entropy)`.

    Args:
        policy_loss: scalar, from `clipped_policy_loss`.
        value_loss: scalar, from `value_loss`.
        entropy: of each action distribution, in nats, any shape; more of it lowers the loss.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus.

    Returns:
        Scalar.
    """
    expect_shape((), policy_loss=policy_loss, value_loss=value_loss)
    return policy_loss + vf_coef * value_loss - ent_coef * entropy.mean()


def advantage_statistics(advantages: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased standard deviation, two scalars, for `normalize_advantages`.

    Equal advantages, also a single one, say nothing about which action was better: their deviation is taken
    to be infinite, so that they become zeros. (The formula itself gives NaN for a single element, and
    rounding errors divided by 1e-8 for equal ones.)

    Args:
        advantages: any shape, not empty.
    """
    advantages = advantages.detach()
    deviation = advantages.std(correction=1) if advantages.numel() > 1 else torch.zeros_like(advantages.sum())
    is_constant = advantages.amax() == advantages.amin()
    return advantages.mean(), torch.where(is_constant, torch.full_like(deviation, torch.inf), deviation)


def normalize_advantages(advantages: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Return `(advantages - mean) / (std + 1e-8)`.

    Args:
        advantages: any shape, not empty.
        statistics: mean and deviation, of a whole of which these are a part; None takes their own.

    Returns:
        The same shape, without gradient.
    """
    advantages = advantages.detach()
    mean, deviation = advantage_statistics(advantages) if statistics is None else statistics
    return (advantages - mean) / (deviation + _NORMALIZATION_EPS)
