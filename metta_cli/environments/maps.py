"""Maps by seed: generated once, kept small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mettagrid.config.mettagrid_c_config import rename_map_agents
from mettagrid.map_builder.map_builder import MapBuilderConfig

Grid = list[list[str]]
"""Names of the cells of a map, row by row: the form that the simulator reads."""


@dataclass(frozen=True, eq=False)
class PackedMap:
    """A map as one byte per cell; unpacking is hundreds of times faster than generating.

    Attributes:
        names: object `[V]`, the names that occur.
        codes: uint8 (uint16 for more than 256 names) `[rows, columns]`, indices into `names`.
    """

    names: np.ndarray
    codes: np.ndarray

    @classmethod
    def pack(cls, grid: Grid) -> PackedMap:
        """Pack a grid."""
        cells = np.array(grid)
        names, codes = np.unique(cells, return_inverse=True)
        code_type = np.uint8 if len(names) <= 256 else np.uint16
        return cls(np.array(names.tolist(), dtype=object), codes.reshape(cells.shape).astype(code_type))

    def unpack(self) -> Grid:
        """Return the grid again; equal names are one string object."""
        grid: Grid = self.names[self.codes].tolist()
        return grid


class MapSource:
    """Makes the map of a seed.

    Two map sources with equal arguments make equal maps: the seed of the builder, and of builders inside
    it, is always set here. (MettaGrid does not pass a seed down to an inner map builder, and a builder
    without a seed draws from the entropy of the machine.)

    Args:
        map_builder: a MettaGrid map builder configuration.
        num_agents: agents that the map must have room for.
        agent_renames: cell name of a group of agents -> cell name of each agent, as MettaGrid's
            configuration converter returns it.
        keep: whether to keep every map that was made. Worth it only if seeds come again (a map pool);
            costs one byte per cell, 8 to 43 kB for the terrain maps.
    """

    def __init__(
        self,
        map_builder: MapBuilderConfig[Any],
        num_agents: int,
        agent_renames: Mapping[str, list[str]],
        *,
        keep: bool,
    ) -> None:
        self._map_builder = map_builder.model_copy(deep=True)
        self._num_agents = num_agents
        self._agent_renames = dict(agent_renames)
        self._kept: dict[int, PackedMap] | None = {} if keep else None

    def grid(self, map_seed: int) -> Grid:
        """Return the map of a seed, cells of agents renamed to single agents.

        Args:
            map_seed: any int from 0; a builder without a seed field makes the same map for all of them.
        """
        if self._kept is None:
            return self._generate(map_seed)
        if map_seed not in self._kept:
            self._kept[map_seed] = PackedMap.pack(self._generate(map_seed))
        return self._kept[map_seed].unpack()

    def _generate(self, map_seed: int) -> Grid:
        set_seed(self._map_builder, map_seed)
        game_map = self._map_builder.create().build_for_num_agents(self._num_agents)
        grid: Grid = game_map.grid.tolist()
        return rename_map_agents(grid, self._agent_renames) if self._agent_renames else grid


def set_seed(map_builder: MapBuilderConfig[Any], map_seed: int) -> None:
    """Set the seed of a map builder configuration, and of the builder inside it, in place."""
    if "seed" in type(map_builder).model_fields:
        map_builder.seed = map_seed
    inner = getattr(map_builder, "instance", None)
    if isinstance(inner, MapBuilderConfig):
        set_seed(inner, map_seed)
