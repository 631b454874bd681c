"""What is evaluated: environments, how often, and the suites that group them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from metta_cli.config.section import Section


class SimulationSettings(Section):
    """What a suite and a single simulation have in common."""

    num_episodes: int = Field(default=10, ge=1)
    """Episodes per environment."""
    max_time_s: float | None = Field(default=None, gt=0)
    """Seconds after which no new episode starts; None plays all, so scores do not depend on the machine."""
    env_overrides: dict[str, Any] = Field(default_factory=dict)
    """Arguments that replace those of the environment's builder."""


class SingleEnvSimulationConfig(SimulationSettings):
    """Episodes in one environment."""

    env: str
    """Name of the environment, or path of its YAML file."""


class SimulationSuiteConfig(SimulationSettings):
    """Several simulations, scored together.

    What the suite sets holds for every simulation that does not set it itself; `env_overrides` are
    merged.
    """

    name: str
    """Name of the suite."""
    simulations: dict[str, SingleEnvSimulationConfig] = Field(min_length=1)
    """`category/name` -> simulation; the part before the first slash is the category of the score."""

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        """Give what the suite sets to the simulations that do not set it."""
        if not isinstance(data, Mapping) or not isinstance(data.get("simulations"), Mapping):
            return data  # refused, or already validated
        common = {name: data[name] for name in SimulationSettings.model_fields if name in data}
        simulations = {name: _with_defaults(child, common) for name, child in data["simulations"].items()}
        return {**data, "simulations": simulations}


def _with_defaults(simulation: Any, common: Mapping[str, Any]) -> Any:
    """Return `simulation` as data, with the values of `common` that it does not set itself."""
    if isinstance(simulation, SingleEnvSimulationConfig):
        simulation = simulation.model_dump(exclude_unset=True)
    if not isinstance(simulation, Mapping):
        return simulation  # refused by the field's own type
    merged = {**common, **simulation}
    overrides = [part.get("env_overrides", {}) for part in (common, simulation)]
    if all(isinstance(part, Mapping) for part in overrides) and any(overrides):
        merged["env_overrides"] = {**overrides[0], **overrides[1]}
    return merged
