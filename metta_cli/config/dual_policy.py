"""Training against an opponent that does not learn."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from metta_cli.config.league import LeagueConfig
from metta_cli.config.section import Section


class CheckpointOpponentConfig(Section):
    """An opponent that is a trained policy."""

    checkpoint_path: str | None = None
    """URI or path of its checkpoint."""
    policy_uri: str | None = None
    """Another name for `checkpoint_path`; only one of the two may be set."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.checkpoint_path is None) == (self.policy_uri is None):
            raise ValueError("exactly one of checkpoint_path and policy_uri must be set")
        return self


class ScriptedOpponentConfig(Section):
    """An opponent that follows a script."""

    type: Literal["roomba", "grid_search"] = "roomba"
    """Which script."""
    approach_items: bool = True
    """Whether it walks to items that it sees."""
    interact_with_items: bool = True
    """Whether it uses them."""
    roomba_direction: Literal["clockwise", "counterclockwise"] = "clockwise"
    """To which side the roomba turns at a wall."""
    grid_search_pattern: Literal["spiral", "snake", "random"] = "spiral"
    """Path of the grid search."""


class DualPolicyConfig(LeagueConfig):
    """Which agents an opponent plays, and which opponent."""

    enabled: bool = False
    """Whether there is an opponent."""
    policy_a_percentage: float = Field(default=0.5, ge=0, le=1)
    """Share of the agents that the learning policy plays."""
    npc_type: Literal["scripted", "checkpoint"] = "scripted"
    """What kind of opponent."""
    checkpoint_npc: CheckpointOpponentConfig | None = None
    """The opponent, if `npc_type` is checkpoint."""
    npc_policy_uri: str | None = None
    """The opponent's checkpoint, as older configurations name it."""
    scripted_npc: ScriptedOpponentConfig = ScriptedOpponentConfig()
    """The opponent, if `npc_type` is scripted."""

    @model_validator(mode="after")
    def _opponent_is_named(self) -> Self:
        if not self.enabled or self.npc_type == "scripted":
            return self
        if self.checkpoint_npc is None and self.npc_policy_uri is None:
            raise ValueError("npc_type checkpoint needs checkpoint_npc.checkpoint_path")
        return self
