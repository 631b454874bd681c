"""Muon for the matrices of hidden layers, convolutions included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from metta_cli.errors import ConfigError

HIDDEN_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.RNNBase,
    nn.MultiheadAttention,
)
OUTPUT_NAMES = frozenset(
    {"actor", "critic", "value", "value_head", "action_head", "actor_head", "policy_head", "head", "logits"}
)
"""Names of layers that make the outputs of a policy."""


def hidden_matrices(policy: nn.Module) -> list[nn.Parameter]:
    """Return the weights that Muon steps: those of linear, convolution, recurrent and attention layers.

    Left out are biases, norms, embeddings, single parameters of a policy, and layers that make the outputs:
    those with one output, and those called by one of `OUTPUT_NAMES` (`actor`, or `actor.0` of a list).

    Args:
        policy: any module.
    """
    found = []
    for name, layer in policy.named_modules():
        words = [word for word in name.split(".") if not word.isdigit()]
        if not isinstance(layer, HIDDEN_LAYERS) or (words and words[-1] in OUTPUT_NAMES):
            continue
        for parameter in layer.parameters(recurse=False):
            if parameter.dim() >= 2 and len(parameter) > 1:
                found.append(parameter)
    return found


class Muon:
    """`torch.optim.Muon`, which takes matrices only, for parameters of two and more dimensions.

    All dimensions but the first count as one. Steps are scaled to the length of Adam's.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale is that of Liu et al.
        2025, section 2.2, https://arxiv.org/abs/2502.16982.

    Args:
        parameters: of two or more dimensions.
        learning_rate: step size.
        momentum: decay of the running mean of the gradient.
        weight_decay: the weights shrink by this times the learning rate.

    Raises:
        ConfigError: if this torch has no Muon, or there is nothing to step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        *,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.parameters = list(parameters)
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"torch {torch.__version__} has no Muon optimizer", "install torch 2.9 or later, or take adam"
            )
        if not self.parameters:
            raise ConfigError("the policy has no hidden matrices for Muon to step", "take adam")
        self.matrices = [nn.Parameter(part.detach().flatten(1)) for part in self.parameters]
        self.inner = torch.optim.Muon(
            self.matrices,
            lr=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups; changing `lr` acts."""
        return self.inner.param_groups

    def state_dict(self) -> dict[str, Any]:
        """Return the momentum of every matrix."""
        return self.inner.state_dict()

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.inner.load_state_dict(data)

    @torch.no_grad()
    def step(self) -> None:
        """Take a step with the gradients of the parameters."""
        for parameter, matrix in zip(self.parameters, self.matrices, strict=True):
            matrix.copy_(parameter.flatten(1))
            matrix.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        self.inner.step()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for parameter, matrix in zip(self.parameters, self.matrices, strict=True):
            parameter.copy_(matrix.view_as(parameter))
            matrix.grad = None
