"""Optimizers from their configuration."""

from __future__ import annotations

import torch
from torch import nn

from metta_cli.config.trainer import OptimizerConfig, TrainerConfig


def create_optimizer(config: OptimizerConfig, policy: nn.Module) -> torch.optim.Optimizer:
    """Return Adam over all parameters of a policy (Kingma and Ba 2015, algorithm 1).

    Args:
        config: step size, betas, epsilon and weight decay.
        policy: whose parameters are optimized.
    """
    return torch.optim.Adam(
        policy.parameters(),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def learning_rate_at(config: TrainerConfig, agent_steps: int) -> float:
    """Return the learning rate after so many agent steps of a run.

    Args:
        config: with `lr_scheduler.anneal_lr` it falls linearly to 0 at `total_timesteps`.
        agent_steps: taken so far.
    """
    learning_rate = config.optimizer.learning_rate
    if not (config.lr_scheduler.enabled and config.lr_scheduler.anneal_lr):
        return learning_rate
    return learning_rate * max(0.0, 1.0 - agent_steps / config.total_timesteps)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
