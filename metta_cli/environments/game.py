"""What every builder has in common: its arguments are a closed, typed section with a `build` method."""

from __future__ import annotations

from typing import Any

from mettagrid.config.mettagrid_config import GameConfig, GlobalObsConfig, MettaGridConfig, ObsConfig
from mettagrid.config.render_config import RenderConfig
from mettagrid.map_builder.map_builder import MapBuilderConfig
from pydantic import ConfigDict, Field, field_validator

from metta_cli.config.section import Section
from metta_cli.environments.parts import SYMBOLS

BORDER_CELLS = 1
"""Thickness of the outer wall. MettaGrid skips cells outside the map, so a thicker wall changes nothing that
an agent can do, but every wall cell in sight costs time: 6 cells make the simulator 1.7 times slower."""


class Game(Section):
    """A game that can be built; the fields are the arguments of its builder.

    Types are strict: `size: "12"` or `combat: 1` in a file is an error, not a guess.
    """

    model_config = ConfigDict(strict=True)

    max_steps: int = Field(1000, gt=0)
    """Steps of one episode, which then ends as a truncation."""
    observation_size: int = Field(11, ge=1, le=15)
    """Side of the window that an agent sees, in cells: odd, at most 15. Its corners are cut off."""
    num_tokens: int | None = Field(None, gt=0)
    """Rows of the observation; unset, the most that an agent of this game can ever see."""

    @field_validator("observation_size")
    @classmethod
    def _has_a_middle(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("an agent stands in the middle of its window, so the size must be odd")
        return size

    def build(self) -> MettaGridConfig:
        """Return a new configuration of the game."""
        raise NotImplementedError

    def return_max(self) -> float | None:
        """Return the most that an episode can give, averaged over the agents; None if there is no limit."""
        return None

    def assemble(self, map_builder: MapBuilderConfig, **game: Any) -> MettaGridConfig:
        """Return a configuration of this length and window, with the rest of the `game` as given.

        The tokens that MettaGrid never fills (`last_reward`, the protocol features) are off.
        """
        window = ObsConfig(
            width=self.observation_size,
            height=self.observation_size,
            num_tokens=self.num_tokens or 1,
            global_obs=GlobalObsConfig(last_reward=False),
        )
        symbols = {name: SYMBOLS[name] for name in game["objects"]}
        return MettaGridConfig(
            game=GameConfig(
                max_steps=self.max_steps,
                episode_truncates=True,
                obs=window,
                protocol_details_obs=False,
                map_builder=map_builder,
                render=RenderConfig(symbols=symbols),
                **game,
            )
        )
