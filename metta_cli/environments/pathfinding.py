"""Shortest paths on the grid of one episode."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Set

import numpy as np

UNREACHABLE = 2**16 - 1
"""Distance of a cell from which there is no way."""


class Paths:
    """Walking distances around the things that never move.

    A cell is a number, `row * stride + column`, with a frame of closed cells around the map, so that the
    four neighbors of a cell are always there to be looked at.

    Args:
        closed: bool `[rows, columns]`, the cells that nobody can enter.
    """

    def __init__(self, closed: np.ndarray) -> None:
        framed = np.pad(closed, 1, constant_values=True)
        self.stride: int = framed.shape[1]
        self.closed: list[bool] = framed.ravel().tolist()
        self.directions = {
            "move_north": -self.stride,
            "move_south": self.stride,
            "move_west": -1,
            "move_east": 1,
        }
        self._offsets = tuple(self.directions.values())
        self._floods: dict[int, _Flood] = {}
        self._regions = self._label_regions()

    def cell(self, row: int, column: int) -> int:
        """Return the number of the cell in this row and column of the map."""
        return (row + 1) * self.stride + column + 1

    def distance(self, start: int, target: int) -> int:
        """Return the steps from one cell to another, which may itself be closed; `UNREACHABLE` for no way."""
        region = self._regions[start]
        if start != target and all(self._regions[target + offset] != region for offset in self._offsets):
            return UNREACHABLE
        return self._flood(target).distance(start)

    def at_least(self, start: int, target: int) -> int:
        """Return a lower bound of the distance, at once."""
        rows = abs(start // self.stride - target // self.stride)
        return rows + abs(start % self.stride - target % self.stride)

    def direct(self, start: int, target: int, occupied: Set[int]) -> str | None:
        """Return the first move of a shortest way, or None if somebody stands on every such first cell.

        Args:
            start: where to start.
            target: where to go; the last move runs into it.
            occupied: cells that somebody stands on now.
        """
        if self.distance(start, target) == UNREACHABLE:
            return None
        return self._downhill(start, self._flood(target), occupied - {target})

    def detour(self, start: int, target: int, occupied: Set[int]) -> str | None:
        """Return the first move of a shortest way around the occupied cells, or None if there is none.

        Not remembered, unlike distances: a flood of the map each time.

        Args:
            start: where to start.
            target: where to go; the last move runs into it.
            occupied: cells that somebody stands on now.
        """
        if self.distance(start, target) == UNREACHABLE:
            return None
        others = occupied - {start, target}
        flood = _Flood(target, self.closed, self._offsets, others)
        return None if flood.distance(start) == UNREACHABLE else self._downhill(start, flood, others)

    def _downhill(self, start: int, flood: _Flood, occupied: Collection[int]) -> str | None:
        """Return the move to a free neighbor that is one step nearer."""
        nearer = flood.distance(start)
        for name, offset in self.directions.items():
            neighbor = start + offset
            if flood.distances[neighbor] < nearer and neighbor not in occupied:
                return name
        return None

    def _flood(self, target: int) -> _Flood:
        if target not in self._floods:
            self._floods[target] = _Flood(target, self.closed, self._offsets, ())
        return self._floods[target]

    def _label_regions(self) -> list[int]:
        """Number the open cells by the region that can be walked from one to another; -1 is closed."""
        regions = [-1] * len(self.closed)
        for seed, closed in enumerate(self.closed):
            if closed or regions[seed] >= 0:
                continue
            regions[seed] = seed
            front = [seed]
            while front:
                cell = front.pop()
                for offset in self._offsets:
                    neighbor = cell + offset
                    if regions[neighbor] < 0 and not self.closed[neighbor]:
                        regions[neighbor] = seed
                        front.append(neighbor)
        return regions


class _Flood:
    """Distances to one target, worked out outward from it and no further than they are asked for.

    Args:
        target: cell of distance 0; the flood goes around it even if it is closed.
        closed: the cells that it does not enter.
        offsets: from a cell to its neighbors.
        occupied: more cells that it does not enter.
    """

    def __init__(
        self, target: int, closed: list[bool], offsets: tuple[int, ...], occupied: Collection[int]
    ) -> None:
        self.distances = array("H", [UNREACHABLE]) * len(closed)
        self.distances[target] = 0
        self._closed, self._offsets, self._occupied = closed, offsets, occupied
        self._front = [target]
        self._reached = 0

    def distance(self, cell: int) -> int:
        """Return the distance of a cell; all cells that are nearer to the target are known afterwards."""
        while self._front and self.distances[cell] == UNREACHABLE:
            self._advance()
        return self.distances[cell]

    def _advance(self) -> None:
        """Reach the cells that are one step further."""
        distances, closed, offsets, occupied = self.distances, self._closed, self._offsets, self._occupied
        self._reached = reached = self._reached + 1
        following = []
        for cell in self._front:
            for offset in offsets:
                neighbor = cell + offset
                if distances[neighbor] > reached and not closed[neighbor] and neighbor not in occupied:
                    distances[neighbor] = reached
                    following.append(neighbor)
        self._front = following
