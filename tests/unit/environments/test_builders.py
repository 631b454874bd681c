"""From stored arguments to a configuration of MettaGrid."""

from collections import Counter

import numpy as np
import pytest

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import BUILDERS, build
from metta_cli.environments.guard import token_bound
from metta_cli.errors import ConfigError, UnknownNameError


def game(builder, **args):
    return build(EnvironmentSpec(name="a/game", builder=builder, args=args))


def cells(config, seed=0):
    builder = config.game.map_builder.model_copy(update={"seed": seed})
    return builder.create().build_for_num_agents(config.game.num_agents).grid


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_builder_works_without_arguments(builder, start_episode):
    config = game(builder)
    grid = start_episode(config)
    grid.step()
    assert config.label == "a/game"
    assert grid.observations().shape == (config.game.num_agents, token_bound(config), 3)


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_build_is_a_new_object(builder):
    first, second = game(builder), game(builder)
    first.game.max_steps = 1
    first.game.objects["altar"].name = "changed"
    assert second.game.max_steps > 1
    assert second.game.objects["altar"].name == "altar"


def test_the_episode_ends_as_a_truncation_after_max_steps(start_episode):
    grid = start_episode(game("grid", max_steps=3))
    for step in range(1, 4):
        grid.step()
        assert grid.truncations().all() == (step == 3)
        assert not grid.terminals().any()


def test_borders_are_one_cell_thin():
    grid = cells(game("grid", width=5, height=7, walls=0, altars=1, num_agents=1))
    assert grid.shape == (9, 7)
    assert (grid[1:-1, 1:-1] != "wall").all()


@pytest.mark.parametrize("window", [5, 11])
def test_nobody_sees_into_the_next_room(window):
    grid = cells(game("mean_distance", num_agents=4, size=6, mean_distance=3, observation_size=window))
    open_columns = np.flatnonzero((grid != "wall").any(axis=0))
    gap = np.diff(open_columns).max() - 1
    assert gap >= window // 2


def test_rooms_hold_what_was_asked_for():
    grid = cells(game("mean_distance", size=20, altars=4, walls=7, mean_distance=6))
    inside = Counter(grid[1:-1, 1:-1].ravel().tolist())
    assert (inside["altar"], inside["wall"], inside["agent.agent"]) == (4, 7, 1)


def test_a_terrain_has_at_least_its_altars_in_every_room():
    config = game("terrain", num_agents=2, size=20, altars=6)
    grid = cells(config)
    rooms = np.split(grid, [1 + 20 + 2])  # one above the other
    for room in rooms:
        assert (room == "hub").sum() >= 6
        assert np.char.startswith(room, "agent").sum() == 1


def test_the_field_of_laser_tag_has_a_team_on_each_side():
    grid = cells(game("laser_tag", agents_per_team=3, stations=2))
    width = 25 // 3
    west, middle, east = (grid[:, 1 + width * i : 1 + width * (i + 1)] for i in range(3))
    for side, team in ((west, 0), (east, 1)):
        count = Counter(side.ravel().tolist())
        assert (count[f"agent.team_{team}"], count["lasery"], count["armory"]) == (3, 2, 2)
    assert Counter(middle.ravel().tolist())["altar"] == 1


def test_the_apple_is_in_sight_at_the_start_and_out_of_it_at_the_turn():
    sides = set()
    for seed in range(20):
        grid = cells(game("one_apple"), seed)
        (agent,), (apple,) = (np.argwhere(grid == name) for name in ("agent.agent", "altar"))
        assert np.abs(apple - agent).max() <= 5
        hall_row = 3
        assert apple[0] - hall_row > 5
        sides.add(int(np.sign(apple[1] - agent[1])))
    assert sides == {-1, 1}


def test_arena_teams_have_their_size():
    config = game("arena", teams=4, agents_per_team=3)
    count = Counter(cells(config).ravel().tolist())
    assert [count[f"agent.team_{team}"] for team in range(4)] == [3, 3, 3, 3]
    assert config.game.num_agents == 12


def test_only_combat_has_lasers_that_shoot():
    peace, war = game("arena"), game("arena", combat=True)
    assert not peace.game.actions.move.handlers
    assert "frozen" not in peace.game.resource_names
    assert {"attack_hit", "attack_blocked"} <= {handler.name for handler in war.game.actions.move.handlers}


def test_rewards_ignore_what_an_agent_starts_with(start_episode):
    grid = start_episode(game("laser_tag", initial_hearts=3))
    grid.step()
    assert grid.rewards().tolist() == [0.0] * 8


def test_an_empty_altar_fills_up_again_if_asked_to(start_episode):
    def hearts(config, steps):
        grid = start_episode(config)
        for altar in (t for t in grid.grid_objects().values() if t["type_name"] == "altar"):
            assert altar["inv:heart"] == 1
        rng = np.random.default_rng(0)
        for _ in range(steps):
            grid.actions()[:] = rng.integers(0, 5, 1)
            grid.step()
        return grid.get_episode_rewards().sum()

    place = {"num_agents": 1, "width": 2, "height": 2, "altars": 1, "walls": 0, "max_steps": 200}
    assert hearts(game("grid", **place), 200) == 1
    assert hearts(game("grid", **place, restock_steps=20), 200) == pytest.approx(10, abs=1)


def test_restocking_after_the_end_is_no_event():
    assert game("grid", restock_steps=11, max_steps=10).game.events == {}


def test_an_unknown_builder_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'laser_tag'"):
        game("laser_tags")


def test_an_unknown_argument_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        game("arena", team=3)
    assert caught.value.message == "environment 'a/game': builder 'arena' has no argument 'team'"
    assert caught.value.cure == "did you mean 'teams'?"


@pytest.mark.parametrize(
    ("builder", "args", "reason"),
    [
        ("arena", {"teams": "two"}, "args.teams='two'"),
        ("arena", {"combat": 1}, "args.combat=1"),
        ("arena", {"teams": 7}, "args.teams=7"),
        ("arena", {"size": 12, "agents_per_team": 9}, "crowd"),
        ("grid", {"width": 3, "height": 3}, "do not fit"),
        ("grid", {"num_tokens": 0}, "args.num_tokens=0"),
        ("laser_tag", {"stations": True}, "args.stations=True"),
        ("laser_tag", {"agents_per_team": 99}, "crowd"),
        ("mean_distance", {"mean_distance": 30}, "outside a room"),
        ("mean_distance", {"walls": 40}, "crowd"),
        ("mean_distance", {"max_steps": 0}, "args.max_steps=0"),
        ("one_apple", {"num_agents": 2}, "no argument 'num_agents'"),
        ("terrain", {"style": "hilly"}, "args.style='hilly'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(builder, args, reason):
    with pytest.raises(ConfigError) as caught:
        game(builder, **args)
    assert reason in caught.value.message
    assert "a/game" in caught.value.message
    assert caught.value.cure


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("size", [-1, 0, 10, 17])
def test_a_window_that_is_even_or_too_large_is_refused(builder, size):
    with pytest.raises(ConfigError, match=f"args.observation_size={size}"):
        game(builder, observation_size=size)


def test_too_few_tokens_are_refused():
    bound = token_bound(game("laser_tag"))
    assert game("laser_tag", num_tokens=bound).game.obs.num_tokens == bound
    with pytest.raises(ConfigError, match=f"can see up to {bound} tokens"):
        game("laser_tag", num_tokens=bound - 1)


def test_every_argument_is_documented():
    for name, builder in BUILDERS.items():
        for argument, field in builder.model_fields.items():
            assert field.description, f"{name}.{argument}"
