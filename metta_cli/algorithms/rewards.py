"""Rewards relative to what an agent is used to."""

from __future__ import annotations

from torch import Tensor

from metta_cli.algorithms.shapes import expect_shape


def center_rewards(rewards: Tensor, means: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return rewards less their running mean, and the running mean with them in it.

    The mean is that before the rewards: `rewards - means` and `means + beta * (rewards - means)`. Without the
    constant part of the rewards, values stay bounded with a discount of 1.

    Source: Naik et al. 2024, "Reward Centering", equation 4, https://arxiv.org/abs/2405.09999.

    Args:
        rewards: `[N]`, of one step.
        means: `[N]`, zeros at the start.
        beta: share of the newest reward, in [0, 1]; 0 leaves rewards and means as they are.

    Raises:
        ValueError: if the shapes differ.
    """
    expect_shape(rewards.shape, means=means)
    centered = rewards - means
    return centered, means + beta * centered
