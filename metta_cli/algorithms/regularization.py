"""What keeps weights small, or near where they were: terms of the loss, with gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

OTHER_LAYERS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)


def layer_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of linear and convolution layers by the name of their layer, without copying.

    Such a layer is any that has a `weight` of two or more dimensions and is no embedding and no norm. Biases
    and recurrent weights do not count either.
    """
    layers = {name: layer for name, layer in module.named_modules() if not isinstance(layer, OTHER_LAYERS)}
    weights = {name: getattr(layer, "weight", None) for name, layer in layers.items()}
    return {
        name: weight
        for name, weight in weights.items()
        if isinstance(weight, nn.Parameter) and weight.dim() >= 2
    }


def squared_norm(weights: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the squares of all weights: a scalar, differentiable in them.

    Args:
        weights: name -> any shape.
    """
    return _total([weight.square().sum() for weight in weights.values()])


def squared_distance(weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the squares of `weight - reference`: a scalar, differentiable in the weights.

    Source: Kumar et al. 2024, "Maintaining Plasticity in Continual Learning via Regenerative
        Regularization", equation 1, https://arxiv.org/abs/2308.11958, without biases.

    Args:
        weights: name -> any shape.
        reference: the same names and shapes; constants.

    Raises:
        ValueError: if the names differ.
    """
    if weights.keys() != reference.keys():
        raise ValueError(
            f"weights {sorted(weights)} and reference {sorted(reference)} are not of one network"
        )
    return _total([(weight - reference[name].detach()).square().sum() for name, weight in weights.items()])


def _total(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum() if terms else torch.zeros(())
