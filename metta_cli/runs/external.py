"""Policies that another tool trained: recognised or described, built, and fitted to environments."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metta_cli.artifacts.checkpoints import Architecture, Checkpoint, CheckpointManifest
from metta_cli.artifacts.foreign import ForeignCheckpoint
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.policies.compat2025 import Compat2025
from metta_cli.policies.external import PytorchAgent
from metta_cli.policies.inference import adapt_module, build_foreign, infer_architecture
from metta_cli.policies.passports import ADAPTER_KEYS, known_interface, shapes_of
from metta_cli.policies.remapping import RemappedPolicy, interface_differences
from metta_cli.policies.targets import TARGET
from metta_cli.runs.provenance import versions

EXTERNAL = "external"
"""Policy plugin that is any policy of another tool, once it is trained on here."""

OF_2025 = "shown today's world in the terms of July 2025"

logger = logging.getLogger(__name__)


class ForeignPolicy:
    """The policy in a file of another tool.

    Args:
        foreign: what the file holds.
        device: where the policy acts.
        architecture: `_target_` and its arguments; without `_target_` it is recognised from the tensors.

    Raises:
        CheckpointError: if the architecture is not recognised.
    """

    passport: EnvironmentInterface | None = None

    def __init__(
        self, foreign: ForeignCheckpoint, device: torch.device, architecture: Mapping[str, Any]
    ) -> None:
        self.foreign, self.device = foreign, device
        self.architecture, self.reasons = dict(architecture), ["the configuration says so"]
        self.pickled = None if TARGET in architecture else foreign.module
        if self.pickled is not None:
            name = f"{type(self.pickled).__module__}.{type(self.pickled).__qualname__}"
            self.architecture[TARGET], self.reasons = name, ["the file holds the module itself"]
        elif TARGET not in architecture:
            inferred = infer_architecture(foreign.tensors)
            self.architecture, self.reasons = {**inferred.config, **architecture}, inferred.reasons
        logger.info("%s is %s: %s", foreign.source, self.architecture[TARGET], "; ".join(self.reasons))
        self._fitted: dict[EnvironmentInterface, tuple[nn.Module, list[str]]] = {}

    @property
    def description(self) -> dict[str, Any]:
        """See `LoadedPolicy`."""
        arguments = {key: value for key, value in self.architecture.items() if key != TARGET}
        return {
            "file": self.foreign.source,
            "format": self.foreign.kind,
            "architecture": {"name": self.architecture[TARGET], "args": arguments},
            "recognised_by": self.reasons,
            "sha256": {self.foreign.source: self.foreign.sha256},
        }

    @property
    def module(self) -> nn.Module:
        """See `LoadedPolicy`; made for the environment that it was fitted to last."""
        return without_adapters(next(reversed(self._fitted.values()))[0])

    def fit(self, interface: EnvironmentInterface) -> tuple[nn.Module, list[str]]:
        """See `LoadedPolicy`."""
        if interface not in self._fitted:
            built = self._build(interface).to(self.device)
            self._fitted[interface] = built, self._differences(built, interface)
        return self._fitted[interface]

    def _build(self, interface: EnvironmentInterface) -> nn.Module:
        if self.pickled is None:
            return build_foreign(self.architecture, self.foreign.tensors, interface)
        return adapt_module(self.pickled, self.foreign.source, self._adapter, interface)

    def _differences(self, built: nn.Module, interface: EnvironmentInterface) -> list[str]:
        if isinstance(built, Compat2025):
            return [OF_2025]
        known, _ = self.known(interface)
        return interface_differences(known, interface)

    @property
    def _adapter(self) -> dict[str, Any]:
        """What the configuration says of the names that the policy knows."""
        return {key: self.architecture[key] for key in ADAPTER_KEYS if key in self.architecture}

    def known(self, interface: EnvironmentInterface) -> tuple[EnvironmentInterface, bool]:
        """Return the names that the policy is taken to know, and whether they are those of 2025."""
        return known_interface(self._adapter, shapes_of(self.foreign.tensors), interface)


def without_adapters(policy: nn.Module) -> nn.Module:
    """Return the module behind whatever fits it to an environment."""
    inner: Any = policy
    while isinstance(inner, Compat2025 | PytorchAgent | RemappedPolicy):
        inner = inner.module if isinstance(inner, PytorchAgent) else inner.policy
    module: nn.Module = inner
    return module


def to_checkpoint(
    foreign: ForeignCheckpoint, architecture: Mapping[str, Any], environment: EnvironmentSpec
) -> Checkpoint:
    """Return the policy in a file of another tool as a checkpoint of ours, to train on in one environment.

    Args:
        foreign: what the file holds.
        architecture: see `ForeignPolicy`.
        environment: where training goes on.

    Raises:
        CheckpointError: if the architecture is not recognised, or cannot act there.
    """
    policy = ForeignPolicy(foreign, torch.device("cpu"), architecture)
    interface = interface_of(build(environment))
    weights = policy.fit(interface)[0].state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in foreign.tensors.items()}
    arguments = {"architecture": policy.architecture, "shapes": shapes}
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(foreign.source).stem).lstrip(".-") or EXTERNAL
    manifest = CheckpointManifest(
        run=name[:128],
        epoch=0,
        agent_steps=0,
        architecture=Architecture.installed(EXTERNAL, arguments),
        passport=interface,
        environment=environment,
        versions=versions(),
    )
    return Checkpoint(manifest, weights)
