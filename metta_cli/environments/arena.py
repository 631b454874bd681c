"""Teams that mine, manufacture, and in combat rob each other.

After `arena/basic.yaml` and `arena/combat.yaml` of 2025 (24 agents without teams on four maps).
"""

from __future__ import annotations

from mettagrid.config.mettagrid_config import ActionsConfig, MettaGridConfig, WallConfig
from mettagrid.mapgen.mapgen import MapGen
from mettagrid.mapgen.scenes.random import Random
from pydantic import Field, model_validator

from metta_cli.environments import parts
from metta_cli.environments.game import BORDER_CELLS, Game

_GOODS = ["ore_red", "battery_red", "heart", "laser", "armor"]
_STATIONS = {"mine_red": 10, "generator_red": 5, "altar": 5, "lasery": 1, "armory": 1}
_OBSTACLES = {"block": 20, "wall": 20}
_MINE_CAPACITY = 5
_MINE_RESTOCK_STEPS = 50
_LASER_RANGE = 3
_FREEZE_STEPS = 10


class Arena(Game):
    """One ore makes a battery, three batteries make a heart; reward 1 per heart.

    The mines are the limit: they yield 1 ore at the start and 1 every 50 steps. A lasery makes a laser of
    1 ore and 2 batteries, an armory armor of 3 ore. Without combat both are of no use. In combat a hit
    freezes its victim for 10 steps and takes everything it carries.
    """

    teams: int = Field(2, ge=1, le=len(parts.TEAM_NAMES))
    """Teams; they only matter in combat, and to the score by team."""
    agents_per_team: int = Field(4, gt=0)
    """Agents of each team."""
    combat: bool = False
    """Whether lasers shoot."""
    size: int = Field(25, ge=12)
    """Cells per side of the field."""

    @model_validator(mode="after")
    def _fits(self) -> Arena:
        things = self.teams * self.agents_per_team + sum(_STATIONS.values()) + sum(_OBSTACLES.values())
        if things > self.size**2 // 2:
            raise ValueError(f"{things} agents and objects crowd a field of size {self.size}")
        return self

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        limits = {"heart": parts.HEART_LIMIT} | ({"frozen": _FREEZE_STEPS} if self.combat else {})
        held = parts.inventory(parts.CARRY_LIMIT, limits, {})
        rewards = {"heart": parts.net_gain("heart", 1.0)}
        return self.assemble(
            self._maps(),
            num_agents=self.teams * self.agents_per_team,
            resource_names=[*_GOODS, *(["frozen"] if self.combat else [])],
            actions=self._actions(),
            agents=parts.team_agents(self.teams, self.agents_per_team, held, rewards, combat=self.combat),
            objects={
                "wall": WallConfig(),
                "block": WallConfig(name="block"),
                "mine_red": parts.dispenser("mine_red", "ore_red", stock=1, capacity=_MINE_CAPACITY),
                "generator_red": parts.converter("generator_red", {"ore_red": 1}, {"battery_red": 1}),
                "altar": parts.converter("altar", {"battery_red": 3}, {"heart": 1}),
                "lasery": parts.converter("lasery", {"ore_red": 1, "battery_red": 2}, {"laser": 1}),
                "armory": parts.converter("armory", {"ore_red": 3}, {"armor": 1}),
            },
            events=parts.restock(
                "mine_red", "ore_red", every_steps=_MINE_RESTOCK_STEPS, max_steps=self.max_steps
            ),
        )

    def _actions(self) -> ActionsConfig:
        if self.combat:
            return parts.walking_and_shooting(_LASER_RANGE, _FREEZE_STEPS, _GOODS)
        return parts.walking()

    def _maps(self) -> MapGen.Config:
        agents = {f"team_{team}": self.agents_per_team for team in range(self.teams)}
        place = Random.Config(agents=agents, objects=_STATIONS | _OBSTACLES, too_many_is_ok=False)
        return MapGen.Config(width=self.size, height=self.size, border_width=BORDER_CELLS, instance=place)
