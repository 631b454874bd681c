"""The names behind the numbers of an environment."""

import numpy as np
import pytest
from mettagrid.config.game_value import ConstValue

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of

EMPTY = 255


def game(builder, **args):
    return build(EnvironmentSpec(builder=builder, args=args))


def tokens_at(observation, location):
    return [tuple(map(int, token)) for token in observation if token[0] == location]


def test_the_names_read_a_real_observation(start_episode):
    config = game("laser_tag")
    interface = interface_of(config)
    grid = start_episode(config)
    grid.step()
    for agent in (thing for thing in grid.grid_objects().values() if "agent_id" in thing):
        center = tokens_at(grid.observations()[agent["agent_id"]], 0x55)
        named = [(interface.feature_names[feature], value) for _, feature, value in center]
        tags = {interface.tag_names[value] for name, value in named if name == "tag"}
        assert tags == {"type:agent", f"team:{agent['group_name']}"}
        others = dict(item for item in named if item[0] != "tag")
        assert others == {
            "inv:heart": 1,
            "agent:group": agent["group_id"],
            "agent_id": agent["agent_id"],
        }


def test_every_feature_that_occurs_has_a_name_and_a_scale(start_episode):
    config = game("arena", combat=True)
    interface = interface_of(config)
    grid = start_episode(config)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        grid.actions()[:] = rng.integers(0, interface.num_primary_actions, 8)
        grid.step()
        observations = grid.observations()
        seen |= set(observations[observations[..., 0] != EMPTY][:, 1].tolist())
    assert max(seen) < len(interface.feature_names) == len(interface.feature_scales)
    assert {"tag", "last_action", "inv:ore_red"} <= {interface.feature_names[index] for index in seen}
    assert all(scale > 0 for scale in interface.feature_scales)


def test_tags_are_in_alphabetical_order():
    tags = interface_of(game("laser_tag")).tag_names
    assert list(tags) == sorted(tags)
    assert tags[:2] == ("team:blue", "team:red")


def test_shapes_are_those_of_the_simulator(start_episode):
    config = game("grid", num_agents=3, observation_size=7)
    interface = interface_of(config)
    observations = start_episode(config).observations()
    assert observations.shape == (interface.agents_per_environment, interface.num_tokens, 3)
    assert (interface.observation_height, interface.observation_width) == (7, 7)


@pytest.mark.parametrize(("combat", "num_vibes"), [(False, 0), (True, 2)])
def test_actions_are_primary_first_then_vibes(combat, num_vibes):
    interface = interface_of(game("arena", combat=combat))
    assert interface.action_names[:5] == ("noop", "move_north", "move_south", "move_west", "move_east")
    assert interface.num_primary_actions == 5
    assert interface.num_actions == 5 + num_vibes


def test_own_observation_values_are_named(start_episode):
    config = game("mean_distance")
    config.game.obs.global_obs.obs = {"magic": ConstValue(value=258)}
    interface = interface_of(config)
    grid = start_episode(config)
    values = {interface.feature_names[f]: v for _, f, v in tokens_at(grid.observations()[0], 0xFE)}
    assert (values["magic"], values["magic:p1"]) == (2, 1)


def test_reading_the_interface_leaves_the_configuration_alone():
    config = game("grid")
    before = config.model_dump()
    interface_of(config)
    assert config.model_dump() == before
