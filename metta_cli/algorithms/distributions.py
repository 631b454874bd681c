"""The categorical distribution over flat actions, with masks and with noise that the caller may supply.

Every function takes unnormalized logits. Log-probabilities are logits too (normalizing twice changes
nothing), and `-inf` is a legal logit of an action that cannot be taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.nn import functional as F

from metta_cli.algorithms.shapes import expect_shape

_part: ContextVar[tuple[int, int]] = ContextVar("part of a batch", default=(0, 1))


def log_softmax(logits: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Return the log-probability of every action; `-inf` where the mask forbids it.

    Args:
        logits: `[..., A]`.
        action_mask: bool `[..., A]`, True = allowed; None allows all.

    Returns:
        `[..., A]` log-probabilities.

    Raises:
        TypeError: if the mask is not bool (a float mask of the opposite sense would go unnoticed).
        ValueError: if the mask has another shape, or forbids every action of a row.
    """
    if action_mask is not None:
        logits = _masked(logits, action_mask)
    return F.log_softmax(logits, dim=-1)


def log_prob(logits: Tensor, actions: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Return the log-probability of each given action.

    Args:
        logits: `[..., A]`.
        actions: int64 `[...]`.
        action_mask: as in `log_softmax`.

    Returns:
        `[...]`.

    Raises:
        TypeError: as in `log_softmax`.
        ValueError: as in `log_softmax`, or if `actions` does not fit `logits`.
    """
    expect_shape(logits.shape[:-1], actions=actions)
    return log_softmax(logits, action_mask).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Return the entropy of each distribution in nats; impossible actions count nothing.

    Value and gradient stay finite where a probability is exactly 0.

    Args:
        logits: `[..., A]`.
        action_mask: as in `log_softmax`.

    Returns:
        `[...]`, between 0 and `log A`.

    Raises:
        TypeError: as in `log_softmax`.
        ValueError: as in `log_softmax`.
    """
    log_probs = log_softmax(logits, action_mask)
    surprise = -log_probs.masked_fill(log_probs.isneginf(), 0.0)
    return (log_probs.exp() * surprise).sum(-1)


def sample(
    logits: Tensor, generator: torch.Generator | None = None, action_mask: Tensor | None = None
) -> Tensor:
    """Draw one action from each distribution.

    Args:
        logits: `[..., A]`.
        generator: source of randomness on the device of `logits`; None is torch's global one.
        action_mask: as in `log_softmax`.

    Returns:
        int64 `[...]`.

    Raises:
        TypeError: as in `log_softmax`.
        ValueError: as in `log_softmax`.
    """
    index, count = _part.get()
    rows, *rest = logits.shape
    uniform = torch.rand((count * rows, *rest), generator=generator, device=logits.device)
    return sample_with_noise(logits, uniform[index * rows : (index + 1) * rows], action_mask)


@contextmanager
def part_of_batch(index: int, count: int) -> Iterator[None]:
    """Take what `sample` is given for the `index`-th of `count` equal parts of a batch.

    It then draws the noise of the whole batch: processes with equal random states that each act for a part
    draw what one process would draw for all.

    Args:
        index: which part, from 0.
        count: how many there are.
    """
    token = _part.set((index, count))
    try:
        yield
    finally:
        _part.reset(token)


def sample_with_noise(logits: Tensor, uniform: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """Return the action that the given noise picks from each distribution (the Gumbel-max trick).

    With independent uniform noise the actions follow the distribution. A row depends on its own noise only,
    so an episode that brings its own noise plays the same in any batch and on any number of workers.

    Source: Maddison, Tarlow and Minka 2014, "A* Sampling", https://arxiv.org/abs/1411.0030.

    Args:
        logits: `[..., A]`.
        uniform: `[..., A]` noise in [0, 1).
        action_mask: as in `log_softmax`.

    Returns:
        int64 `[...]`.

    Raises:
        TypeError: as in `log_softmax`.
        ValueError: as in `log_softmax`, or if the noise has another shape than the logits.
    """
    expect_shape(logits.shape, uniform=uniform)
    if action_mask is not None:
        logits = _masked(logits, action_mask)
    limits = torch.finfo(uniform.dtype)
    gumbel = -torch.log(-torch.log(uniform.clamp(limits.tiny, 1.0 - limits.eps / 2)))
    return (logits + gumbel).argmax(-1)


def _masked(logits: Tensor, action_mask: Tensor) -> Tensor:
    if action_mask.dtype != torch.bool:
        raise TypeError(f"action_mask has dtype {action_mask.dtype}, expected bool (True = allowed)")
    expect_shape(logits.shape, action_mask=action_mask)
    if not bool(action_mask.any(-1).all()):
        raise ValueError("action_mask forbids every action of a row")
    return logits.masked_fill(~action_mask, float("-inf"))
