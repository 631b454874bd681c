"""The table of builders, and the way from a stored environment to a configuration of MettaGrid."""

from __future__ import annotations

from mettagrid.config.mettagrid_config import MettaGridConfig
from pydantic import ValidationError

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.arena import Arena
from metta_cli.environments.game import Game
from metta_cli.environments.guard import check, token_bound
from metta_cli.environments.laser_tag import LaserTag
from metta_cli.environments.memory import OneApple
from metta_cli.environments.navigation import Grid, MeanDistanceRoom, Terrain
from metta_cli.errors import ConfigError, UnknownNameError, suggestion

BUILDERS: dict[str, type[Game]] = {
    "arena": Arena,
    "grid": Grid,
    "laser_tag": LaserTag,
    "mean_distance": MeanDistanceRoom,
    "one_apple": OneApple,
    "terrain": Terrain,
}
"""Builder name -> its arguments; `build()` of a valid set of them makes the configuration."""


def build(spec: EnvironmentSpec) -> MettaGridConfig:
    """Return the configuration of an environment, checked by the guard.

    Always a new object: MettaGrid writes into a configuration that it is given.

    Args:
        spec: the environment as it is stored.

    Returns:
        The configuration. Where the arguments name no `num_tokens`, it has as many as an agent
        can ever need.

    Raises:
        UnknownNameError: if there is no such builder.
        ConfigError: if an argument is unknown, of the wrong type or out of range, or if MettaGrid
            would crash on the result or ignore a part of it.
    """
    if spec.builder not in BUILDERS:
        raise UnknownNameError("environment builder", spec.builder, BUILDERS)
    name = spec.name or spec.builder
    game = _game(spec, name)
    config = game.build()
    config.label = name
    if game.num_tokens is None:
        config.game.obs.num_tokens = token_bound(config)
    check(config, name)
    return config


def return_max(spec: EnvironmentSpec) -> float | None:
    """Return the most that an agent of an environment can gain in an episode, averaged over its agents.

    Args:
        spec: an environment that can be built.

    Returns:
        None where the environment has no such limit, or none that is known.
    """
    return _game(spec, spec.name or spec.builder).return_max()


def _game(spec: EnvironmentSpec, name: str) -> Game:
    """Return the arguments of the builder, checked."""
    builder = BUILDERS[spec.builder]
    try:
        return builder(**spec.args)
    except ValidationError as error:
        problem = error.errors()[0]
    argument = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        raise ConfigError(
            f"environment '{name}': builder '{spec.builder}' has no argument '{argument}'",
            suggestion(argument, builder.model_fields),
        )
    reason = problem["msg"].removeprefix("Value error, ")
    if not argument:
        raise ConfigError(f"environment '{name}': {reason}", "change one of the arguments in `args`")
    field = builder.model_fields[argument]
    raise ConfigError(
        f"environment '{name}': args.{argument}={problem['input']!r}: {reason}",
        f"{argument}: {field.description}",
    )
