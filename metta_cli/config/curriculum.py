"""Curricula: which tasks a run draws its episodes from, and by which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, field_validator

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.section import Section

Range = tuple[float, float] | list[Any]
"""What a parameter of an episode is drawn from: between two numbers, or one of a list."""


@dataclass(frozen=True)
class Task:
    """An environment some of whose arguments are drawn anew for every episode.

    Attributes:
        name: as metrics and files call it; unique in a curriculum.
        spec: the environment.
        ranges: argument of the builder -> what it is drawn from. A tuple is a range with both ends in it:
            whole numbers if both ends are whole, any number between them otherwise. A list is a choice.
        score_max: return per agent that counts as score 1; None asks the builder.
    """

    name: str
    spec: EnvironmentSpec
    ranges: Mapping[str, Range] = field(default_factory=dict)
    score_max: float | None = None

    def draw(self, fraction: Callable[[str], float]) -> dict[str, Any]:
        """Return arguments for one episode.

        Args:
            fraction: name of an argument -> a number drawn uniformly from `[0, 1)`.
        """
        return {name: _draw(span, fraction(name)) for name, span in self.ranges.items()}

    def with_arguments(self, **arguments: Any) -> EnvironmentSpec:
        """Return the environment with some arguments replaced."""
        return self.spec.model_copy(update={"args": {**self.spec.args, **arguments}})


def _draw(span: Range, fraction: float) -> Any:
    if isinstance(span, list):
        return span[int(fraction * len(span))]
    low, high = span
    if isinstance(low, int) and isinstance(high, int):
        return low + int(fraction * (high - low + 1))
    return low + fraction * (high - low)


class ParameterRange(Section):
    """Numbers that an argument is drawn from."""

    range: tuple[int | float, int | float]
    """Least and greatest value. Between two whole numbers only whole numbers are drawn."""
    bins: int = Field(default=1, ge=1)
    """How many tasks the range is cut into."""

    @field_validator("range")
    @classmethod
    def _is_ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the range starts at {value[0]} and ends at {value[1]}, below it")
        return value

    def parts(self) -> list[tuple[float, float]]:
        """Return the bins, from low to high; whole numbers fall into exactly one.

        Raises:
            ValueError: if there are fewer whole numbers than bins.
        """
        low, high = self.range
        if isinstance(low, int) and isinstance(high, int):
            count = high - low + 1
            if count < self.bins:
                raise ValueError(f"{count} whole numbers cannot fill {self.bins} bins")
            starts = [low + count * part // self.bins for part in range(self.bins + 1)]
            return [(start, end - 1) for start, end in pairwise(starts)]
        edges = [low + (high - low) * part / self.bins for part in range(self.bins + 1)]
        return list(pairwise(edges))


class CurriculumTask(Section):
    """One environment of a curriculum."""

    env: str | None = None
    """Name of the environment; None is the name of the task itself."""
    env_overrides: dict[str, Any] = Field(default_factory=dict)
    """Arguments that replace those of the environment."""
    weight: float = Field(default=1.0, gt=0)
    """How often it is drawn by `algorithm: random`, compared with the others."""
    score_max: float | None = Field(default=None, gt=0)
    """Return per agent that counts as score 1; None is the most that the environment can give."""


class LearningProgressConfig(Section):
    """Draw tasks whose success rate changes, up or down (Kanitscheider et al. 2021)."""

    ema_timescale: float = Field(default=0.001, gt=0, le=1)
    """Weight of a new success rate in its running mean."""
    progress_smoothing: float = Field(default=0.05, gt=0, lt=1)
    """Success rate that the reweighting takes to one half; small ones count more."""
    num_active_tasks: int = Field(default=16, ge=1)
    """How many tasks are in play between two updates of the distribution."""
    rand_task_rate: float = Field(default=0.25, ge=0, le=1)
    """Share of them that is drawn uniformly, so that no task is ever forgotten."""
    sample_threshold: int = Field(default=10, ge=1)
    """Episodes of one active task after which the distribution is updated."""
    memory: int = Field(default=25, ge=1)
    """Episodes that a success rate is the mean of."""


class PrioritizeRegressedConfig(Section):
    """Draw tasks whose score has fallen most below its best."""

    moving_avg_decay_rate: float = Field(default=0.01, gt=0, le=1)
    """Weight of a new score in its running mean."""
    uniform_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the episodes whose task is drawn uniformly."""


class ProgressiveConfig(Section):
    """Walk from the first task to the last."""

    progression: Literal["performance", "time"] = "performance"
    """Whether good scores move it on, or finished episodes."""
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Smoothed score from which on it advances."""
    smoothing: float = Field(default=0.1, gt=0, le=1)
    """Weight of a new score in the smoothed score."""
    rate: float = Field(default=0.01, gt=0, le=1)
    """How far along the way one episode moves it, 1 being all of the way."""
    gate: Literal["linear", "logistic"] = "logistic"
    """How the tasks fade in and out."""
    blending: float = Field(default=0.5, gt=0)
    """Width of the fading, in tasks."""
    uniform_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the episodes whose task is drawn uniformly."""


class CurriculumConfig(Section):
    """The tasks of a run: every environment with every combination of buckets."""

    name: str = ""
    """Name such as `navigation/bucketed`; filled in when the file is read."""
    description: str = ""
    """One line for `metta configs list`."""
    algorithm: Literal["random", "learning_progress", "prioritize_regressed", "progressive"] = "random"
    """Rule by which tasks are drawn."""
    env: str | None = None
    """The one environment, where there are no `tasks`; None is the environment of the run."""
    env_overrides: dict[str, Any] = Field(default_factory=dict)
    """Arguments that replace those of every environment."""
    tasks: dict[str, CurriculumTask] = Field(default_factory=dict)
    """Name -> environment, in the order in which `algorithm: progressive` walks."""
    buckets: dict[str, Any] = Field(default_factory=dict)
    """Argument -> values, or `{range: [LOW, HIGH], bins: N}`; each value, or bin, makes tasks of its own."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Argument -> values, or `{range: [LOW, HIGH]}`; one is drawn for every episode of every task."""
    score_max: float | None = Field(default=None, gt=0)
    """Return per agent that counts as score 1; None is the most that the environment can give."""
    learning_progress: LearningProgressConfig = LearningProgressConfig()
    """Settings of `algorithm: learning_progress`."""
    prioritize_regressed: PrioritizeRegressedConfig = PrioritizeRegressedConfig()
    """Settings of `algorithm: prioritize_regressed`."""
    progressive: ProgressiveConfig = ProgressiveConfig()
    """Settings of `algorithm: progressive`."""

    @field_validator("buckets", "parameters")
    @classmethod
    def _spans_are_known(cls, spans: dict[str, Any]) -> dict[str, Any]:
        for name, span in spans.items():
            if isinstance(span, list):
                if not span:
                    raise ValueError(f"'{name}' has no values to choose from")
            elif isinstance(span, dict) and "range" in span:
                ParameterRange.model_validate(span).parts()
            else:
                raise ValueError(
                    f"'{name}' should be a list of values or {{range: [LOW, HIGH]}}, not {span!r}"
                )
        return spans
