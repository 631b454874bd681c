"""Maps by seed."""

from typing import ClassVar

import numpy as np
import pytest
from mettagrid.config.mettagrid_c_config import convert_to_cpp_game_config
from mettagrid.map_builder.map_builder import GameMap, MapBuilder, MapBuilderConfig
from mettagrid.map_builder.random_map import RandomMapBuilder
from mettagrid.mapgen.mapgen import MapGen

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.environments.maps import MapSource, PackedMap

LASER_TAG = EnvironmentSpec(name="laser_tag", builder="laser_tag")


class CountedMapConfig(MapBuilderConfig["CountedMap"]):
    seed: int | None = None


class CountedMap(MapBuilder[CountedMapConfig]):
    """A map that depends on the seed, and counts how often one is made."""

    times: ClassVar[int] = 0

    def build(self):
        CountedMap.times += 1
        cells = np.random.default_rng(self.config.seed).choice(["empty", "wall"], (4, 6)).astype("<U20")
        cells[0, 0] = "agent.agent"
        return GameMap(cells)


def laser_tag_maps(keep):
    config = build(LASER_TAG)
    _, renames = convert_to_cpp_game_config(config.game)
    return MapSource(config.game.map_builder, config.game.num_agents, renames, keep=keep)


def test_a_seed_gives_the_same_map_from_every_source_in_any_order():
    first, second = laser_tag_maps(keep=False), laser_tag_maps(keep=True)
    grids = {seed: first.grid(seed) for seed in (1, 2, 3)}
    for seed in (3, 1, 2, 3, 1):
        assert second.grid(seed) == grids[seed]
        assert first.grid(seed) == grids[seed]


def test_different_seeds_give_different_maps():
    maps = laser_tag_maps(keep=False)
    assert maps.grid(1) != maps.grid(2)


def test_every_agent_of_the_map_has_a_cell_of_its_own():
    cells = [cell for row in laser_tag_maps(keep=True).grid(4) for cell in row if cell.startswith("agent")]
    teams = ("agent.red", "agent.blue")
    assert sorted(cells) == sorted(f"{team}.{index}" for team in teams for index in range(4))


@pytest.mark.parametrize(("keep", "times"), [(True, 2), (False, 5)])
def test_a_kept_map_is_generated_once(keep, times):
    CountedMap.times = 0
    maps = MapSource(CountedMap.Config(), 1, {}, keep=keep)
    fresh = [MapSource(CountedMap.Config(), 1, {}, keep=False).grid(seed) for seed in (8, 9)]
    CountedMap.times = 0
    assert [maps.grid(seed) for seed in (8, 9, 8, 8, 9)] == [fresh[i] for i in (0, 1, 0, 0, 1)]
    assert CountedMap.times == times


def test_a_caller_may_change_the_map_that_it_got():
    maps = laser_tag_maps(keep=True)
    grid = maps.grid(1)
    original = [list(row) for row in grid]
    grid[3][3] = "wall" if grid[3][3] == "empty" else "empty"
    assert maps.grid(1) == original


def test_a_builder_inside_a_builder_is_seeded_too():
    def source():
        inner = RandomMapBuilder.Config(width=20, height=20, agents=2, objects={"altar": 10})
        return MapSource(MapGen.Config(instance=inner), 2, {}, keep=False)

    assert source().grid(1) == source().grid(1)
    assert source().grid(1) != source().grid(2)


def test_the_builder_of_the_caller_is_left_alone():
    builder = CountedMap.Config(seed=77)
    MapSource(builder, 1, {}, keep=False).grid(1)
    assert builder.seed == 77


@pytest.mark.parametrize(("num_names", "code_type"), [(1, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_packing_loses_nothing(num_names, code_type):
    grid = [[f"name{(row * 40 + column) % num_names}" for column in range(40)] for row in range(30)]
    packed = PackedMap.pack(grid)
    assert packed.unpack() == grid
    assert packed.codes.dtype == code_type
    assert packed.codes.shape == (30, 40)
