"""Which segments of the experience make up a minibatch, and how much each then counts.

Two ways: prioritized (drawn by size of advantage, anew for every minibatch, some segments never) and
sequential (a permutation of all segments, each once).
"""

from __future__ import annotations

import torch
from torch import Tensor

from metta_cli.algorithms.shapes import expect_shape

_PRIORITY_FLOOR = 1e-6


def segment_priorities(advantages: Tensor, prio_alpha: float) -> Tensor:
    """Return the probability of drawing each segment: `(sum_t |advantages|) ** prio_alpha`, normalized.

    A floor of 1e-6 before the normalization leaves every segment reachable, also one whose advantages are
    all 0. A NaN stays NaN, and `sample_segments` refuses it.

    Source: Schaul et al. 2016, "Prioritized Experience Replay", https://arxiv.org/abs/1511.05952, with a
        segment in the place of a transition.

    Args:
        advantages: `[S, T]`.
        prio_alpha: 0 draws uniformly, 1 in proportion to the advantages.

    Returns:
        `[S]` probabilities that sum to 1, without gradient.

    Raises:
        ValueError: if `advantages` is not `[S, T]`.
    """
    expect_shape((None, None), advantages=advantages)
    weights = advantages.detach().abs().sum(dim=1) ** prio_alpha + _PRIORITY_FLOOR
    return weights / weights.sum()


def sample_segments(priorities: Tensor, num: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw the segments of one minibatch, none of them twice.

    Args:
        priorities: `[S]` from `segment_priorities`.
        num: `M`, how many to draw, at most `S`.
        generator: source of randomness on the device of `priorities`; None is torch's global one.

    Returns:
        int64 `[M]` row numbers, on the device of `priorities`.

    Raises:
        ValueError: if `priorities` is not `[S]`.
        RuntimeError: from torch, if a priority is NaN or `num` exceeds `S`.
    """
    expect_shape((None,), priorities=priorities)
    return torch.multinomial(priorities, num, replacement=False, generator=generator)


def importance_weights(priorities: Tensor, indices: Tensor, beta: float) -> Tensor:
    """Return what undoes the bias of drawing by priority: `(S * p) ** -beta`, the largest of them set to 1.

    The division by the largest weight of the minibatch only ever scales updates down. Without it a segment
    with no advantage, should it be drawn, would count thousands of times.

    Source: Schaul et al. 2016, section 3.4, https://arxiv.org/abs/1511.05952.

    Args:
        priorities: `[S]` from `segment_priorities`.
        indices: int64 `[M]` from `sample_segments`.
        beta: 0 corrects nothing, 1 everything.

    Returns:
        `[M, 1]` in (0, 1], for `clipped_policy_loss`.

    Raises:
        ValueError: if a tensor has the wrong number of dimensions.
    """
    expect_shape((None,), priorities=priorities, indices=indices)
    weights = (len(priorities) * priorities[indices]) ** -beta
    return (weights / weights.max()).unsqueeze(1)


def permute_segments(
    num_segments: int, minibatch_segments: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return minibatches that together hold every segment exactly once, in random order.

    Args:
        num_segments: `S`.
        minibatch_segments: `M`, a divisor of `S`.
        generator: source of randomness on the CPU; None is torch's global one.

    Returns:
        int64 `[S / M, M]` row numbers, on the CPU.

    Raises:
        ValueError: if `M` does not divide `S`.
    """
    if minibatch_segments < 1 or num_segments % minibatch_segments != 0:
        raise ValueError(f"{num_segments} segments do not divide into minibatches of {minibatch_segments}")
    return torch.randperm(num_segments, generator=generator).view(-1, minibatch_segments)


def calculate_anneal_beta(
    epoch: int, total_timesteps: int, batch_size: int, prio_alpha: float, prio_beta0: float
) -> float:
    """Return the `beta` of `importance_weights` for an epoch, rising linearly over training.

    It goes from `prio_beta0` to `prio_beta0 + (1 - prio_beta0) * prio_alpha` in the last epoch and stays
    there: all the way to 1 only with `prio_alpha` 1, not at all with `prio_alpha` 0 (where the weights are
    1 anyway).

    Args:
        epoch: epochs done so far; one epoch is one batch, however often it is passed over.
        total_timesteps: length of training in agent steps.
        batch_size: agent steps per epoch.
        prio_alpha: that of `segment_priorities`.
        prio_beta0: value at epoch 0, in [0, 1].

    Returns:
        `beta`, in [0, 1].
    """
    total_epochs = max(1, total_timesteps // batch_size)
    progress = min(epoch / total_epochs, 1.0)
    return prio_beta0 + (1.0 - prio_beta0) * prio_alpha * progress
