"""The scripted baseline."""

import numpy as np
import pytest

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.actions import ActionCodec
from metta_cli.environments.builders import BUILDERS, build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.pathfinding import UNREACHABLE, Paths
from metta_cli.environments.scene import Scene, Thing
from metta_cli.environments.scripted import ScriptedPlayer
from metta_cli.errors import UnknownNameError


class Episode:
    """One episode that is played by the scripted player, by chance, or by one team each."""

    def __init__(self, start_episode, builder, map_seed=0, **args):
        config = build(EnvironmentSpec(builder=builder, args=args))
        self.names = interface_of(config).action_names
        self.codec = ActionCodec(self.names)
        self.grid = start_episode(config, map_seed)
        self.max_steps = config.game.max_steps
        self.num_agents = config.game.num_agents
        self.player = ScriptedPlayer(self.grid, self.names, builder)

    def step(self, actions):
        self.grid.actions()[:], self.grid.vibe_actions()[:] = self.codec.split(actions)
        self.grid.step()

    def play(self, by_chance=()):
        """Play to the end; the agents in `by_chance` act at random."""
        rng = np.random.default_rng(0)
        for _ in range(self.max_steps):
            actions = self.player.actions()
            actions[list(by_chance)] = rng.integers(0, len(self.names), len(by_chance))
            self.step(actions)
        return self.grid.get_episode_rewards()

    def stat(self, name):
        return self.grid.get_game_stat(name) or 0.0

    def teams(self):
        agents = (t for t in self.grid.grid_objects().values() if "agent_id" in t)
        return np.array([a["group_id"] for a in sorted(agents, key=lambda agent: agent["agent_id"])])


@pytest.mark.parametrize("map_seed", range(5))
@pytest.mark.parametrize(
    ("builder", "args", "best"),
    [
        ("mean_distance", {"max_steps": 45, "heart_reward": 0.333}, 0.999),
        (
            "mean_distance",
            {"size": 25, "mean_distance": 15, "walls": 12, "max_steps": 120, "heart_reward": 0.333},
            0.999,
        ),
        ("one_apple", {}, 0.333),
    ],
)
def test_rooms_are_played_to_their_maximum(builder, args, best, map_seed, start_episode):
    returns = Episode(start_episode, builder, map_seed, **args).play()
    np.testing.assert_allclose(returns, best, atol=1e-6)


@pytest.mark.parametrize("map_seed", range(2))
def test_every_altar_of_a_terrain_that_can_be_reached_is_emptied(map_seed, start_episode):
    episode = Episode(start_episode, "terrain", map_seed, num_agents=2, size=25, max_steps=400)
    assert (episode.play() >= 8).all()
    reachable = [
        thing
        for thing in episode.grid.grid_objects().values()
        if thing["type_name"] == "altar" and thing.get("inv:heart")
    ]
    paths = Paths(closed_cells(episode.grid))
    for altar in reachable:
        cell = paths.cell(altar["r"], altar["c"])
        agents = [t for t in episode.grid.grid_objects().values() if "agent_id" in t]
        assert all(paths.distance(paths.cell(a["r"], a["c"]), cell) == UNREACHABLE for a in agents)


def test_an_arena_yields_most_of_its_ore(start_episode):
    episode = Episode(start_episode, "arena", max_steps=400)
    hearts = episode.play().sum()
    ore = 10 * (1 + 400 // 50)
    assert hearts >= 0.75 * ore / 3


def test_laser_tag_takes_every_heart_from_players_that_act_by_chance(start_episode):
    episode = Episode(start_episode, "laser_tag", max_steps=300)
    teams = episode.teams()
    returns = episode.play(by_chance=np.flatnonzero(teams == 1))
    assert returns[teams == 1].sum() == -4
    assert returns[teams == 0].sum() == 5  # theirs and the one on the altar


def test_laser_tag_players_hit_each_other(start_episode):
    episode = Episode(start_episode, "laser_tag", max_steps=200)
    episode.play()
    assert episode.stat("attack.hit") > 10


@pytest.mark.parametrize("builder", BUILDERS)
def test_proposals_depend_on_the_state_alone(builder, start_episode):
    episode = Episode(start_episode, builder)
    rng = np.random.default_rng(1)
    for _ in range(10):
        episode.step(rng.integers(0, len(episode.names), episode.num_agents))
        first, second = episode.player.actions(), episode.player.actions()
        late = ScriptedPlayer(episode.grid, episode.names, builder).actions()
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, late)


