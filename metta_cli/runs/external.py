"""Policies that another tool trained: recognised or described, built, and fitted to environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metta_cli.artifacts.foreign import ForeignCheckpoint
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError, MettaError
from metta_cli.policies.external import PytorchAgent


class ForeignPolicy:
    """The policy in a file of another tool.

    Args:
        foreign: what the file holds.
        device: where the policy acts.
        architecture: `_target_` and its arguments; empty recognises the architecture from the tensors.

    Raises:
        CheckpointError: if the architecture is not recognised.
    """

    def __init__(
        self, foreign: ForeignCheckpoint, device: torch.device, architecture: Mapping[str, Any]
    ) -> None:
        self.foreign, self.device = foreign, device
        if foreign.module is None:
            raise CheckpointError(
                f"{foreign.source} holds weights and no architecture", "this version knows none"
            )
        self.module: nn.Module = foreign.module.to(device)
        self.passport: EnvironmentInterface | None = None
        self._agents: dict[EnvironmentInterface, nn.Module] = {}

    @property
    def description(self) -> dict[str, Any]:
        """See `LoadedPolicy`."""
        return {
            "file": self.foreign.source,
            "format": self.foreign.kind,
            "architecture": {"name": type(self.module).__qualname__, "args": {}},
            "sha256": {self.foreign.source: self.foreign.sha256},
        }

    def fit(self, interface: EnvironmentInterface) -> tuple[nn.Module, list[str]]:
        """See `LoadedPolicy`."""
        if interface not in self._agents:
            self._agents[interface] = self._agent(interface)
        return self._agents[interface], []

    def _agent(self, interface: EnvironmentInterface) -> nn.Module:
        agent = PytorchAgent(self.module, interface, self.foreign.source).to(self.device)
        try:
            agent.check()
        except MettaError:
            raise
        except Exception as error:  # it is a stranger's code that runs
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{self.foreign.source} fails on an observation of this environment: "
                f"{type(error).__name__}: {reason}",
                "--debug shows where; it may be made for other observations or actions",
            ) from error
        return agent
