"""The environments, curricula and suites that can be named."""

from __future__ import annotations

from metta_cli.config import places
from metta_cli.config.composition import Composition, Setting
from metta_cli.config.curriculum import CurriculumConfig
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.config.validation import validate


def environment_names() -> list[str]:
    """Return the names of all environments, such as `navigation/simple`, sorted."""
    return places.names("env")


def find_environment(name: str) -> EnvironmentSpec:
    """Return an environment by name, or by the path of its YAML file.

    Args:
        name: such as `navigation/simple`, `/env/mettagrid/laser_tag`, `mettagrid/memory/memory_one_apple`
            or `my_environment.yaml`.

    Raises:
        UnknownNameError: if there is none of that name.
        ConfigError: if its file is wrong.
    """
    composition = Composition()
    composition.merge([Setting(("env",), name, "")])
    return validate(EnvironmentSpec, composition.settings, ("env",))


def curriculum_names() -> list[str]:
    """Return the names of all curricula, such as `navigation/bucketed`, sorted."""
    return places.names("curriculum")


def find_curriculum(name: str) -> CurriculumConfig:
    """Return a curriculum by name.

    Args:
        name: such as `navigation/bucketed` or `/env/mettagrid/curriculum/navigation/bucketed`; the name of an
            environment is a curriculum of that environment alone.

    Raises:
        UnknownNameError: if there is none of that name.
        ConfigError: if its file is wrong.
    """
    key = ("trainer", "curriculum")
    composition = Composition()
    composition.merge([Setting(key, name, "")])
    return validate(CurriculumConfig, composition.settings, key)


def suite_names() -> list[str]:
    """Return the names of all suites, sorted."""
    return places.names("suite")


def find_suite(name: str) -> SimulationSuiteConfig:
    """Return a suite by name.

    Args:
        name: such as `laser_tag` or `/sim/all`.

    Raises:
        UnknownNameError: if there is none of that name.
        ConfigError: if its file is wrong.
    """
    composition = Composition()
    composition.merge([Setting(("sim", "suite"), name, "")])
    return validate(SimulationSuiteConfig, composition.settings, ("sim", "suite"))
