"""Evaluate a player among others: its agents and those of opponents share the environments.

Definitions, the same everywhere (docs/opponents.md has them with examples):

    focal return       mean return per agent of the agents that the evaluated player plays, in one episode
    opponent return    the same of all other agents of that episode
    margin             focal return - opponent return; above 0 the episode is won, at 0 it is drawn
    split              how many agents of an environment are focal; with fewer than half of them the player
                       is the visitor of a population of opponents, with more it is the resident
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.environments.builders import build
from metta_cli.errors import ConfigError
from metta_cli.evaluation.crossplay import Match, play_matches
from metta_cli.evaluation.episodes import environment_of
from metta_cli.evaluation.statistics import CONFIDENCE, Interval, mean_interval
from metta_cli.populations.assignment import AssignmentName, create_assignment, teams_of
from metta_cli.populations.opponents import OpponentSource

FOCAL, OTHER = "focal", "opponent"


@dataclass(frozen=True)
class Encounter:
    """All episodes against one opponent, in one simulation, at one split.

    Attributes:
        simulation: name in the suite.
        environment: name of what was played.
        npc: URI of the opponent.
        num_focal: agents of the evaluated player in an environment.
        num_agents: all agents of an environment.
        matches: at least one, in the order of the episodes.
    """

    simulation: str
    environment: str
    npc: str
    num_focal: int
    num_agents: int
    matches: tuple[Match, ...]

    @property
    def role(self) -> str:
        """`resident` with more than half of the agents, `visitor` with fewer, else `even`."""
        surplus = 2 * self.num_focal - self.num_agents
        return "even" if surplus == 0 else "resident" if surplus > 0 else "visitor"

    @property
    def focal_return(self) -> Interval:
        """Mean over episodes of the focal return."""
        return mean_interval([match.first_return for match in self.matches])

    @property
    def npc_return(self) -> Interval:
        """Mean over episodes of the opponent return."""
        return mean_interval([match.second_return for match in self.matches])

    @property
    def margin(self) -> Interval:
        """Mean over episodes of the difference."""
        return mean_interval([match.first_return - match.second_return for match in self.matches])

    @property
    def outcomes(self) -> tuple[int, int, int]:
        """Episodes that were won, drawn and lost."""
        margins = [match.first_return - match.second_return for match in self.matches]
        wins, losses = sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)
        return wins, len(margins) - wins - losses, losses

    def to_row(self) -> dict[str, Any]:
        """Return everything but the single episodes as one row of a table."""
        wins, draws, losses = self.outcomes
        row: dict[str, Any] = {
            "simulation": self.simulation,
            "environment": self.environment,
            "npc": self.npc,
            "role": self.role,
            "focal_agents": self.num_focal,
            "agents": self.num_agents,
            "num_episodes": len(self.matches),
        }
        intervals = {"focal_return": self.focal_return, "npc_return": self.npc_return, "margin": self.margin}
        for name, interval in intervals.items():
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        win_rate = (wins + draws / 2) / len(self.matches)
        return row | {"wins": wins, "draws": draws, "losses": losses, "win_rate": win_rate}


@dataclass(frozen=True)
class PopulationResult:
    """The result of an evaluation among others.

    Attributes:
        suite: name of the suite.
        policy_uri: what was evaluated.
        seed: of the evaluation.
        assignment: whether agents were drawn one by one or as teams.
        encounters: at least one.
        provenance: what it takes to repeat it.
        saved_to: where `evaluation_results.yaml` is, once it is written.
    """

    suite: str
    policy_uri: str
    seed: int
    assignment: AssignmentName
    encounters: tuple[Encounter, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    saved_to: str | None = None

    def with_provenance(self, provenance: Mapping[str, Any]) -> PopulationResult:
        """Return the same result with what it takes to repeat it."""
        return replace(self, provenance=provenance)

    def rows(self) -> list[dict[str, Any]]:
        """Return a table: one row for every simulation, opponent and split."""
        about = {"policy_uri": self.policy_uri, "suite": self.suite}
        return [{**about, **encounter.to_row()} for encounter in self.encounters]

    def to_json(self, *, with_episodes: bool = True) -> dict[str, Any]:
        """Return the result as JSON data.

        Args:
            with_episodes: whether to list both returns of every episode.
        """
        encounters = []
        for encounter in self.encounters:
            data = encounter.to_row()
            if with_episodes:
                data["episodes"] = [[match.first_return, match.second_return] for match in encounter.matches]
            encounters.append(data)
        return {
            "suite": self.suite,
            "policy_uri": self.policy_uri,
            "seed": self.seed,
            "assignment": self.assignment,
            "confidence": CONFIDENCE,
            "encounters": encounters,
            "provenance": dict(self.provenance),
        }

    def to_text(self) -> str:
        """Return the result as it is printed."""
        lines = ["Evaluation among others:", "=" * 50]
        for simulation in dict.fromkeys(encounter.simulation for encounter in self.encounters):
            lines.append(f"{simulation}:")
            for encounter in self.encounters:
                if encounter.simulation == simulation:
                    lines += _lines(encounter)
            lines.append("")
        episodes = len(self.encounters[0].matches)
        lines.append(
            f"Policy {self.policy_uri}; {episodes} episodes per opponent and split, seed {self.seed}, "
            f"assignment {self.assignment}; returns are per agent; [low, high] is the 95 % confidence "
            "interval over episodes."
        )
        if self.saved_to is not None:
            lines += ["", f"Results saved to: {self.saved_to}"]
        return "\n".join(lines) + "\n"


def play_population(
    suite: SimulationSuiteConfig,
    focal: OpponentSource,
    npcs: Sequence[OpponentSource],
    *,
    share: float,
    assignment: AssignmentName,
    seed: int,
    num_workers: Mapping[str, int],
    progress: Callable[[str, str, int, int], None] | None = None,
) -> PopulationResult:
    """Play every simulation of a suite against every opponent.

    Every encounter has the same seeds, so maps and the seats of both sides are the same for all
    opponents, and for whoever else is evaluated with that seed.

    Args:
        suite: at least one simulation.
        focal: who is evaluated.
        npcs: the opponents, at least one.
        share: of the agents that are focal; unless it is one half, `1 - share` is played as well.
        assignment: whether that is of single agents or of whole teams.
        seed: not negative.
        num_workers: processes that step the environments, for each simulation; changes no result.
        progress: told simulation, opponent, finished episodes and their number.

    Raises:
        ConfigError: the share or the assignment does not fit an environment, or a simulation has a time
            limit.
        SimulatorError: the simulator, or a worker that runs it, fails.
    """
    encounters = []
    for name, simulation in suite.simulations.items():
        spec = environment_of(simulation)
        for npc in npcs:
            for part in splits(share):
                matches = play_matches(
                    spec,
                    {FOCAL: focal, OTHER: npc},
                    [(FOCAL, OTHER)] * simulation.num_episodes,
                    share=part,
                    assignment=assignment,
                    seed=seed,
                    num_workers=num_workers[name],
                    on_match=_reporter(progress, name, npc.name, simulation.num_episodes),
                )
                teams = teams_of(spec)
                num_focal = create_assignment(assignment, part, teams).num_learners
                encounters.append(Encounter(name, spec.name, npc.name, num_focal, len(teams), tuple(matches)))
    return PopulationResult(suite.name, focal.name, seed, assignment, tuple(encounters))


def splits(share: float) -> list[float]:
    """Return the shares that are played: the larger one first, one half alone."""
    return [0.5] if share == 0.5 else sorted({share, round(1 - share, 9)}, reverse=True)


def check_population(suite: SimulationSuiteConfig, share: float, assignment: AssignmentName) -> None:
    """Refuse what cannot be played, before anything is.

    Raises:
        ConfigError: see `play_population`.
    """
    for name, simulation in suite.simulations.items():
        if simulation.max_time_s is not None:
            raise ConfigError(f"{name} has a time limit, which play among others has not", "unset max_time_s")
        spec = environment_of(simulation)
        if build(spec).game.num_agents < 2:
            raise ConfigError(
                f"{name} ({spec.name}) has one agent, so nobody can play against it",
                "choose an environment with several agents, such as --env laser_tag",
            )
        for part in splits(share):
            create_assignment(assignment, part, teams_of(spec))


def _reporter(
    progress: Callable[[str, str, int, int], None] | None, simulation: str, npc: str, total: int
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda finished: progress(simulation, f"the policy against {npc}", finished, total)


def _lines(encounter: Encounter) -> list[str]:
    wins, draws, losses = encounter.outcomes
    returns = {"focal": encounter.focal_return, "npc": encounter.npc_return, "margin": encounter.margin}
    shown = "   ".join(f"{name} {_text(interval)}" for name, interval in returns.items())
    seats = f"{encounter.num_focal} of {encounter.num_agents} agents ({encounter.role})"
    return [
        f"  against {encounter.npc}, {seats}:",
        f"    {shown}   won {wins}, drawn {draws}, lost {losses}",
    ]


def _text(interval: Interval) -> str:
    if interval.low is None:
        return f"{interval.mean:.3f} [-, -]"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
