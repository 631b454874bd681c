"""From the address of a policy to modules that play, each fitted to its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from metta_cli.artifacts.checkpoints import Checkpoint
from metta_cli.artifacts.loaders import DEFAULT_DATA_DIR, load_checkpoint
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import CheckpointError, IncompatibleError, NotFoundError
from metta_cli.evaluation.episodes import environment_of
from metta_cli.policies.registry import create_policy
from metta_cli.policies.remapping import RemappedPolicy, interface_differences


class LoadedPolicy(Protocol):
    """Weights that were loaded, and what it takes to act with them in any environment."""

    @property
    def description(self) -> dict[str, Any]:
        """What the weights are known by again: name, architecture, digests."""
        ...

    def fit(self, interface: EnvironmentInterface) -> tuple[nn.Module, list[str]]:
        """Return a module that follows the contract of a policy in one environment.

        Args:
            interface: of the environment.

        Returns:
            The module, on the device of the weights, and a line for each way in which the environment
            differs from the one that the policy was made for.

        Raises:
            CheckpointError: if it cannot act there.
        """
        ...


class CheckpointPolicy:
    """The policy of a checkpoint of ours.

    Args:
        checkpoint: what was loaded.
        device: where the policy acts.

    Raises:
        PluginError: if its architecture cannot be loaded.
        CheckpointError: if the architecture no longer fits the weights.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.manifest, self.device = checkpoint.manifest, device
        architecture = self.manifest.architecture
        self.policy = create_policy(architecture.name, self.manifest.passport, architecture.args)
        load_weights(self.policy, checkpoint.weights, self.manifest.name)
        self.policy.to(device)

    @property
    def description(self) -> dict[str, Any]:
        """See `LoadedPolicy`."""
        return {
            "checkpoint": self.manifest.name,
            "agent_steps": self.manifest.agent_steps,
            "trained_on": self.manifest.environment.name,
            "architecture": self.manifest.architecture.model_dump(),
            "sha256": {name: digest.sha256 for name, digest in self.manifest.files.items()},
        }

    def fit(self, interface: EnvironmentInterface) -> tuple[nn.Module, list[str]]:
        """See `LoadedPolicy`."""
        differences = interface_differences(self.manifest.passport, interface)
        if not differences:
            return self.policy, []
        try:
            remapped = RemappedPolicy(self.policy, self.manifest.passport, interface)
        except ValueError as error:
            raise CheckpointError(
                "; ".join([str(error), *differences]),
                "evaluate it on an environment like the one that it was trained on",
            ) from None
        return remapped.to(self.device), differences


@dataclass(frozen=True)
class Fit:
    """How a policy gets on with one simulation.

    Attributes:
        differences: what was matched by name, a line each; empty if nothing had to be.
        obstacle: why it cannot play there; None if it can.
    """

    differences: list[str] = field(default_factory=list)
    obstacle: CheckpointError | None = None


def load_policy(
    uri: str,
    device: torch.device | str = "cpu",
    *,
    data_dir: Path = DEFAULT_DATA_DIR,
    architecture: Mapping[str, Any] | None = None,
    allow_pickle: bool = False,
) -> LoadedPolicy:
    """Return the policy at an address.

    Args:
        uri: of a checkpoint of ours, or of a file that another tool wrote.
        device: where the policy acts.
        data_dir: where runs are looked for by name.

    Raises:
        MettaError: see `load_checkpoint`; the message begins with "Failed to load policy".
    """
    device = torch.device(device)
    with failed_to_load():
        found = load_checkpoint(uri, str(device), data_dir=data_dir)
        if isinstance(found, Checkpoint):
            return CheckpointPolicy(found, device)
        raise CheckpointError(f"{found.path} is a file, and a checkpoint is a directory")


@contextmanager
def failed_to_load() -> Iterator[None]:
    """Say before the message of whatever is missing, damaged or does not fit that it is about the policy."""
    try:
        yield
    except (IncompatibleError, NotFoundError) as error:
        raise type(error)(f"Failed to load policy: {error.message}", error.cure) from error


def suite_fits(policy: LoadedPolicy, suite: SimulationSuiteConfig) -> dict[str, Fit]:
    """Say of every simulation of a suite whether, and how, a policy can play it."""
    fits = {}
    for name, simulation in suite.simulations.items():
        interface = interface_of(build(environment_of(simulation)))
        try:
            fits[name] = Fit(policy.fit(interface)[1])
        except CheckpointError as error:
            fits[name] = Fit(obstacle=error)
    return fits


def load_weights(policy: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
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


def weight_differences(expected: Mapping[str, Any], weights: Mapping[str, Tensor]) -> list[str]:
    """Return a line for each tensor that is missing, unknown, or of another shape."""
    lines = [f"{key} is missing" for key in expected if key not in weights]
    lines += [f"{key} is unknown" for key in weights if key not in expected]
    for key, tensor in weights.items():
        if key in expected and expected[key].shape != tensor.shape:
            lines.append(f"{key} is {list(tensor.shape)}, expected {list(expected[key].shape)}")
    return lines
