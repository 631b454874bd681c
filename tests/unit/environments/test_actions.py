"""The action codec."""

import itertools

import numpy as np
import pytest

from metta_cli.environments.actions import ActionCodec

WALK = ("noop", "move_north", "move_south", "move_west", "move_east")
LASER = (*WALK, "change_vibe_default", "change_vibe_laser")
LISTS = {
    "walk": WALK,
    "laser": LASER,
    "diagonal": ("noop", "move_north", "move_northeast", "change_vibe_up-right"),
    "only noop": ("noop",),
    "foreign verbs": ("noop", "rotate", "jump_high", "change_vibe_a_b"),
}


@pytest.fixture(params=LISTS, ids=str)
def names(request):
    return LISTS[request.param]


def test_every_action_survives_the_way_to_verb_and_argument_and_back(names):
    codec = ActionCodec(names)
    every = np.arange(len(names))
    np.testing.assert_array_equal(codec.flat(codec.verb_argument(every)), every)


def test_verb_and_argument_spell_the_name(names):
    codec = ActionCodec(names)
    for index, (verb, argument) in enumerate(codec.verb_argument(np.arange(len(names)))):
        spelled = "_".join(filter(None, (codec.verbs[verb], codec.arguments[verb][argument])))
        assert spelled == names[index]


def test_every_pair_is_an_action_or_refused(names):
    codec = ActionCodec(names)
    rows, columns = codec.lookup.shape
    accepted = []
    for verb, argument in itertools.product(range(-1, rows + 1), range(-1, columns + 1)):
        inside = 0 <= verb < rows and 0 <= argument < columns
        if inside and codec.valid[verb, argument]:
            accepted.append(codec.flat(np.array([[verb, argument]]))[0])
        else:
            with pytest.raises(ValueError, match="no action has verb"):
                codec.flat(np.array([[verb, argument]]))
    assert sorted(accepted) == list(range(len(names)))


def test_the_table_of_a_laser_game():
    codec = ActionCodec(LASER)
    assert codec.verbs == ("noop", "move", "change_vibe")
    assert codec.arguments == (("",), ("north", "south", "west", "east"), ("default", "laser"))
    assert codec.lookup.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 0, 0]]
    assert codec.valid.tolist() == [
        [True, False, False, False],
        [True, True, True, True],
        [True, True, False, False],
    ]
    assert (codec.num_actions, codec.num_primary) == (7, 5)


def test_an_action_goes_to_one_buffer_and_nothing_to_the_other(names):
    codec = ActionCodec(names)
    primary, vibe = codec.split(np.arange(len(names)))
    assert primary.dtype == vibe.dtype == np.int32
    for index, name in enumerate(names):
        is_vibe = name.startswith("change_vibe_")
        assert (primary[index], vibe[index]) == ((0, index) if is_vibe else (index, 0))


def test_the_simulator_does_what_the_flat_action_says(start_episode):
    from metta_cli.config.environment import EnvironmentSpec
    from metta_cli.environments.builders import build
    from metta_cli.environments.interface import interface_of

    config = build(EnvironmentSpec(builder="laser_tag"))
    names = interface_of(config).action_names
    codec = ActionCodec(names)
    grid = start_episode(config)

    def agent():
        return next(thing for thing in grid.grid_objects().values() if thing.get("agent_id") == 0)

    taken = {(thing["r"], thing["c"]) for thing in grid.grid_objects().values()}
    offsets = {"move_north": (-1, 0), "move_south": (1, 0), "move_west": (0, -1), "move_east": (0, 1)}
    before = agent()
    free = [name for name, (r, c) in offsets.items() if (before["r"] + r, before["c"] + c) not in taken]
    for name in (free[0], "change_vibe_laser"):
        actions = np.zeros(config.game.num_agents, dtype=int)
        actions[0] = names.index(name)
        grid.actions()[:], grid.vibe_actions()[:] = codec.split(actions)
        grid.step()
    moved = offsets[free[0]]
    assert (agent()["r"] - before["r"], agent()["c"] - before["c"]) == moved
    assert agent()["vibe"] == 1


@pytest.mark.parametrize("wrong", [-1, len(LASER)])
def test_an_index_out_of_range_is_refused(wrong):
    codec = ActionCodec(LASER)
    for method in (codec.split, codec.verb_argument):
        with pytest.raises(ValueError, match=r"must be in \[0, 7\)"):
            method(np.array([0, wrong]))


@pytest.mark.parametrize("names", [("noop", "change_vibe_a", "move_north"), ("noop", "noop")])
def test_names_that_cannot_be_routed_are_refused(names):
    with pytest.raises(ValueError, match="must"):
        ActionCodec(names)
