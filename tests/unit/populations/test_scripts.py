"""Scripted opponents on drawn observations, and in a real game."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from metta_cli.config.catalogue import find_environment
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import IncompatibleError
from metta_cli.populations.opponents import PolicyOpponent
from metta_cli.populations.players import Turn, uniform_noise
from metta_cli.populations.scripts import ScriptedWalk

ACTIONS = ("noop", "move_north", "move_south", "move_west", "move_east", "change_vibe_default")
TAGS = ("type:agent", "type:altar", "type:block", "type:wall", "team:red")
INTERFACE = EnvironmentInterface(ACTIONS, ("vibe", "tag"), (1.0, 1.0), TAGS, 11, 11, 8, 1)
CENTRE = 5
STEPS = {"north": (-1, 0), "east": (0, 1), "south": (1, 0), "west": (0, -1)}


def walk(pattern, world, steps, **options):
    """Walk through a world, (row, column) -> kind, from its origin; return the moves and where they led."""
    policy = ScriptedWalk(INTERFACE, pattern, **options)
    state, position, path = policy.initial_state(1, "cpu"), (0, 0), []
    for step in range(steps):
        tokens = torch.full((1, 24, 3), 255, dtype=torch.uint8)
        seen = {
            (row - position[0] + CENTRE, column - position[1] + CENTRE): kind
            for (row, column), kind in world.items()
        }
        near = [(cell, kind) for cell, kind in seen.items() if min(cell) >= 0 and max(cell) < 11]
        tokens[0, 0] = torch.tensor([CENTRE << 4 | CENTRE, 1, TAGS.index("type:agent")])
        tokens[0, 1] = torch.tensor([CENTRE << 4 | CENTRE, 1, TAGS.index("team:red")])
        for index, ((row, column), kind) in enumerate(near):
            tokens[0, 2 + index] = torch.tensor([row << 4 | column, 1, TAGS.index(f"type:{kind}")])
        td = TensorDict({"env_obs": tokens, "dones": torch.tensor([step == 0])}, batch_size=[1])
        name = ACTIONS[int(policy(td, state)["full_log_probs"].argmax())]
        move = name.removeprefix("move_")
        path.append(move)
        if move in STEPS:
            dy, dx = STEPS[move]
            target = (position[0] + dy, position[1] + dx)
            position = position if target in world else target
    return path


def test_a_roomba_goes_straight_and_turns_to_its_side_at_an_obstacle():
    world = {(-2, 0): "wall"}
    assert walk("clockwise", world, 4) == ["north", "east", "east", "east"]
    assert walk("counterclockwise", world, 4) == ["north", "west", "west", "west"]


def test_a_roomba_walled_in_stands_still():
    world = dict.fromkeys(STEPS.values(), "block")
    assert walk("clockwise", world, 3) == ["noop"] * 3


def test_a_spiral_has_ever_longer_legs():
    path = walk("spiral", {}, 12)
    assert path == ["north", *["east"], *["south"] * 2, *["west"] * 2, *["north"] * 3, *["east"] * 3]


def test_a_snake_sweeps_row_after_row():
    world = {(row, 2): "wall" for row in range(-2, 3)} | {(row, -1): "wall" for row in range(-1, 2)}
    assert walk("snake", world, 7) == ["east", "south", "west", "south", "east", "south", "west"]


def test_a_station_in_sight_is_walked_to_and_used():
    assert walk("clockwise", {(0, 3): "altar"}, 3) == ["east", "east", "east"]
    assert walk("clockwise", {(0, 3): "altar"}, 3, approach_items=False) == ["north"] * 3


def test_a_station_is_left_after_it_was_used():
    path = walk("clockwise", {(-1, 0): "altar"}, 6)
    assert path[0] == "north"
    assert path[1] == "east"


def test_a_station_that_is_not_to_be_used_is_an_obstacle():
    options = {"approach_items": False, "interact_with_items": False}
    assert walk("clockwise", {(-1, 0): "altar"}, 2, **options) == ["east", "east"]


def test_the_random_pattern_takes_every_free_direction():
    policy = ScriptedWalk(INTERFACE, "random")
    tokens = torch.full((1, 8, 3), 255, dtype=torch.uint8)
    tokens[0, 0] = torch.tensor([(CENTRE - 1) << 4 | CENTRE, 1, TAGS.index("type:wall")])
    td = TensorDict({"env_obs": tokens, "dones": torch.tensor([True])}, batch_size=[1])
    probabilities = policy(td)["full_log_probs"].exp()[0]
    assert probabilities.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 0])


def test_an_environment_without_moves_is_refused():
    interface = EnvironmentInterface(("noop", "jump"), ("tag",), (1.0,), TAGS, 11, 11, 8, 1)
    with pytest.raises(IncompatibleError, match="move_north"):
        ScriptedWalk(interface, "clockwise")


@pytest.mark.parametrize("pattern", ["clockwise", "snake", "spiral", "random"])
def test_a_script_collects_more_hearts_than_chance(pattern):
    spec = find_environment("navigation/simple")
    with VectorEnvironment(spec, num_environments=16, seed=2) as environment:
        rows = np.arange(environment.num_agents)

        def play(choose):
            environment.reset(seed=5)
            total = 0.0
            for step in range(45):
                _, rewards, *_ = environment.step(choose(step))
                total += rewards.sum()
            return total

        opponent = PolicyOpponent(pattern, ScriptedWalk(environment.interface, pattern), len(rows))

        def script(step):
            noise = uniform_noise(3, rows, rows, np.full(len(rows), step))
            starts = np.full(len(rows), step == 0)
            return opponent.act(Turn(environment.observations.copy(), starts, noise), rows)

        generator = np.random.default_rng(0)
        chance = play(lambda step: generator.integers(0, environment.interface.num_actions, len(rows)))
        assert play(script) > chance
