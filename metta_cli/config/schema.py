"""The whole configuration of a run: the root of every key that a user can set."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.section import Section
from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.config.trainer import TrainerConfig, unsupported_settings, why_unsupported

__all__ = [
    "MettaConfig",
    "PolicyConfig",
    "SimConfig",
    "WandbConfig",
    "unsupported_settings",
    "why_unsupported",
]


class PolicyConfig(Section):
    """The architecture of the policy."""

    name: str = "fast"
    """Name that a plugin registers."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the plugin."""


class SimConfig(Section):
    """Evaluation on its own, as `metta eval` does it."""

    suite: SimulationSuiteConfig | None = None
    """What is evaluated; a name stands for the suite of that name."""
    episodes: int | None = Field(default=None, ge=1)
    """Episodes per environment; None leaves it to the suite."""
    render: bool = False
    """Whether the first episode of every simulation is recorded, and played in the terminal."""
    num_workers: int | None = Field(default=None, ge=0)
    """Processes that step environments; 0 steps them in the main process, None suits the machine."""


class WandbConfig(Section):
    """Tracking with Weights & Biases."""

    mode: Literal["off", "online", "offline"] = "off"
    """Whether metrics go to W&B, and whether at once or to local files for a later upload."""
    entity: str | None = None
    """Team or user that owns the project; None is the default of the account."""
    project: str = "metta"
    """Project."""
    group: str | None = None
    """Group of runs."""
    tags: list[str] = Field(default_factory=list)
    """Tags of the run."""
    notes: str | None = None
    """Free text."""


class MettaConfig(Section):
    """Everything that training and evaluation need to know."""

    run: str | None = None
    """Name of the run and of its directory; None makes one from the time."""
    data_dir: str = "./train_dir"
    """Where run directories are."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of weights, actions, maps and simulations."""
    device: str = "auto"
    """Where the policy computes: cpu, cuda, cuda:N or mps; auto takes CUDA where there is any."""
    cmd: Literal["train", "dual-train", "eval", "eval-external", "sim"] | None = None
    """What older configurations are for; the subcommand decides what happens."""
    user: str | None = None
    """Personal file `configs/user/NAME.yaml`, merged under the files of `--config`."""
    hardware: str | None = None
    """File `configs/hardware/NAME.yaml` with sizes that suit a machine; None chooses cpu or gpu."""
    env: EnvironmentSpec
    """The environment; a name or the path of a YAML file stands for what is stored there."""
    policy: PolicyConfig = PolicyConfig()
    """The architecture of the policy."""
    policy_uri: str | None = None
    """Checkpoint to evaluate, or to start training from."""
    pytorch: dict[str, Any] = Field(default_factory=dict)
    """Architecture of an external policy (`_target_` and its arguments)."""
    trainer: TrainerConfig = TrainerConfig()
    """Training."""
    sim: SimConfig = SimConfig()
    """Evaluation on its own."""
    evals: SimulationSuiteConfig | None = None
    """What is evaluated during training; None is the training environment."""
    wandb: WandbConfig = WandbConfig()
    """Tracking with Weights & Biases."""

    @field_validator("pytorch")
    @classmethod
    def _trust_is_no_setting(cls, value: dict[str, Any]) -> dict[str, Any]:
        if {"allow_pickle", "allow-pickle", "sha256"} & value.keys():
            raise ValueError("trust cannot be configured; --allow-pickle and --sha256 are options only")
        return value

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise ValueError("should be auto, cpu, mps, cuda or cuda:N")
        return value
