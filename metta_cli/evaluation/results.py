"""The result of an evaluation: its scores, as data, as a table and as text.

Definitions, the same everywhere (docs/evaluation.md has them with examples):

    score of an episode        mean return of its agents
    score of a simulation      plain mean of its episodes
    category                   name of a simulation before its first "/", compared exactly
    category score             plain mean of the scores of its simulations
    average simulation score   plain mean of all simulation scores
    average category score     plain mean of all category scores
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metta_cli.evaluation.outcomes import EpisodeResult, SimulationResult, scores_of
from metta_cli.evaluation.statistics import CONFIDENCE, Interval, mean_of_means

__all__ = ["EpisodeResult", "SimulationResult", "SuiteResult"]

HEADLINE_STATS = ("heart.gained", "heart.lost", "attack.hit", "attack.hit_by")
"""Agent statistics that are printed for each team; all of them are in the JSON file."""

_GAP = "   "


@dataclass(frozen=True)
class SuiteResult:
    """The result of an evaluation.

    Attributes:
        suite: name of the suite.
        policy_uri: what was evaluated.
        seed: of the evaluation; with a simulation and an episode number it gives every other seed.
        simulations: at least one.
        provenance: what it takes to repeat it: versions, command, digests, timing.
        replays: files with a recorded episode, simulation -> path.
        saved_to: where `evaluation_results.yaml` is, once it is written.
    """

    suite: str
    policy_uri: str
    seed: int
    simulations: tuple[SimulationResult, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    replays: Mapping[str, str] = field(default_factory=dict)
    saved_to: str | None = None

    def with_provenance(self, provenance: Mapping[str, Any]) -> SuiteResult:
        """Return the same result with what it takes to repeat it."""
        return replace(self, provenance=provenance)

    def with_replays(self, replays: Mapping[str, str]) -> SuiteResult:
        """Return the same result with the pages of its recorded episodes."""
        return replace(self, replays=replays)

    @property
    def categories(self) -> dict[str, list[SimulationResult]]:
        """Category -> its simulations, in the order of the suite."""
        grouped: dict[str, list[SimulationResult]] = {}
        for simulation in self.simulations:
            grouped.setdefault(simulation.category, []).append(simulation)
        return grouped

    @property
    def category_scores(self) -> dict[str, Interval]:
        """Category -> plain mean of the scores of its simulations."""
        return {
            category: mean_of_means([scores_of(simulation.episodes) for simulation in simulations])
            for category, simulations in self.categories.items()
        }

    def average_simulation_score(self, player: str | None = None) -> Interval:
        """Return the plain mean of the simulation scores, of the policy (None) or of a baseline."""
        return mean_of_means(self._scores(player))

    def average_category_score(self, player: str | None = None) -> Interval:
        """Return the plain mean of the category scores, of the policy (None) or of a baseline."""
        categories = self.categories
        weights = [1 / len(categories) / len(categories[each.category]) for each in self.simulations]
        return mean_of_means(self._scores(player), weights)

    def _scores(self, player: str | None) -> list[list[float]]:
        return [
            scores_of(each.episodes if player is None else each.baselines[player])
            for each in self.simulations
        ]

    @property
    def baseline_names(self) -> list[str]:
        """Baselines that played every simulation."""
        return [
            name
            for name in self.simulations[0].baselines
            if all(name in s.baselines for s in self.simulations)
        ]

    def scores(self) -> dict[str, float]:
        """Return every score under the name that it is logged and kept in checkpoints with."""
        found = {
            "avg_category_score": self.average_category_score().mean,
            "avg_simulation_score": self.average_simulation_score().mean,
        }
        found |= {f"eval_{category}/score": score.mean for category, score in self.category_scores.items()}
        return found | {f"eval_{s.category}/{s.short_name}": s.score.mean for s in self.simulations}

    def to_text(self) -> str:
        """Return the result as it is printed."""
        return _to_text(self)

    def to_json(self, *, with_episodes: bool = True) -> dict[str, Any]:
        """Return the result as JSON data.

        Args:
            with_episodes: whether to list every episode with its seeds.
        """
        simulations = {each.name: each.to_json(with_episodes=with_episodes) for each in self.simulations}
        averages = {
            "avg_simulation_score": self.average_simulation_score(),
            "avg_category_score": self.average_category_score(),
        }
        return {
            "suite": self.suite,
            "policy_uri": self.policy_uri,
            "seed": self.seed,
            **{name: score.mean for name, score in averages.items()},
            "category_scores": {name: score.mean for name, score in self.category_scores.items()},
            "simulation_scores": {each.name: each.score.mean for each in self.simulations},
            "confidence": CONFIDENCE,
            "intervals": {name: score.to_json() for name, score in (averages | self.category_scores).items()},
            "simulations": simulations,
            "replays": dict(self.replays),
            "provenance": dict(self.provenance),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return a table: one row for every simulation, player (policy, baselines) and team (None is all)."""
        rows = []
        for each in self.simulations:
            players = {"policy": each.score, **each.baseline_scores}
            for player, score in players.items():
                rows.append(self._row(each, player, None, score))
                teams = each.team_scores(None if player == "policy" else player)
                rows += [self._row(each, player, team, team_score) for team, team_score in teams.items()]
        return rows

    def _row(
        self, simulation: SimulationResult, player: str, team: int | None, score: Interval
    ) -> dict[str, Any]:
        is_headline = player == "policy" and team is None
        return {
            "policy_uri": self.policy_uri,
            "suite": self.suite,
            "category": simulation.category,
            "simulation": simulation.name,
            "environment": simulation.environment.name,
            "player": player,
            "team": team,
            "num_episodes": score.num_episodes,
            "score": score.mean,
            "low": score.low,
            "high": score.high,
            "normalized_score": simulation.normalized_score if is_headline else None,
        }


