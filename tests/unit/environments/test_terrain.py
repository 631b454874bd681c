"""The fast terrain generator makes the maps of the original one."""

import pickle

import numpy as np
import pytest
from mettagrid.mapgen.mapgen import MapGen
from mettagrid.mapgen.scenes.varied_terrain import VariedTerrain

from metta_cli.environments.terrain import QuickTerrain


def terrain(generator, *, size, style, seed):
    room = generator.Config(style=style, agents=1, objects={"hub": 10})
    config = MapGen.Config(
        width=size,
        height=size,
        border_width=1,
        instances=2,
        instance_border_width=5,
        seed=seed,
        instance=room,
    )
    # As in a worker process: the configuration has been pickled.
    return pickle.loads(pickle.dumps(config)).create().build_for_num_agents(2).grid


@pytest.mark.parametrize("style", ["all-sparse", "balanced", "dense", "maze"])
@pytest.mark.parametrize("size", [12, 25, 40, 63])
def test_a_seed_gives_the_map_of_the_original_generator(size, style):
    for seed in range(3):
        original = terrain(VariedTerrain, size=size, style=style, seed=seed)
        quick = terrain(QuickTerrain, size=size, style=style, seed=seed)
        np.testing.assert_array_equal(quick, original)


def test_the_maps_of_two_seeds_differ():
    first, second = (terrain(QuickTerrain, size=40, style="balanced", seed=seed) for seed in (0, 1))
    assert (first != second).any()


def room(style, *, seed, altars=10, size=40, exact=True):
    scene = QuickTerrain.Config(style=style, agents=1, objects={"hub": altars}, exact=exact)
    config = MapGen.Config(width=size, height=size, border_width=1, seed=seed, instance=scene)
    return config.create().build_for_num_agents(1).grid


def reachable_altars(grid):
    """Walk from the agent wherever it can go, and count the altars beside its ways."""
    [start] = np.argwhere(grid == "agent.agent").tolist()
    ways, seen, altars = [tuple(start)], {tuple(start)}, set()
    while ways:
        row, column = ways.pop()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if grid[cell] == "hub":
                altars.add(cell)
            elif grid[cell] == "empty" and cell not in seen:
                seen.add(cell)
                ways.append(cell)
    return len(altars), len(seen)


@pytest.mark.parametrize("style", ["sparse", "balanced", "obstacles", "dense", "maze", "cylinder-world"])
@pytest.mark.parametrize("altars", [2, 18])
def test_an_exact_room_has_its_altars_where_its_agent_can_go(style, altars):
    for seed in range(4):
        grid = room(style, seed=seed, altars=altars)
        found, cells = reachable_altars(grid)
        assert (grid == "hub").sum() == altars
        assert found >= altars - 1  # one altar may stand in front of another
        assert cells > 500


def test_a_room_that_is_not_exact_has_altars_of_its_labyrinths():
    counts = [(room("maze", seed=seed, altars=2, size=70, exact=False) == "hub").sum() for seed in range(4)]
    assert min(counts) > 4


def test_an_agent_that_is_walled_in_is_set_free(monkeypatch):
    def shut_in(self):
        self._occupancy = np.zeros((self.height, self.width), bool)
        self.grid[:2, :2] = "wall"
        self.grid[0, 0] = "agent.agent"
        self.grid[9, 9] = "hub"

    monkeypatch.setattr(VariedTerrain, "render", shut_in)
    grid = room("sparse", seed=0, altars=3, size=20)
    assert reachable_altars(grid)[0] == (grid == "hub").sum() == 3
    assert (grid == "agent.agent").sum() == 1
    assert grid[1, 1] == "empty"


def measures(style, seeds=range(6), size=40):
    """Return shares of walls, of open cells between walls on two opposite sides, and of free 5x5 windows."""
    walls, corridors, windows = [], [], []
    for seed in seeds:
        wall = room(style, seed=seed, size=size) == "wall"
        inner, north, south = wall[1:-1, 1:-1], wall[:-2, 1:-1], wall[2:, 1:-1]
        west, east = wall[1:-1, :-2], wall[1:-1, 2:]
        between = (north & south & ~west & ~east) | (west & east & ~north & ~south)
        views = np.lib.stride_tricks.sliding_window_view(wall, (5, 5))
        walls.append(inner.mean())
        corridors.append(between[~inner].mean())
        windows.append((views.sum(axis=(2, 3)) == 0).mean())
    return np.mean(walls), np.mean(corridors), np.mean(windows)


def test_the_styles_look_different():
    walls, corridors, windows = zip(
        *(measures(style) for style in ("sparse", "balanced", "dense", "maze")), strict=True
    )
    assert walls[0] < 0.05 < 0.12 < walls[1] < walls[2]
    assert windows[0] > 0.4 > windows[1] > windows[2]
    assert corridors[3] > 5 * corridors[0]
    cylinder_walls, cylinder_corridors, cylinder_windows = measures("cylinder-world")
    assert cylinder_walls > 0.12
    assert cylinder_corridors > 5 * corridors[0]
    assert cylinder_windows < windows[0] / 3
    obstacle_walls, obstacle_corridors, _ = measures("obstacles")
    assert walls[0] < obstacle_walls
    assert obstacle_corridors < corridors[3] / 3


def test_altars_of_a_cylinder_world_stand_between_parallel_walls():
    grid = room("cylinder-world", seed=1, altars=6)
    for row, column in np.argwhere(grid == "hub").tolist():
        window = grid[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] == "wall"
        lying, standing = window.all(axis=1).sum(), window.all(axis=0).sum()
        assert max(lying, standing) >= 2
