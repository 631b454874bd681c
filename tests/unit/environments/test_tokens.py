"""The bound on the tokens that an agent can see."""

import itertools

import pytest
from config_changes import drawn, laser_tag, later, on_empty_cell, on_move, on_use, put
from mettagrid.config.game_value import (
    ConstValue,
)
from mettagrid.config.mettagrid_config import (
    InventoryConfig,
)
from mettagrid.config.mutation import (
    SpawnObjectMutation,
    addTag,
    changeTargetVibe,
    updateTarget,
)
from mettagrid.map_builder.maze import MazeKruskalMapBuilder

from metta_cli.environments.guard import check, token_bound
from metta_cli.environments.tokens import visible_cells
from metta_cli.errors import ConfigError


@pytest.fixture
def config():
    return laser_tag()


def most_tokens(grid):
    return int((grid.observations()[..., 0] != 255).sum(axis=1).max())


def full_window(config):
    """Fill all that one agent sees of a 3x3 window with what has most tokens; everybody has everything."""
    config.game.obs.width = config.game.obs.height = 3
    config.game.obs.global_obs.local_position = True
    drawn(config, "##@##", "#@@_#", "##@##")
    for one in config.game.agents:
        one.vibe = 1
        stock = dict.fromkeys(config.game.resource_names, 2)
        one.inventory = InventoryConfig(default_limit=200, initial=stock)
    return config


def test_the_bound_is_reached_by_a_full_window(config, start_episode):
    grid = start_episode(full_window(config))
    grid.step()
    seen = most_tokens(grid)
    # The agent has not moved, which leaves out the two tokens of its position.
    assert seen == token_bound(config) - 2 == 4 * (2 + 1 + 4 + 2) + 2 + 2


@pytest.mark.parametrize(("width", "height"), list(itertools.product(range(1, 16, 2), repeat=2)))
def test_an_agent_sees_this_many_cells_of_its_window(width, height, config, start_episode):
    rows = ["#" * 17 for _ in range(17)]
    rows[8] = "#" * 8 + "@" + "#" * 8
    drawn(config, *rows)
    config.game.obs.width, config.game.obs.height = width, height
    places = start_episode(config).observations()[0, :, 0]
    assert len(set(places[places < 0xFE].tolist())) == visible_cells(width, height)


def test_one_token_less_than_what_is_seen_stops_the_simulation(config, start_episode):
    grid = start_episode(full_window(config))
    grid.step()
    config.game.obs.num_tokens = most_tokens(grid) - 1
    with pytest.raises(RuntimeError, match="token budget exceeded"):
        start_episode(config).step()
    with pytest.raises(ConfigError, match=r"game\.obs\.num_tokens"):
        check(config, "my/game")


def slow_bound(cells, agents, window):
    """Take the fullest window cell by cell: try every way to fill it and keep the best."""
    best = 0
    for chosen in itertools.combinations(agents + cells, min(window, len(agents + cells))):
        best = max(best, sum(chosen))
    return best


def test_the_bound_picks_the_fullest_cells(config):
    drawn(config, "@@_b", "####")
    config.game.obs.width, config.game.obs.height = 5, 1
    agent_tokens = 2 + 1 + 4 + 2  # tags, vibe, inventory, group and id
    altar, block, wall = 2, 1, 1
    expected = slow_bound([altar, block] + [wall] * 4, [agent_tokens] * 2, 5)
    assert token_bound(config) == expected + 2  # completion, last_action


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (put("obs.global_obs.last_action", False), -1),
        (put("obs.global_obs.local_position", True), 2),
        (put("obs.global_obs.obs", {"hits": ConstValue(value=1)}), 4),
        (
            put("obs.token_value_base", 16),
            2,
        ),  # an agent's hearts, up to 255, then take two digits
        (put("objects.altar.tags", ["holy"]), 1),
        (put("objects.altar.vibe", 1), 1),
        (put("actions.change_vibe.enabled", False), -2),
        (later(on_use, mutations=[addTag("team:red")]), None),
        (later(on_use, mutations=[changeTargetVibe("laser")]), None),
        (later(on_use, mutations=[updateTarget({"armor": 1})]), 2),
        (later(on_use, mutations=[updateTarget({"armor": -1})]), 0),
        (later(on_move, mutations=[updateTarget({"armor": 1})]), None),
    ],
)
def test_the_bound_follows_what_can_be_seen(config, change, more):
    drawn(config, "@@_b", "####")
    before = token_bound(config)
    change(config)
    if more is None:
        assert token_bound(config) > before
    else:
        assert token_bound(config) - before == more


def test_an_unknown_map_generator_can_fill_the_window_with_anything(config):
    known = token_bound(config)
    config.game.map_builder = MazeKruskalMapBuilder.Config(
        width=9, height=9, start_pos=(1, 1), end_pos=(7, 7)
    )
    assert token_bound(config) > known


def test_spawned_objects_are_without_number(config):
    before = token_bound(config)
    on_empty_cell(config, mutations=[SpawnObjectMutation(object_type="altar")])
    assert token_bound(config) > before