@pytest.mark.parametrize("builder", BUILDERS)
def test_proposals_are_flat_actions_of_the_game(builder, start_episode):
    episode = Episode(start_episode, builder)
    actions = episode.player.actions()
    assert actions.dtype == np.int32
    assert actions.shape == (episode.num_agents,)
    assert set(actions.tolist()) <= set(range(len(episode.names)))


def test_two_agents_do_not_go_for_one_heart(start_episode):
    place = {"width": 9, "height": 9, "altars": 2, "walls": 0, "num_agents": 2, "max_steps": 60}
    for map_seed in range(5):
        assert Episode(start_episode, "grid", map_seed, **place).play().sum() == 2


def test_a_game_without_a_plan_is_refused(start_episode):
    episode = Episode(start_episode, "grid")
    with pytest.raises(UnknownNameError, match="unknown builder with a scripted player 'gird'"):
        ScriptedPlayer(episode.grid, episode.names, "gird")


def closed_cells(grid):
    closed = np.zeros((grid.map_height, grid.map_width), bool)
    for thing in grid.grid_objects().values():
        closed[thing["r"], thing["c"]] = "agent_id" not in thing
    return closed


def slow_distances(closed, target):
    """Relax every cell against its neighbors until nothing changes."""
    distances = np.full(closed.shape, np.inf)
    distances[target] = 0
    while True:
        framed = np.pad(distances, 1, constant_values=np.inf)
        neighbors = np.stack([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])
        relaxed = np.minimum(distances, np.where(closed, np.inf, neighbors.min(axis=0) + 1))
        if (relaxed == distances).all():
            return distances
        distances = relaxed


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_those_of_a_slow_relaxation(seed):
    rng = np.random.default_rng(seed)
    closed = rng.random((9, 13)) < 0.35
    target = (4, 6)
    paths = Paths(closed)
    slow = slow_distances(closed, target)
    for row, column in rng.permutation(np.argwhere(~closed)):
        expected = UNREACHABLE if np.isinf(slow[row, column]) else slow[row, column]
        start, end = paths.cell(row, column), paths.cell(*target)
        assert paths.distance(start, end) == expected
        assert paths.at_least(start, end) <= expected


def test_everybody_gets_a_station_and_the_nearest_pair_comes_first():
    paths = Paths(np.zeros((1, 12), dtype=bool))
    cells = [paths.cell(0, column) for column in range(12)]
    agents = [Thing("agent", cells[column], {}, agent_id) for agent_id, column in enumerate((0, 4, 9))]
    rich, poor = (Thing("altar", cells[c], {"inv:heart": n}) for c, n in ((6, 2), (11, 1)))
    scene = Scene(paths, 0, agents, [rich, poor])
    assert scene.assign(agents, [rich, poor], "heart") == {1: rich, 2: poor, 0: rich}
    poor.raw["inv:heart"] = 0
    assert scene.assign(agents, [rich, poor], "heart") == {1: rich, 2: rich}
    assert scene.nearest(agents[2], [rich, poor]) is poor
    assert scene.nearest(agents[2], []) is None


def test_a_blocked_way_is_walked_around_or_given_up():
    closed = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    paths = Paths(closed)
    start, target = paths.cell(1, 0), paths.cell(0, 2)
    north, south = paths.cell(0, 0), paths.cell(2, 0)
    assert paths.direct(start, target, set()) == "move_north"
    assert paths.direct(start, target, {north}) is None
    assert paths.detour(start, target, {north}) == "move_south"
    assert paths.detour(start, target, {north, south}) is None
