"""Two teams take hearts from each other with lasers.

After `laser_tag.yaml` of 2025 (18 against 18 and one heart on the whole map): here teams are smaller and
every agent starts with a heart, so that there is something to win from the first step.
"""

from __future__ import annotations

from mettagrid.config.mettagrid_config import MettaGridConfig, WallConfig
from mettagrid.mapgen.area import AreaWhere
from mettagrid.mapgen.mapgen import MapGen
from mettagrid.mapgen.scene import ChildrenAction
from mettagrid.mapgen.scenes.random import Random
from mettagrid.mapgen.scenes.room_grid import RoomGrid
from pydantic import Field, model_validator

from metta_cli.environments import parts
from metta_cli.environments.game import BORDER_CELLS, Game

_TEAMS = 2
_STOCK = 5
_RESTOCK_STEPS = 5
_CARRY_LIMIT = 5
_BLOCKS = 10


class LaserTag(Game):
    """Red starts in the west, blue in the east; reward is hearts gained minus hearts lost.

    Both sides have laseries and armories, free to everyone. A hit freezes its victim and takes all its
    hearts, lasers and armor; armor blocks one hit. Shooting takes the vibe `laser`, a laser, and a move
    towards the target.
    """

    agents_per_team: int = Field(4, gt=0)
    """Agents of each of the two teams."""
    size: int = Field(25, ge=15)
    """Cells per side of the field."""
    stations: int = Field(4, gt=0)
    """Laseries on each side, and as many armories."""
    initial_hearts: int = Field(1, ge=0)
    """Hearts that an agent starts with; they pay nothing until they change hands."""
    laser_range: int = Field(3, gt=0)
    """Cells that a shot reaches."""
    freeze_steps: int = Field(10, gt=0)
    """Steps that a victim cannot move, nor be shot."""

    @model_validator(mode="after")
    def _fits(self) -> LaserTag:
        cells = (self.size // 3) * self.size
        if self.agents_per_team + 2 * self.stations > cells // 2:
            things = f"{self.agents_per_team} agents and {2 * self.stations} stations"
            raise ValueError(f"{things} crowd a third of a field of size {self.size}")
        return self

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        loot = ["heart", "laser", "armor"]
        held = parts.inventory(
            _CARRY_LIMIT,
            {"heart": parts.HEART_LIMIT, "frozen": self.freeze_steps},
            {"heart": self.initial_hearts},
        )
        rewards = {"heart": parts.net_gain("heart", 1.0)}
        refill = {"every_steps": _RESTOCK_STEPS, "max_steps": self.max_steps}
        return self.assemble(
            self._maps(),
            num_agents=_TEAMS * self.agents_per_team,
            resource_names=[*loot, "frozen"],
            actions=parts.walking_and_shooting(self.laser_range, self.freeze_steps, loot),
            agents=parts.team_agents(_TEAMS, self.agents_per_team, held, rewards, combat=True),
            objects={
                "wall": WallConfig(),
                "block": WallConfig(name="block"),
                "lasery": parts.dispenser("lasery", "laser", stock=_STOCK, capacity=_STOCK),
                "armory": parts.dispenser("armory", "armor", stock=_STOCK, capacity=_STOCK),
                "altar": parts.dispenser("altar", "heart", stock=1, capacity=1),
            },
            events=parts.restock("lasery", "laser", **refill) | parts.restock("armory", "armor", **refill),
        )

    def _maps(self) -> MapGen.Config:
        """Return the field: three open columns, a team in each outer one, the altar in the middle."""
        middle = Random.Config(objects={"altar": 1, "block": _BLOCKS})
        scenes = [self._base(0), middle, self._base(1)]
        columns = [
            ChildrenAction(scene=scene, where=AreaWhere(tags=[f"room_0_{column}"]), limit=1)
            for column, scene in enumerate(scenes)
        ]
        field = RoomGrid.Config(rows=1, columns=len(columns), border_width=0, children=columns)
        return MapGen.Config(width=self.size, height=self.size, border_width=BORDER_CELLS, instance=field)

    def _base(self, team: int) -> Random.Config:
        objects = {"lasery": self.stations, "armory": self.stations}
        return Random.Config(objects=objects, agents={f"team_{team}": self.agents_per_team})
