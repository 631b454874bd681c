"""Optimizers from their configuration."""

from __future__ import annotations

import torch
from torch import nn

from metta_cli.config.trainer import OptimizerConfig


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
