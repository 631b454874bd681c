"""Training against opponents that do not learn."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from metta_cli.config.league import LeagueConfig
from metta_cli.config.section import Section


class CheckpointOpponentConfig(Section):
    """An opponent that is a trained policy."""

    checkpoint_path: str | None = None
    """URI or path of its checkpoint."""
    policy_uri: str | None = Field(default=None, validation_alias=AliasChoices("policy_uri", "uri"))
    """Another name for `checkpoint_path`; only one of the two may be set."""
    pytorch: dict[str, Any] = Field(default_factory=dict)
    """Architecture of a file that another tool wrote; empty recognises it from the weights."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.checkpoint_path is None) == (self.policy_uri is None):
            raise ValueError("exactly one of checkpoint_path and policy_uri must be set")
        return self

    @property
    def address(self) -> str:
        """The one of the two that is set."""
        return self.checkpoint_path or self.policy_uri or ""


class ScriptedOpponentConfig(Section):
    """An opponent that follows a script."""

    type: Literal["roomba", "grid_search"] = "roomba"
    """Which script."""
    approach_items: bool = True
    """Whether it walks to stations that it sees."""
    interact_with_items: bool = True
    """Whether it uses those that are next to it; else it turns as at a wall."""
    roomba_direction: Literal["clockwise", "counterclockwise"] = "clockwise"
    """To which side the roomba turns at a wall."""
    grid_search_pattern: Literal["spiral", "snake", "random"] = "spiral"
    """Path of the grid search."""


class DualPolicyConfig(LeagueConfig):
    """Which agents an opponent plays, and which opponent."""

    enabled: bool = False
    """Whether there is an opponent."""
    policy_a_percentage: float = Field(
        default=0.5, ge=0, le=1, validation_alias=AliasChoices("policy_a_percentage", "training_agents_pct")
    )
    """Share of the agents of every environment that the learning policy plays."""
    assignment: Literal["fraction", "team"] = "fraction"
    """Whether the share is of single agents, drawn anew for every episode, or of whole teams."""
    npc_type: Literal["scripted", "checkpoint"] = "scripted"
    """What kind of opponent; where only `checkpoint_npc` is set, it is checkpoint."""
    checkpoint_npc: CheckpointOpponentConfig | None = None
    """The opponent, if `npc_type` is checkpoint."""
    npc_policy_uri: str | None = None
    """The opponent's checkpoint, as older configurations name it."""
    scripted_npc: ScriptedOpponentConfig = ScriptedOpponentConfig()
    """The opponent, if `npc_type` is scripted."""

    @model_validator(mode="before")
    @classmethod
    def _kind_of_what_is_named(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "npc_type" in data:
            return data
        is_named = data.get("checkpoint_npc") or data.get("npc_policy_uri")
        return {**data, "npc_type": "checkpoint"} if is_named else data

    @model_validator(mode="after")
    def _opponent_is_named(self) -> Self:
        needs_one = self.enabled and self.npc_type == "checkpoint" and self.mode == "single"
        if needs_one and self.npc_uri is None:
            raise ValueError("npc_type checkpoint needs checkpoint_npc.checkpoint_path")
        return self

    @property
    def npc_uri(self) -> str | None:
        """Address of the one opponent of the mode `single`; None if it is the script of `scripted_npc`."""
        if self.opponents:
            return self.opponents[0].uri
        if self.npc_type == "scripted":
            return None
        return self.checkpoint_npc.address if self.checkpoint_npc else self.npc_policy_uri
