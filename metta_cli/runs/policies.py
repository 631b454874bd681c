"""From a checkpoint, or from nothing, to a policy on a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metta_cli.artifacts.checkpoints import Checkpoint
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError
from metta_cli.policies.registry import create_policy
from metta_cli.policies.remapping import RemappedPolicy, interface_differences


def policy_of(checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    """Rebuild the policy of a checkpoint, in the interface that it was trained with.

    Raises:
        PluginError: if its architecture cannot be loaded.
        CheckpointError: if the architecture no longer fits the weights.
    """
    manifest = checkpoint.manifest
    policy = create_policy(manifest.architecture.name, manifest.passport, manifest.architecture.args)
    load_weights(policy, checkpoint.weights, manifest.name)
    return policy.to(device)


def policy_for(
    checkpoint: Checkpoint, interface: EnvironmentInterface, device: torch.device
) -> tuple[nn.Module, list[str]]:
    """Return the policy of a checkpoint, fitted by name to an environment, and how the two differ.

    Raises:
        CheckpointError: if no action is shared, or the observation windows differ in size.
    """
    policy = policy_of(checkpoint, device)
    passport = checkpoint.manifest.passport
    differences = interface_differences(passport, interface)
    if not differences:
        return policy, differences
    try:
        return RemappedPolicy(policy, passport, interface).to(device), differences
    except ValueError as error:
        raise CheckpointError(
            f"checkpoint {checkpoint.manifest.name} does not fit this environment: {error}",
            "; ".join(differences),
        ) from None


def load_weights(policy: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Load every tensor by its exact name and shape.

    Args:
        policy: where the tensors go.
        weights: parameter name -> tensor.
        name: of the checkpoint, for messages.

    Raises:
        CheckpointError: if a tensor is missing, left over, or of another shape; it names them.
    """
    differences = weight_differences(policy.state_dict(), weights)
    if differences:
        shown = "; ".join(differences[:6]) + ("; ..." if len(differences) > 6 else "")
        raise CheckpointError(
            f"the weights of checkpoint {name} do not fit the policy: {shown}",
            "build the policy with the arguments that the checkpoint was trained with",
        )
    policy.load_state_dict(weights)


def weight_differences(expected: dict[str, Any], weights: dict[str, Tensor]) -> list[str]:
    """Return a line for each tensor that is missing, unknown, or of another shape."""
    lines = [f"{key} is missing" for key in expected if key not in weights]
    lines += [f"{key} is unknown" for key in weights if key not in expected]
    for key, tensor in weights.items():
        if key in expected and expected[key].shape != tensor.shape:
            lines.append(f"{key} is {list(tensor.shape)}, expected {list(expected[key].shape)}")
    return lines
