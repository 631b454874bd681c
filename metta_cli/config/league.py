"""Training against several opponents: who they are, how they are chosen, and when new ones are made."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from metta_cli.config.section import Section

LEARNER = "learner"
"""Name of the learner in tables of matches."""
LIVE = "live"
"""Name of the opponent that is a copy of the learner as it is now."""
SNAPSHOT_NAME = r"v\d+"

Method = Literal[
    "weights",
    "uniform",
    "latest",
    "hard",
    "variance",
    "linear",
    "linear_capped",
    "squared",
    "quality",
    "adaptive",
]


class OpponentConfig(Section):
    """One of several opponents; a URI alone stands for it as well."""

    uri: str
    """Checkpoint, run or file of weights, or `mock://NAME` for a built-in player."""
    name: str | None = None
    """What tables and metrics call it; None is its URI."""
    weight: float = Field(default=1.0, ge=0)
    """How often it is met, beside the others, where `matchmaking.method` is weights."""

    @model_validator(mode="before")
    @classmethod
    def _uri_alone(cls, value: Any) -> Any:
        return {"uri": value} if isinstance(value, str) else value

    @property
    def id(self) -> str:
        """The name, or else the URI."""
        return self.name or self.uri


class MatchmakingConfig(Section):
    """Who of the opponents is met next, by how the matches so far went."""

    method: Method | None = None
    """How opponents are chosen; None is weights, and with self-play hard."""
    power: float = Field(default=2.0, ge=0)
    """Exponent of hard: larger means more against the strongest."""
    latest: int = Field(default=5, ge=1)
    """How many opponents, the last ones added, latest draws from."""
    quality_learning_rate: float = Field(default=0.01, gt=0)
    """How fast a beaten opponent loses quality."""
    target_win_rate: float = Field(default=0.5, ge=0, le=1)
    """Win rate of the learner that adaptive looks for."""
    target_width: float = Field(default=0.1, gt=0)
    """How far from the target an opponent is still met often, as a standard deviation."""
    decay: float = Field(default=0.99, gt=0, le=1)
    """Factor on the record against an opponent with every new match; 1 never forgets."""


class SelfPlayConfig(Section):
    """When the learner is copied into the league, and how often it meets itself."""

    snapshot_interval_agent_steps: int | None = Field(default=500_000, gt=0)
    """Agent steps between snapshots; None takes them at the gate only."""
    win_rate_gate: float | None = Field(default=None, gt=0, le=1)
    """A snapshot is taken early when the learner wins this share of its last matches; None has no gate."""
    gate_matches: int = Field(default=100, ge=1)
    """Matches since the last snapshot that the gate looks at."""
    live_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the matches against the learner itself, as it was when the epoch began."""
    max_snapshots: int = Field(default=10, ge=2)
    """How many snapshots there are at most; of those in between, the most crowded one goes first."""

    @model_validator(mode="after")
    def _snapshots_are_taken(self) -> Self:
        if self.snapshot_interval_agent_steps is None and self.win_rate_gate is None:
            raise ValueError("snapshot_interval_agent_steps and win_rate_gate must not both be null")
        return self


class OpponentCurriculumConfig(Section):
    """When the next opponent of a list, from weak to strong, is taken on."""

    win_rate: float = Field(default=0.7, gt=0, le=1)
    """Win rate against the opponent at hand that is enough."""
    matches: int = Field(default=100, ge=1)
    """Last matches against it that the win rate is taken over."""


class LeagueConfig(Section):
    """Whom the learner meets."""

    mode: Literal["single", "ensemble", "curriculum", "self_play"] = "single"
    """One opponent; several, drawn anew for every episode; one after the other; or the learner's own past."""
    opponents: list[OpponentConfig] = Field(default_factory=list)
    """The opponents of ensemble, of curriculum (weak to strong), or beside the snapshots of self_play."""
    matchmaking: MatchmakingConfig = MatchmakingConfig()
    """How ensemble and self_play choose."""
    self_play: SelfPlayConfig = SelfPlayConfig()
    """Snapshots, for the mode self_play."""
    curriculum: OpponentCurriculumConfig = OpponentCurriculumConfig()
    """Advancement, for the mode curriculum."""

    @field_validator("opponents")
    @classmethod
    def _names_are_distinct(cls, opponents: list[OpponentConfig]) -> list[OpponentConfig]:
        names = [opponent.id for opponent in opponents]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two opponents are called '{name}': give one another name")
            if name in (LIVE, LEARNER) or re.fullmatch(SNAPSHOT_NAME, name):
                raise ValueError(f"'{name}' is the name of a copy of the learner: give the opponent another")
        if opponents and not any(opponent.weight for opponent in opponents):
            raise ValueError("at least one opponent must have a weight above 0")
        return opponents

    @model_validator(mode="after")
    def _mode_has_opponents(self) -> Self:
        least = {"ensemble": 1, "curriculum": 2}.get(self.mode, 0)
        if len(self.opponents) < least:
            raise ValueError(f"mode {self.mode} needs at least {least} in opponents")
        if self.mode == "single" and len(self.opponents) > 1:
            raise ValueError("mode single has one opponent: say ensemble or curriculum for several opponents")
        return self

    @property
    def method(self) -> Method:
        """How opponents are chosen."""
        return self.matchmaking.method or ("hard" if self.mode == "self_play" else "weights")
