"""MettaGrid's terrain generator, several times faster, with the same maps and some more styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, overload

import numpy as np
from mettagrid.mapgen.scene import Scene
from mettagrid.mapgen.scenes.varied_terrain import VariedTerrain, VariedTerrainConfig

MORE_STYLES: dict[str, dict[str, Any]] = {
    # Something in every room, however small, where "all-sparse" leaves most of them empty.
    "sparse": {
        "large_obstacles": {"size_range": [10, 25], "count": [2, 5]},
        "small_obstacles": {"size_range": [3, 6], "count": [3, 6]},
        "crosses": {"count": [2, 5]},
        "labyrinths": {"count": [0, 1]},
        "scattered_walls": {"count": [4, 10]},
        "blocks": {"count": [0, 2]},
    },
    # The balanced field without its labyrinths, and so without altars that they bring.
    "obstacles": {
        "large_obstacles": {"size_range": [10, 25], "count": [5, 10]},
        "small_obstacles": {"size_range": [3, 6], "count": [5, 10]},
        "crosses": {"count": [5, 10]},
        "labyrinths": {"count": [0, 1]},
        "scattered_walls": {"count": [5, 20]},
        "blocks": {"count": [4, 8]},
    },
    "cylinder-world": {
        "large_obstacles": {"size_range": [10, 25], "count": [0, 1]},
        "small_obstacles": {"size_range": [3, 6], "count": [0, 1]},
        "crosses": {"count": [0, 1]},
        "labyrinths": {"count": [0, 1]},
        "scattered_walls": {"count": [0, 1]},
        "blocks": {"count": [0, 1]},
    },
}
"""Style -> how many of each kind there are on 60x60 cells, from the first number to before the second."""

CYLINDER_LENGTH = (6, 16)
CYLINDER_GAP = (1, 3)
CELLS_PER_CYLINDER = 80
"""Cells of a room that one cylinder comes on, while there is space."""


class QuickTerrainConfig(VariedTerrainConfig):
    """The arguments of `VariedTerrain`, and one more.

    Attributes:
        exact: whether a room has exactly as many objects as were asked for, in the same region as its agents;
            otherwise labyrinths bring some of their own, and may shut one in.
    """

    _scene_cls: ClassVar[type[Scene] | None] = None  # an inherited one would count as taken

    exact: bool = False


class QuickTerrain(VariedTerrain, Scene[QuickTerrainConfig]):
    """`VariedTerrain` that finds empty regions through a summed-area table.

    The original looks at every cell of every window and makes a list of all empty ones, of which one is
    drawn: 9/10 of its time. This one consumes the same random numbers and draws the same windows, so a seed
    gives the same map.

    `cylinder-world` is full of cylinders, pairs of parallel walls that are open at their ends. The altars
    stand in the middle of them, so that one that is in sight can still be a long way off.

    Source: Crow 1984, "Summed-area tables for texture mapping".
    """

    STYLE_PARAMETERS: ClassVar[dict[str, dict[str, Any]]] = {
        **VariedTerrain.STYLE_PARAMETERS,
        **MORE_STYLES,
    }

    def render(self) -> None:
        """Draw the room."""
        super().render()
        if self.config.exact:
            region = self._largest_region()
            self._settle("agent.agent", self.config.agents, region)
            for name, count in self.config.objects.items():
                self._settle(name, count, region)

    def _settle(self, name: str, count: int, region: np.ndarray) -> None:
        """Leave `count` things of a name, all in or beside the region: remove some, or place more."""
        beside = np.pad(region, 1)
        near = (
            beside[1:-1, 1:-1] | beside[:-2, 1:-1] | beside[2:, 1:-1] | beside[1:-1, :-2] | beside[1:-1, 2:]
        )
        is_here = self.grid == name
        self.grid[is_here & ~near] = "empty"
        cells = np.flatnonzero(is_here & near)
        if len(cells) > count:
            self.grid.flat[self.rng.choice(cells, len(cells) - count, replace=False)] = "empty"
        free = np.flatnonzero(region & (self.grid == "empty"))
        missing = min(max(count - len(cells), 0), len(free))
        self.grid.flat[self.rng.choice(free, missing, replace=False)] = name

    def _largest_region(self) -> np.ndarray:
        """Return which cells belong to the largest region that can be walked through, bool like the grid."""
        columns = self.width + 2
        walkable = np.pad((self.grid == "empty") | (self.grid == "agent.agent"), 1).ravel()
        open_cells = bytearray(walkable.tobytes())
        largest: list[int] = []
        left = int(walkable.sum())
        start = open_cells.find(1)
        while start >= 0 and left > len(largest):
            open_cells[start] = 0
            cells = [start]
            for cell in cells:  # grows meanwhile
                for neighbour in (cell - 1, cell + 1, cell - columns, cell + columns):
                    if open_cells[neighbour]:
                        open_cells[neighbour] = 0
                        cells.append(neighbour)
            left -= len(cells)
            largest = max(largest, cells, key=len)
            start = open_cells.find(1)
        region = np.zeros_like(walkable)
        region[largest] = True
        return region.reshape(self.height + 2, columns)[1:-1, 1:-1]

    def _place_labyrinths(self) -> None:
        if self.config.style != "cylinder-world":
            super()._place_labyrinths()
            return
        altars = self.config.objects.get("hub", 0)
        for index in range(self.width * self.height // CELLS_PER_CYLINDER):
            self._place_candidate_region(self._cylinder(holds_altar=index < altars), clearance=1)

    def _cylinder(self, *, holds_altar: bool) -> np.ndarray:
        """Return two parallel walls, lying or standing, perhaps with an altar between them."""
        length = int(self.rng.integers(CYLINDER_LENGTH[0], CYLINDER_LENGTH[1] + 1))
        gap = int(self.rng.integers(CYLINDER_GAP[0], CYLINDER_GAP[1] + 1))
        pattern = np.full((gap + 2, length), "empty", dtype=object)
        pattern[[0, -1], :] = "wall"
        if holds_altar:
            pattern[1 + gap // 2, length // 2] = "hub"
        return pattern if self.rng.random() < 0.5 else pattern.T

    def _find_candidates(self, region_shape: tuple[int, int]) -> Sequence[tuple[int, int]]:
        """Return the top left cells of all empty windows of a shape, row by row."""
        rows, columns = region_shape
        if self.height < rows or self.width < columns:
            return ()
        table = np.zeros((self.height + 1, self.width + 1), np.int32)
        np.cumsum(self._occupancy, axis=0, out=table[1:, 1:])
        np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
        occupied = table[rows:, columns:] - table[:-rows, columns:]
        occupied -= table[rows:, :-columns]
        occupied += table[:-rows, :-columns]
        return _Cells(np.flatnonzero(occupied.ravel() == 0), occupied.shape[1])


class _Cells(Sequence[tuple[int, int]]):
    """Cells of a grid that are known by their index in reading order."""

    def __init__(self, indices: np.ndarray, num_columns: int) -> None:
        self._indices = indices
        self._num_columns = num_columns

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, position: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[tuple[int, int]]: ...

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return _Cells(self._indices[position], self._num_columns)
        return divmod(int(self._indices[position]), self._num_columns)
