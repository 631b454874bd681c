"""Changes to a game, for the tests that give the guard a bad one."""

import pytest
from mettagrid.config.event_config import EventConfig
from mettagrid.config.filter import (
    TargetLocEmptyFilter,
)
from mettagrid.config.handler_config import Handler
from mettagrid.config.mettagrid_config import (
    AgentReward,
    ResourceLimitsConfig,
)
from mettagrid.config.mutation import (
    updateTarget,
)
from mettagrid.config.query import query
from mettagrid.map_builder.ascii import AsciiMapBuilder

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.environments.guard import check
from metta_cli.errors import ConfigError

AGENTS = "type:agent"


def laser_tag():
    """Return a game with everything: teams, handlers, events, vibes; and room for any change of it."""
    return build(EnvironmentSpec(builder="laser_tag", args={"num_tokens": 3000}))


def on_use(config, *filters, mutations=()):
    config.game.objects["altar"].on_use_handler = Handler(filters=list(filters), mutations=list(mutations))


def on_move(config, *filters, mutations=()):
    handler = Handler(name="new", filters=list(filters), mutations=list(mutations))
    config.game.actions.move.handlers.append(handler)


def on_empty_cell(config, *filters, mutations=()):
    on_move(config, TargetLocEmptyFilter(), *filters, mutations=mutations)


def on_game_tick(config, *filters, mutations=()):
    config.game.on_tick = Handler(filters=list(filters), mutations=list(mutations))


def event(config, **fields):
    fields = {
        "target_query": query(AGENTS),
        "timesteps": [1],
        "mutations": [updateTarget({"laser": 1})],
    } | fields
    config.game.events["new"] = EventConfig(name="new", **fields)


def put(path, value):
    """Return a change that sets a dotted path below `game`."""

    def change(config):
        *parents, last = path.split(".")
        section = config.game
        for part in parents:
            section = section[part] if isinstance(section, dict) else getattr(section, part)
        if isinstance(section, dict):
            section[last] = value
        else:
            setattr(section, last, value)

    return change


def later(change, *args, **kwargs):
    return lambda config: change(config, *args, **kwargs)


def agent(**fields):
    def change(config):
        for one in config.game.agents:
            for name, value in fields.items():
                setattr(one, name, value)

    return change


def reward(value):
    return agent(rewards={"new": AgentReward(reward=value)})


def limits(**fields):
    return {"held": ResourceLimitsConfig(**({"base": 3, "resources": ["laser"]} | fields))}


def drawn(config, *rows, **changes):
    """Put the game on a map that is written out: @ agent, _ altar, # wall, . empty."""
    names = {"#": "wall", ".": "empty", "@": "agent.agent", "_": "altar", "b": "block"}
    config.game.map_builder = AsciiMapBuilder.Config(
        map_data=[list(row) for row in rows], char_to_map_name=names
    )
    config.game.num_agents = sum(row.count("@") for row in rows)
    red = config.game.agents[0]
    config.game.agents = [red.model_copy(deep=True) for _ in range(config.game.num_agents)]
    return config


def expect_refusal(bad_change, message, good_change):
    """Check that one change is refused with this message, and that the other one passes."""
    good, bad = laser_tag(), laser_tag()
    good_change(good)
    check(good, "my/game")
    bad_change(bad)
    with pytest.raises(ConfigError) as caught:
        check(bad, "my/game")
    assert caught.value.message.startswith("environment 'my/game': ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.cure
