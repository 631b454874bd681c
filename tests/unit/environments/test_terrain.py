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