def _to_text(result: SuiteResult) -> str:
    """Return the result as text: averages, then each simulation by category, then what to know about them."""
    lines = [
        "Evaluation Results:",
        "=" * 50,
        "Average simulation score: " + _average(result, result.average_simulation_score),
        "Average category score: " + _average(result, result.average_category_score),
        "",
        "Detailed scores:",
        "",
    ]
    width = max(len(_left_cell(each)) for each in result.simulations)
    for category, simulations in result.categories.items():
        lines.append(f"{category}:")
        for simulation in simulations:
            lines += _simulation_lines(simulation, width)
        if len(simulations) > 1:
            lines.append(f"  category score: {_with_interval(result.category_scores[category])}")
        lines.append("")
    lines += _notes(result)
    if result.replays:
        lines += ["", *(f"Replay of {name}: {path}" for name, path in result.replays.items())]
    if result.saved_to is not None:
        lines += ["", f"Results saved to: {result.saved_to}"]
    return "\n".join(lines) + "\n"


def _average(result: SuiteResult, average: Callable[[str | None], Interval]) -> str:
    baselines = [f"{name} {average(name).mean:.3f}" for name in result.baseline_names]
    return _GAP.join([_with_interval(average(None)), *baselines])


def _left_cell(simulation: SimulationResult) -> str:
    return f"{simulation.short_name}: {simulation.score.mean:.3f}"


def _with_interval(score: Interval) -> str:
    return f"{score.mean:.3f}{_GAP}{_bounds(score)}"


def _bounds(score: Interval) -> str:
    return "[-, -]" if score.low is None else f"[{score.low:.3f}, {score.high:.3f}]"


def _simulation_lines(simulation: SimulationResult, width: int) -> list[str]:
    cells = [_left_cell(simulation).ljust(width), _bounds(simulation.score)]
    cells += [f"{name} {score.mean:.3f}" for name, score in simulation.baseline_scores.items()]
    if simulation.baselines:
        normalized = simulation.normalized_score
        cells.append("normalised -" if normalized is None else f"normalised {normalized:.2f}")
    lines = ["  " + _GAP.join(cells)]
    for team, score in simulation.team_scores().items():
        stats = simulation.team_stats(team)
        counts = [f"{name} {stats[name]:.2f}" for name in HEADLINE_STATS if name in stats]
        lines.append("    " + _GAP.join([f"team {team}: {_with_interval(score)}", *counts]))
    return lines


def _notes(result: SuiteResult) -> list[str]:
    counts = sorted({each.num_episodes for each in result.simulations})
    episodes = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [
        f"Policy {result.policy_uri}; {episodes} episodes per simulation, seed {result.seed}; "
        "[low, high] is the 95 % confidence interval over episodes."
    ]
    if any(each.baselines and each.normalized_score is None for each in result.simulations):
        lines.append("normalised -: scripted is not shown to beat random there, so there is no scale.")
    for each in result.simulations:
        if not each.is_complete:
            played = {"policy": each.episodes, **each.baselines}
            found = ", ".join(f"{name} {len(episodes)}" for name, episodes in played.items())
            lines.append(
                f"{each.name} was cut by max_time_s: of {each.num_episodes} episodes, {found}; "
                "another machine will find other scores."
            )
    return lines
