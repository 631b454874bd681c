"""From the address of a policy to modules that play, each fitted to its environment."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from metta_cli.artifacts.checkpoints import WEIGHTS, Checkpoint, CheckpointManifest
from metta_cli.artifacts.foreign import ForeignCheckpoint, read_foreign, require_digest, require_sha256
from metta_cli.artifacts.loaders import DEFAULT_DATA_DIR, load_checkpoint
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import (
    CheckpointError,
    IncompatibleError,
    NotFoundError,
    PluginError,
    UnknownNameError,
)
from metta_cli.evaluation.episodes import environment_of
from metta_cli.extensions import SELECTION_VARIABLE
from metta_cli.policies.registry import create_policy, policy_factory
from metta_cli.policies.remapping import RemappedPolicy, interface_differences
from metta_cli.runs.external import ForeignPolicy, without_adapters

logger = logging.getLogger(__name__)


class LoadedPolicy(Protocol):
    """Weights that were loaded, and what it takes to act with them in any environment."""

    @property
    def description(self) -> dict[str, Any]:
        """What the weights are known by again: name, architecture, digests."""
        ...

    @property
    def passport(self) -> EnvironmentInterface | None:
        """What the policy was made for; None if that is not known."""
        ...

    @property
    def module(self) -> nn.Module:
        """The policy without any adapter; its tensors have the names that they were saved with."""
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
        PluginError: see `create_policy_of`.
        CheckpointError: if the architecture no longer fits the weights.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.manifest, self.device = checkpoint.manifest, device
        self.passport: EnvironmentInterface | None = self.manifest.passport
        self.policy = create_policy_of(self.manifest)
        load_weights(self.policy, checkpoint.weights, self.manifest.name)
        self.policy.to(device)
        logger.debug(
            "%s: policy %s %s, %d tensors, trained in %s for %d agent steps, on %s",
            self.manifest.name,
            self.manifest.architecture.name,
            self.manifest.architecture.args,
            len(checkpoint.weights),
            self.manifest.environment.name,
            self.manifest.agent_steps,
            device,
        )

    @property
    def module(self) -> nn.Module:
        """See `LoadedPolicy`."""
        return without_adapters(self.policy)

    @property
    def description(self) -> dict[str, Any]:
        """See `LoadedPolicy`."""
        return {
            "checkpoint": self.manifest.name,
            "agent_steps": self.manifest.agent_steps,
            "trained_on": self.manifest.environment.name,
            "architecture": self.manifest.architecture.model_dump(exclude_none=True),
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
class Trust:
    """What the user vouches for in a file that another tool wrote.

    Attributes:
        allow_pickle: it may hold a pickled module, which runs code of whoever wrote it.
        sha256: digest that the file must have, of a checkpoint of ours its weights; None does not look.
    """

    allow_pickle: bool = False
    sha256: str | None = None


NO_TRUST = Trust()


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
    trust: Trust = NO_TRUST,
) -> LoadedPolicy:
    """Return the policy at an address.

    Args:
        uri: of a checkpoint of ours, or of a file that another tool wrote.
        device: where the policy acts.
        data_dir: where runs are looked for by name.
        architecture: section `pytorch:` of the configuration, for the file of another tool; empty or None
            recognises it from the weights. A checkpoint of ours says itself what it is.
        trust: what the user vouches for in the file of another tool.

    Raises:
        MettaError: see `load_checkpoint`; the message begins with "Failed to load policy".
    """
    with failed_to_load():
        found = read_weights(uri, data_dir, trust)
        return playable(found, torch.device(device), architecture)


def read_weights(uri: str, data_dir: Path, trust: Trust) -> Checkpoint | ForeignCheckpoint:
    """Return the tensors at an address, on the CPU, with what is known of them; see `load_policy`."""
    require_sha256(uri, **asdict(trust))
    found = load_checkpoint(uri, data_dir=data_dir)
    if isinstance(found, Checkpoint):
        digest = found.manifest.files[WEIGHTS].sha256  # verified when it was read
        require_digest(digest, trust.sha256, f"{WEIGHTS} of checkpoint {found.manifest.name}")
        return found
    return read_foreign(found.path, **asdict(trust))


def playable(
    found: Checkpoint | ForeignCheckpoint, device: torch.device, architecture: Mapping[str, Any] | None
) -> LoadedPolicy:
    """Return the policy that tensors belong to; see `load_policy`."""
    if isinstance(found, Checkpoint):
        return CheckpointPolicy(found, device)
    return ForeignPolicy(found, device, architecture or {})


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


def create_policy_of(manifest: CheckpointManifest) -> nn.Module:
    """Build the policy that the weights of a checkpoint belong to.

    Raises:
        PluginError: see `require_plugin`.
    """
    require_plugin(manifest)
    architecture = manifest.architecture
    return create_policy(architecture.name, manifest.passport, architecture.args)


def require_plugin(manifest: CheckpointManifest) -> None:
    """Refuse a checkpoint whose policy is not installed here.

    Raises:
        PluginError: if the plugin that it came from is not installed, or broken; names the distribution.
    """
    architecture = manifest.architecture
    try:
        policy_factory(architecture.name)
    except UnknownNameError as error:
        origin, cure = "", f"install the plugin that has it; {error.cure}"
        if architecture.distribution is not None:
            origin = f" of {architecture.distribution} {architecture.version}"
            cure = f"pip install {architecture.distribution}=={architecture.version}"
        if SELECTION_VARIABLE in str(error.cure):
            cure = str(error.cure)
        raise PluginError(
            f"checkpoint {manifest.name} is policy '{architecture.name}'{origin}, which is not there", cure
        ) from error


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
