"""The true state of one episode, as the scripted players see it."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metta_cli.environments.pathfinding import UNREACHABLE, Paths

_SCENERY = ["wall", "block"]
_HESITATION = 3
"""One in so many times an agent whose way is blocked steps aside."""


@dataclass
class Thing:
    """A station or an agent as it is now.

    Attributes:
        type_name: as in the configuration, `agent` for agents.
        cell: where it is, as a cell of `Paths`.
        raw: the simulator's account of it, with its inventory as `inv:RESOURCE`.
        agent_id: index of an agent, -1 for a station.
        team: team of an agent.
        vibe: index of the vibe of an agent.
    """

    type_name: str
    cell: int
    raw: dict[str, Any]
    agent_id: int = -1
    team: int = 0
    vibe: int = 0

    def amount(self, resource: str) -> int:
        """Return how much of a resource it holds."""
        amount: int = self.raw.get(f"inv:{resource}", 0)
        return amount


class Scene:
    """Everything but the scenery at one moment, and how to get about in it.

    Args:
        paths: the ways around everything that never moves.
        step: steps since the start of the episode.
        agents: in the order of their ids.
        stations: all other things, in map order.
    """

    def __init__(self, paths: Paths, step: int, agents: list[Thing], stations: list[Thing]) -> None:
        self.paths = paths
        self.step = step
        self.agents = agents
        self.stations = stations
        self.by_cell = {agent.cell: agent for agent in agents}

    def of_type(self, type_name: str) -> list[Thing]:
        """Return the stations of this type."""
        return [station for station in self.stations if station.type_name == type_name]

    def nearest(self, agent: Thing, things: Iterable[Thing]) -> Thing | None:
        """Return the thing with the shortest way to it, others in the way not counted.

        Of equals it is the first; None if no way leads to any.
        """
        best, shortest = None, UNREACHABLE
        for thing in sorted(things, key=lambda thing: self.paths.at_least(agent.cell, thing.cell)):
            if self.paths.at_least(agent.cell, thing.cell) >= shortest:
                break
            distance = self.paths.distance(agent.cell, thing.cell)
            if distance < shortest:
                best, shortest = thing, distance
        return best

    def assign(self, agents: Sequence[Thing], stations: Sequence[Thing], resource: str) -> dict[int, Thing]:
        """Send agents to stations that hold a resource, nearest first, as many to each as it has units.

        Args:
            agents: who wants a unit; earlier ones come first where ways are equally long.
            stations: where there may be some.
            resource: what they want.

        Returns:
            agent id -> station, for those for whom there is one.
        """
        left = [station.amount(resource) for station in stations]
        # Pairs by a lower bound of the distance, and by the distance itself once it has to be known.
        pairs = [
            (self.paths.at_least(agent.cell, station.cell), False, rank, order)
            for rank, agent in enumerate(agents)
            for order, station in enumerate(stations)
            if left[order]
        ]
        heapq.heapify(pairs)
        assigned: dict[int, Thing] = {}
        while pairs and len(assigned) < len(agents):
            distance, is_known, rank, order = heapq.heappop(pairs)
            agent, station = agents[rank], stations[order]
            if not left[order] or agent.agent_id in assigned:
                continue
            if is_known:
                assigned[agent.agent_id] = station
                left[order] -= 1
                continue
            distance = self.paths.distance(agent.cell, station.cell)
            if distance < UNREACHABLE:
                heapq.heappush(pairs, (distance, True, rank, order))
        return assigned

    def walk(self, agent: Thing, target: Thing) -> str:
        """Return the move towards a thing; where the way is blocked, around, or now and then aside.

        Two agents that always go around each other can do so for ever.
        """
        move = self.paths.direct(agent.cell, target.cell, self.by_cell.keys())
        if move is None and self._draw(agent) % _HESITATION:
            move = self.paths.detour(agent.cell, target.cell, self.by_cell.keys())
        return move or self.wander(agent)

    def wander(self, agent: Thing) -> str:
        """Return a move into some free cell, another one each time; noop where there is none."""
        moves = [
            name
            for name, offset in self.paths.directions.items()
            if not self.paths.closed[agent.cell + offset] and agent.cell + offset not in self.by_cell
        ]
        return moves[self._draw(agent) // _HESITATION % len(moves)] if moves else "noop"

    def first_in_line(self, agent: Thing, move: str, reach: int) -> Thing | None:
        """Return the agent that a line in the direction of a move meets before anything else."""
        cell = agent.cell
        for _ in range(reach):
            cell += self.paths.directions[move]
            if self.paths.closed[cell] or cell in self.by_cell:
                return self.by_cell.get(cell)
        return None

    def _draw(self, agent: Thing) -> int:
        """Return a number that looks random, the same for the same step, agent and place on any machine."""
        return zlib.crc32(f"{self.step}/{agent.agent_id}/{agent.cell}".encode())


class SceneReader:
    """Reads the state of an episode out of the simulator.

    Args:
        c_env: MettaGrid's simulator object. Scenery and stations are read here, once, and must not move.
    """

    def __init__(self, c_env: Any) -> None:
        self._c_env = c_env
        closed = np.zeros((c_env.map_height, c_env.map_width), dtype=bool)
        for thing in c_env.grid_objects().values():
            if "agent_id" not in thing:
                closed[thing["r"], thing["c"]] = True
        self._paths = Paths(closed)

    def read(self) -> Scene:
        """Return the state as it is now."""
        agents, stations = [], []
        for raw in self._c_env.grid_objects(ignore_types=_SCENERY).values():
            thing = Thing(raw["type_name"], self._paths.cell(raw["r"], raw["c"]), raw)
            if "agent_id" in raw:
                thing.agent_id, thing.team, thing.vibe = raw["agent_id"], raw["group_id"], raw["vibe"]
                agents.append(thing)
            else:
                stations.append(thing)
        agents.sort(key=lambda agent: agent.agent_id)
        return Scene(self._paths, self._c_env.current_step, agents, stations)
