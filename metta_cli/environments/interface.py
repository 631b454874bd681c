"""The names behind the numbers of an environment, read from its configuration."""

from __future__ import annotations

from mettagrid.config.mettagrid_config import MettaGridConfig

from metta_cli.config.interface import EnvironmentInterface


def interface_of(config: MettaGridConfig) -> EnvironmentInterface:
    """Return what a policy must know to read the observations and name the actions of an environment.

    Args:
        config: a configuration of MettaGrid; it is not changed.

    Returns:
        The interface. A tag token's value is an index into the alphabetical list of tags, so the same tag has
        another value in another game.
    """
    game = config.game
    features = sorted(game.id_map().features(), key=lambda feature: feature.id)
    return EnvironmentInterface(
        action_names=tuple(action.name for action in game.actions.actions()),
        feature_names=tuple(feature.name for feature in features),
        feature_scales=tuple(float(feature.normalization) for feature in features),
        tag_names=tuple(game.id_map().tag_names()),
        observation_height=game.obs.height,
        observation_width=game.obs.width,
        num_tokens=game.obs.num_tokens,
        agents_per_environment=game.num_agents,
    )
