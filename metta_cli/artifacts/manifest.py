"""What a checkpoint says about itself: `manifest.json`.

The manifest carries everything that is needed to build the policy again and to judge whether it fits
an environment, so that reading it needs neither torch nor the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, Field

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.section import Section
from metta_cli.extensions import POLICIES, list_plugins

FORMAT_VERSION = 1
"""Raised whenever an older reader would misunderstand the files of a checkpoint."""


RUN_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
"""A run name is a directory name, part of URIs and a W&B artifact name, and obeys the strictest of them."""


class Architecture(Section):
    """Which policy class the weights belong to."""

    name: str
    """Registered name of the policy, such as `fast`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments that it was built with."""
    distribution: str | None = None
    """Installed distribution that registered the name; None where that was not noted."""
    version: str | None = None
    """Version of that distribution."""

    @classmethod
    def installed(cls, name: str, args: Mapping[str, Any]) -> Architecture:
        """Return the architecture with where its name comes from on this machine."""
        for plugin in list_plugins(POLICIES):
            if plugin.name == name:
                return cls(
                    name=name, args=dict(args), distribution=plugin.distribution, version=plugin.version
                )
        return cls(name=name, args=dict(args))


class FileDigest(Section):
    """What a file must look like to be the one that was written."""

    sha256: str
    """Lower-case hexadecimal digest of the content."""
    bytes: int = Field(ge=0)
    """Size."""


class CheckpointManifest(Section):
    """Everything that a checkpoint states, apart from its tensors."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    format_version: int = FORMAT_VERSION
    """Version of the layout of the files."""
    run: str = Field(pattern=f"^{RUN_NAME}$")
    """Run that made it."""
    epoch: int = Field(ge=0)
    """Number of finished epochs; the `N` of `RUN:vN`."""
    agent_steps: int = Field(ge=0)
    """Environment steps summed over learner agents, since the start of training."""
    architecture: Architecture
    """Which policy class the weights belong to."""
    passport: EnvironmentInterface
    """Names behind the numbers that the policy was trained on."""
    environment: EnvironmentSpec
    """Environment that it was trained in."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Resolved configuration of the run."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Named evaluation results, as they are logged."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Whatever else a program wanted to keep beside the policy."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    """When it was saved, with time zone."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Distribution -> version, of everything that shapes the numbers."""
    files: dict[str, FileDigest] = Field(default_factory=dict)
    """Every other file of the checkpoint; filled in when it is saved."""

    @property
    def name(self) -> str:
        """`RUN:vEPOCH`, also the name of its directory."""
        return f"{self.run}:v{self.epoch}"

    def to_json(self) -> str:
        """Return the content of `manifest.json`."""
        return self.model_dump_json(indent=1) + "\n"
