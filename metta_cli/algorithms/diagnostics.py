"""Numbers that tell whether an update went well; none of them has a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from metta_cli.algorithms.losses import log_importance_ratio
from metta_cli.algorithms.shapes import expect_shape


@torch.no_grad()
def approx_kl(log_probs: Tensor, behavior_log_probs: Tensor) -> Tensor:
    """Return an estimate of KL(behavior || policy) in nats: the mean of `(ratio - 1) - log(ratio)`.

    Unlike the plain mean of `-log(ratio)` it is never negative and varies less (the estimator called k3).

    Source: Schulman 2020, http://joschu.net/blog/kl-approx.html.

    Args:
        log_probs: `[M, T]` log-probability of each action under the policy being trained.
        behavior_log_probs: `[M, T]` the same under the policy that acted.

    Returns:
        Scalar.

    Raises:
        ValueError: if the shapes differ.
    """
    log_ratio = log_importance_ratio(log_probs, behavior_log_probs)
    return (log_ratio.expm1() - log_ratio).mean()


@torch.no_grad()
def clip_fraction(log_probs: Tensor, behavior_log_probs: Tensor, clip_coef: float) -> Tensor:
    """Return the share of steps whose importance ratio is further than `clip_coef` from 1.

    Args:
        log_probs: `[M, T]` log-probability of each action under the policy being trained.
        behavior_log_probs: `[M, T]` the same under the policy that acted.
        clip_coef: that of `clipped_policy_loss`.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: if the shapes differ.
    """
    change = log_importance_ratio(log_probs, behavior_log_probs).expm1()
    return (change.abs() > clip_coef).to(change.dtype).mean()


@torch.no_grad()
def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """Return `1 - Var(returns - values) / Var(returns)`, the share of the targets that the critic explains.

    1 is a perfect critic, 0 one that does no better than a constant; worse is negative, without a bound.
    Equal targets have no variance to explain: the ratio is undefined, and the result is 0.

    Args:
        values: any shape, critic output.
        returns: the same shape, its targets.

    Returns:
        Scalar, at most 1.

    Raises:
        ValueError: if the shapes differ.
    """
    expect_shape(returns.shape, values=values)
    explained = 1.0 - (returns - values).var(correction=0) / returns.var(correction=0)
    is_constant = returns.amax() == returns.amin()
    return torch.where(is_constant, torch.zeros_like(explained), explained)
