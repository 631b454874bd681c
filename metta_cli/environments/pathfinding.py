"""Shortest paths on the grid of one episode."""

from __future__ import annotations

from array import array
from collections.abc import Collection

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
        self._distances: dict[int, array[int]] = {}

    def cell(self, row: int, column: int) -> int:
        """Return the number of the cell in this row and column of the map."""
        return (row + 1) * self.stride + column + 1

    def distances(self, target: int) -> array[int]:
        """Return the steps from every cell to the target, which may itself be closed.

        Worked out once per target.
        """
        if target not in self._distances:
            self._distances[target] = self._flood(target, ())
        return self._distances[target]

    def direct(self, start: int, target: int, occupied: Collection[int]) -> str | None:
        """Return the first move of a shortest way, or None if somebody stands on every such first cell.

        Args:
            start: where to start.
            target: where to go; the last move runs into it.
            occupied: cells that somebody stands on now.
        """
        return self._downhill(start, target, self.distances(target), occupied)

    def detour(self, start: int, target: int, occupied: Collection[int]) -> str | None:
        """Return the first move of a shortest way around the occupied cells, or None if there is none.

        Not remembered, unlike `distances`: a flood of the map each time.

        Args:
            start: where to start.
            target: where to go; the last move runs into it.
            occupied: cells that somebody stands on now.
        """
        if self.distances(target)[start] == UNREACHABLE:
            return None
        return self._downhill(start, target, self._flood(target, occupied, stop=start), occupied)

    def _downhill(
        self, start: int, target: int, distances: array[int], occupied: Collection[int]
    ) -> str | None:
        """Return the move to the neighbor that is one step nearer and free, or is the target."""
        for name, offset in self.directions.items():
            neighbor = start + offset
            if neighbor == target or (distances[neighbor] < distances[start] and neighbor not in occupied):
                return name
        return None

    def _flood(self, target: int, occupied: Collection[int], stop: int | None = None) -> array[int]:
        """Number the open, unoccupied cells outward from the target, as far as `stop` if one is given."""
        distances = array("H", [UNREACHABLE]) * len(self.closed)
        distances[target] = 0
        offsets, closed = tuple(self.directions.values()), self.closed
        front, distance = [target], 0
        while front and (stop is None or distances[stop] == UNREACHABLE):
            distance += 1
            following = []
            for cell in front:
                for offset in offsets:
                    neighbor = cell + offset
                    if distances[neighbor] > distance and not closed[neighbor]:
                        if neighbor in occupied and neighbor != stop:
                            continue
                        distances[neighbor] = distance
                        following.append(neighbor)
            front = following
        return distances
