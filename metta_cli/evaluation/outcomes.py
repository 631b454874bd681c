"""What was found in one episode, and in all episodes of one simulation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.evaluation.statistics import Interval, mean_interval, normalized_score

Stats = dict[str, float]
"""Name of a statistic of MettaGrid -> its value."""


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode.

    Attributes:
        episode: its number within the simulation, from 0.
        map_seed: seed of its map.
        simulation_seed: seed of the simulator.
        num_steps: environment steps.
        agent_returns: sum of rewards of each agent.
        teams: team of each agent.
        game_stats: name -> value, what the simulator counted for the whole game.
        agent_stats: name -> mean over the agents; an agent without an entry counts as 0.
        team_stats: team -> the same mean over the agents of that team.
        truncated: ended by its step limit rather than by a rule of the game.
    """

    episode: int
    map_seed: int
    simulation_seed: int
    num_steps: int
    agent_returns: tuple[float, ...]
    teams: tuple[int, ...]
    game_stats: Stats
    agent_stats: Stats
    team_stats: dict[int, Stats]
    truncated: bool

    @property
    def score(self) -> float:
        """Mean return of the agents."""
        return float(np.mean(self.agent_returns))

    @property
    def team_scores(self) -> dict[int, float]:
        """Team -> mean return of its agents."""
        returns, teams = np.asarray(self.agent_returns), np.asarray(self.teams)
        return {team: float(returns[teams == team].mean()) for team in sorted(set(self.teams))}

    def to_json(self) -> dict[str, Any]:
        """Return the episode as JSON data, without its statistics."""
        return {
            "episode": self.episode,
            "map_seed": self.map_seed,
            "simulation_seed": self.simulation_seed,
            "num_steps": self.num_steps,
            "score": self.score,
            "agent_returns": list(self.agent_returns),
            "teams": list(self.teams),
            "truncated": self.truncated,
        }


def mean_stats(stats: Iterable[Mapping[str, float]]) -> Stats:
    """Return name -> mean; a missing entry counts as 0, for MettaGrid makes one at the first event."""
    entries = list(stats)
    names = sorted({name for entry in entries for name in entry})
    return {name: float(np.mean([entry.get(name, 0.0) for entry in entries])) for name in names}


@dataclass(frozen=True)
class SimulationResult:
    """Every episode of one simulation, with the same episodes played by the baselines.

    Attributes:
        name: `category/name`, or a category alone.
        environment: what was played.
        num_episodes: how many episodes were asked for; fewer are there if the time limit came first.
        episodes: in the order of their numbers.
        baselines: `random`, `scripted` -> their episodes from the same seeds; empty if not played.
    """

    name: str
    environment: EnvironmentSpec
    num_episodes: int
    episodes: tuple[EpisodeResult, ...]
    baselines: Mapping[str, tuple[EpisodeResult, ...]] = field(default_factory=dict)

    @property
    def category(self) -> str:
        """What comes before the first "/", or the whole name."""
        return self.name.partition("/")[0]

    @property
    def short_name(self) -> str:
        """What comes after the first "/", or the whole name."""
        return self.name.partition("/")[2] or self.name

    @property
    def is_complete(self) -> bool:
        """Whether no episode is missing, of the policy or of a baseline."""
        return all(len(played) == self.num_episodes for played in (self.episodes, *self.baselines.values()))

    @property
    def score(self) -> Interval:
        """Plain mean of the scores of the episodes."""
        return mean_interval(scores_of(self.episodes))

    @property
    def baseline_scores(self) -> dict[str, Interval]:
        """Baseline -> its score on the same episodes."""
        return {name: mean_interval(scores_of(episodes)) for name, episodes in self.baselines.items()}

    @property
    def normalized_score(self) -> float | None:
        """See `statistics.normalized_score`; None without baselines or without a scale."""
        if not {"random", "scripted"} <= set(self.baselines):
            return None
        random, scripted = (scores_of(self.baselines[name]) for name in ("random", "scripted"))
        return normalized_score(scores_of(self.episodes), random, scripted)

    def team_scores(self, player: str | None = None) -> dict[int, Interval]:
        """Return team -> its score; empty where all agents are of one team.

        Args:
            player: a baseline; None is the policy.
        """
        episodes = self.episodes if player is None else self.baselines[player]
        teams = sorted({team for episode in episodes for team in episode.teams})
        if len(teams) < 2:
            return {}
        return {team: mean_interval([episode.team_scores[team] for episode in episodes]) for team in teams}

    def team_stats(self, team: int) -> Stats:
        """Return the mean statistics of the agents of a team, over all episodes."""
        return mean_stats(episode.team_stats[team] for episode in self.episodes)

    def to_json(self, *, with_episodes: bool) -> dict[str, Any]:
        """Return the simulation as JSON data."""
        data: dict[str, Any] = {
            "environment": self.environment.model_dump(mode="json"),
            "num_episodes": self.num_episodes,
            "is_complete": self.is_complete,
            "score": self.score.to_json(),
            "normalized_score": self.normalized_score,
            "baselines": {name: score.to_json() for name, score in self.baseline_scores.items()},
            "teams": {
                str(team): {"score": score.to_json(), "agent_stats": self.team_stats(team)}
                for team, score in self.team_scores().items()
            },
            "agent_stats": mean_stats(episode.agent_stats for episode in self.episodes),
            "game_stats": mean_stats(episode.game_stats for episode in self.episodes),
        }
        if with_episodes:
            data["episodes"] = [episode.to_json() for episode in self.episodes]
        return data


def scores_of(episodes: Sequence[EpisodeResult]) -> list[float]:
    """Return the score of each episode."""
    return [episode.score for episode in episodes]
