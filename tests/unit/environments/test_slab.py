"""The arrays of all environments in one block."""

import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.simulator import CompiledGame, Simulator
from metta_cli.environments.slab import SharedMemory, Slab, SlabLayout

LAYOUT = SlabLayout(num_environments=3, agents_per_environment=5, num_tokens=7, num_workers=2)


@pytest.fixture
def slab():
    return Slab(LAYOUT, mmap.mmap(-1, LAYOUT.num_bytes))


def arrays_of(slab):
    return {name: getattr(slab, name) for name in LAYOUT.arrays}


def test_arrays_have_the_promised_shapes_and_start_on_cache_lines(slab):
    assert slab.observations.shape == slab.final_observations.shape == (15, 7, 3)
    assert slab.rewards.dtype == np.float32
    assert slab.episodes.shape == (3,)
    assert slab.active_slots.shape == (2,)
    start = slab.observations.ctypes.data
    for array in arrays_of(slab).values():
        assert array.flags.c_contiguous
        assert (array.ctypes.data - start) % 64 == 0


def test_writing_one_array_changes_no_other(slab):
    for name, array in arrays_of(slab).items():
        array.fill(1)
        others = [other for other_name, other in arrays_of(slab).items() if other_name != name]
        assert not any(other.any() for other in others), name
        array.fill(0)


def test_rows_of_environments_tile_the_agents(slab):
    rows = [slab.rows(slot) for slot in range(3)]
    assert [index for row in rows for index in range(row.start, row.stop)] == list(range(15))


def test_the_simulator_writes_into_the_slab_without_a_copy():
    config = build(EnvironmentSpec(name="laser_tag", builder="laser_tag"))
    layout = SlabLayout(2, config.game.num_agents, config.game.obs.num_tokens, 0)
    slab = Slab(layout, mmap.mmap(-1, layout.num_bytes))
    simulator = Simulator(CompiledGame(config, keep_maps=False), slab, 1)
    simulator.start(0, EpisodeSeeds(0))
    rows = slab.rows(1)
    for of_simulator, of_slab in (
        (simulator.grid.observations(), slab.observations[rows]),
        (simulator.grid.rewards(), slab.rewards[rows]),
        (simulator.grid.terminals(), slab.terminals[rows]),
        (simulator.grid.truncations(), slab.truncations[rows]),
        (simulator.grid.actions(), slab.primary_actions[rows]),
        (simulator.grid.vibe_actions(), slab.vibe_actions[rows]),
    ):
        assert of_simulator.ctypes.data == of_slab.ctypes.data
        assert of_simulator.shape == of_slab.shape


def test_another_process_writes_into_shared_memory():
    memory = SharedMemory(LAYOUT.num_bytes)
    slab = Slab(LAYOUT, memory.memory)
    program = (
        "import sys\n"
        "from metta_cli.environments.slab import SharedMemory, Slab, SlabLayout\n"
        "layout = SlabLayout(3, 5, 7, 2)\n"
        "slab = Slab(layout, SharedMemory(layout.num_bytes, int(sys.argv[1])).memory)\n"
        "assert slab.rewards[4] == 0.5\n"
        "slab.teams[14] = 9\n"
    )
    slab.rewards[4] = 0.5
    descriptor = memory.file_descriptor
    subprocess.run([sys.executable, "-c", program, str(descriptor)], pass_fds=[descriptor], check=True)
    assert slab.teams.tolist() == [0] * 14 + [9]
    memory.close()


def test_shared_memory_outlives_its_descriptor():
    memory = SharedMemory(LAYOUT.num_bytes)
    slab = Slab(LAYOUT, memory.memory)
    memory.close()
    memory.close()
    slab.rewards[0] = 2.0
    assert slab.rewards[0] == 2.0


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads the names of open files from /proc")
def test_shared_memory_has_no_name_that_could_be_left_behind():
    memory = SharedMemory(LAYOUT.num_bytes)
    assert os.readlink(f"/proc/self/fd/{memory.file_descriptor}").endswith(" (deleted)")
    memory.close()
