"""Games of walking to altars that hold hearts.

The 2025 originals are `navigation/evals/*` (one agent in the middle of a room) and
`navigation/training/terrain_from_numpy` (its maps came from the generator that MettaGrid now ships).
"""

from __future__ import annotations

from typing import Literal

from mettagrid.config.mettagrid_config import AgentConfig, MettaGridConfig, WallConfig
from mettagrid.map_builder.map_builder import MapBuilderConfig
from mettagrid.mapgen.mapgen import MapGen
from mettagrid.mapgen.scene import SceneConfig
from mettagrid.mapgen.scenes.mean_distance import MeanDistance
from mettagrid.mapgen.scenes.random import Random
from pydantic import Field, model_validator

from metta_cli.environments import parts
from metta_cli.environments.game import BORDER_CELLS, Game
from metta_cli.environments.terrain import QuickTerrain


class Navigation(Game):
    """Altars with one heart each; whoever walks into one takes it."""

    heart_reward: float = Field(1.0, gt=0)
    """Reward per heart taken."""

    def navigate(
        self,
        map_builder: MapBuilderConfig,
        *,
        num_agents: int,
        altar_map_name: str = "altar",
        restock_steps: int = 0,
    ) -> MettaGridConfig:
        """Return the game on the given maps.

        Args:
            map_builder: draws the maps.
            num_agents: agents on one map.
            altar_map_name: what altars are called in the cells of the map.
            restock_steps: an empty altar gets a new heart every so many steps; 0 is never.
        """
        altar = parts.dispenser("altar", "heart", stock=1, capacity=1, map_name=altar_map_name)
        refill = parts.restock("altar", "heart", every_steps=restock_steps, max_steps=self.max_steps)
        held = parts.inventory(parts.CARRY_LIMIT, {"heart": parts.HEART_LIMIT}, {})
        return self.assemble(
            map_builder,
            num_agents=num_agents,
            resource_names=["heart"],
            actions=parts.walking(),
            agent=AgentConfig(inventory=held, rewards={"heart": parts.net_gain("heart", self.heart_reward)}),
            objects={"wall": WallConfig(), "altar": altar},
            events=refill,
        )

    def rooms(self, room: SceneConfig, *, size: int, count: int) -> MapBuilderConfig:
        """Return square rooms, one agent in each, far enough apart that nobody sees the next room."""
        return MapGen.Config(
            width=size,
            height=size,
            border_width=BORDER_CELLS,
            instances=count,
            instance_border_width=max(self.observation_size // 2, 1),
            instance=room,
        )


class MeanDistanceRoom(Navigation):
    """Every agent starts in the middle of its own room; objects lie at a Poisson distance from it."""

    num_agents: int = Field(1, gt=0)
    """Agents in one environment, each in a room of its own."""
    altars: int = Field(3, gt=0)
    """Altars per room."""
    size: int = Field(12, ge=4)
    """Cells per side of a room."""
    mean_distance: float = Field(10, gt=0)
    """Mean distance of an object from the agent, in cells; draws outside the room are repeated."""
    walls: int = Field(0, ge=0)
    """Single wall cells per room."""

    @model_validator(mode="after")
    def _fits(self) -> MeanDistanceRoom:
        # The generator draws until everything has a place: a room without places would hang it.
        if self.mean_distance > 0.9 * self.size:
            raise ValueError(f"mean_distance {self.mean_distance:g} is outside a room of size {self.size}")
        if self.altars + self.walls > self.size**2 // 4:
            raise ValueError(f"{self.altars} altars and {self.walls} walls crowd a room of size {self.size}")
        return self

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        objects = {"altar": self.altars} | ({"wall": self.walls} if self.walls else {})
        room = MeanDistance.Config(mean_distance=self.mean_distance, objects=objects)
        rooms = self.rooms(room, size=self.size, count=self.num_agents)
        return self.navigate(rooms, num_agents=self.num_agents)

    def return_max(self) -> float:
        """Return the hearts of a room."""
        return self.altars * self.heart_reward


class Terrain(Navigation):
    """Every agent starts somewhere in its own terrain of obstacles, blocks, labyrinths or cylinders.

    The labyrinths of the generator bring altars of their own and may shut one in, so that a room can
    have more than `altars`, and not every one can be reached, unless `exact_altars` says otherwise.
    """

    num_agents: int = Field(4, gt=0)
    """Agents in one environment, each in a room of its own."""
    altars: int = Field(10, gt=0)
    """Altars per room, at least; the exact number if `exact_altars`."""
    exact_altars: bool = False
    """Whether a room has no more altars than asked for, and all of them in the same region as its agent."""
    size: int = Field(40, ge=12)
    """Cells per side of a room."""
    style: Literal["all-sparse", "sparse", "balanced", "obstacles", "dense", "maze", "cylinder-world"] = (
        "balanced"
    )
    """What the generator puts into a room."""

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        # The generator writes its own altars as "hub", whatever it is asked for.
        room = QuickTerrain.Config(
            style=self.style, agents=1, objects={"hub": self.altars}, exact=self.exact_altars
        )
        rooms = self.rooms(room, size=self.size, count=self.num_agents)
        return self.navigate(rooms, num_agents=self.num_agents, altar_map_name="hub")

    def return_max(self) -> float:
        """Return the hearts of a room."""
        return self.altars * self.heart_reward


class Grid(Navigation):
    """All agents in one rectangle with altars and walls at random places."""

    num_agents: int = Field(4, gt=0)
    """Agents in one environment."""
    altars: int = Field(10, gt=0)
    """Altars in the grid."""
    width: int = Field(32, ge=2)
    """Cells from west to east, without the border."""
    height: int = Field(32, ge=2)
    """Cells from north to south, without the border."""
    walls: int = Field(20, ge=0)
    """Single wall cells."""
    restock_steps: int = Field(0, ge=0)
    """An empty altar gets a new heart every so many steps; 0 is never."""

    @model_validator(mode="after")
    def _fits(self) -> Grid:
        things = self.num_agents + self.altars + self.walls
        if things > self.width * self.height:
            raise ValueError(
                f"{things} agents, altars and walls do not fit into {self.width}x{self.height} cells"
            )
        return self

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        objects = {"altar": self.altars} | ({"wall": self.walls} if self.walls else {})
        place = Random.Config(agents=self.num_agents, objects=objects, too_many_is_ok=False)
        maps = MapGen.Config(width=self.width, height=self.height, border_width=BORDER_CELLS, instance=place)
        return self.navigate(maps, num_agents=self.num_agents, restock_steps=self.restock_steps)

    def return_max(self) -> float | None:
        """Return every agent's share of the hearts; without a limit if they come again."""
        return None if self.restock_steps else self.altars * self.heart_reward / self.num_agents
