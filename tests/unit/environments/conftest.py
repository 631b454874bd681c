"""MettaGrid itself, without the vectorized environment around it; the tests import `config_changes`."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mettagrid.config.mettagrid_c_config import convert_to_cpp_game_config, rename_map_agents
from mettagrid.config.mettagrid_config import MettaGridConfig
from mettagrid.mettagrid_c import MettaGrid

sys.path.insert(0, str(Path(__file__).parent))

StartEpisode = Callable[..., MettaGrid]


@pytest.fixture
def start_episode() -> StartEpisode:
    """Return a function that starts one episode of a configuration."""

    def start(config: MettaGridConfig, map_seed: int = 0, simulation_seed: int = 0) -> MettaGrid:
        config = config.model_copy(deep=True)
        builder = config.game.map_builder
        if "seed" in type(builder).model_fields:
            builder = builder.model_copy(update={"seed": map_seed})
        cells = builder.create().build_for_num_agents(config.game.num_agents).grid.tolist()
        cpp_config, renames = convert_to_cpp_game_config(config.game)
        return MettaGrid(cpp_config, rename_map_agents(cells, renames), simulation_seed)

    return start
