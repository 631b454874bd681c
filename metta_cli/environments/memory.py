"""A game that needs memory: what is seen at the start decides where to turn much later.

`memory/memory_one_apple` is only a name in the documents of 2025; this follows its nearest relative,
`memory/evals/easy`.
"""

from __future__ import annotations

from mettagrid.config.mettagrid_config import MettaGridConfig
from mettagrid.map_builder.choice_ascii import ChoiceAsciiMapBuilder
from pydantic import Field

from metta_cli.environments.navigation import Navigation

_ARM_CELLS = 7
"""Length of the corridor and of the two arms beside it: longer than an agent can see (5 cells)."""
_CELL_NAMES = {"#": "wall", ".": "empty", "@": "agent.agent", "_": "altar"}


class OneApple(Navigation):
    """One apple, an altar with a heart, lies at the far end of the left or of the right arm.

    The agent starts at the foot of the corridor between the arms and sees the apple through the wall.
    On the way up and around the wall it loses sight of it; the map is one of two mirror images.
    """

    max_steps: int = Field(42, gt=0)
    """Steps of one episode; enough for one arm and not for both."""
    heart_reward: float = Field(0.333, gt=0)
    """Reward for the apple."""

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        right = self._rows()
        left = [row[::-1] for row in right]
        maps = ChoiceAsciiMapBuilder.Config(map_options=[right, left], char_to_map_name=_CELL_NAMES)
        return self.navigate(maps, num_agents=1)

    def return_max(self) -> float:
        """Return what the apple is worth."""
        return self.heart_reward

    def _rows(self) -> list[str]:
        """Draw the map: a hall in the north, and under it an arm, the corridor and another arm."""
        wall, hall, arms = "#" * 13, "#...........#", "#...#...#...#"
        foot = "#...#.@.#_..#"
        return [wall, *[hall] * 3, *[arms] * (_ARM_CELLS - 1), foot, wall]
