"""Which agents of an environment the learner plays in an episode; an opponent plays the others.

Shape letter: `A` agents of one environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.errors import ConfigError

AssignmentName = Literal["fraction", "team"]


class Assignment(Protocol):
    """Chooses the agents of the learner.

    Attributes:
        num_learners: agents of the learner in one environment, the same in every episode.
    """

    num_learners: int

    def draw(self, teams: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return whether the learner plays each agent, bool `[A]`, in an episode that begins.

        Args:
            teams: int `[A]`, team of each agent in that episode.
            generator: of that episode alone.
        """
        ...


class FractionAssignment:
    """A share of the agents, whatever their team, drawn anew for every episode.

    Args:
        share: of the learner, between 0 and 1; rounded to whole agents by the largest remainder.
        num_agents: `A`.

    Raises:
        ConfigError: if a share between 0 and 1 leaves one side without an agent, or nobody learns.
    """

    def __init__(self, share: float, num_agents: int) -> None:
        self.num_learners = _count(share, num_agents, "agents")
        self._num_agents = num_agents

    def draw(self, teams: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """See `Assignment`."""
        learns = np.zeros(self._num_agents, dtype=bool)
        learns[generator.permutation(self._num_agents)[: self.num_learners]] = True
        return learns


class TeamAssignment:
    """Whole teams; which of them is drawn anew for every episode.

    Args:
        share: of the learner, between 0 and 1; rounded to whole teams by the largest remainder.
        teams: int `[A]`, team of each agent, in any order.

    Raises:
        ConfigError: if the agents are not in two or more teams of one size, or a share between 0 and 1
            leaves one side without a team.
    """

    def __init__(self, share: float, teams: Sequence[int]) -> None:
        names, sizes = np.unique(np.asarray(teams), return_counts=True)
        if len(names) < 2 or len(set(sizes.tolist())) > 1:
            counts = ", ".join(f"team {name}: {size}" for name, size in zip(names, sizes, strict=True))
            raise ConfigError(
                f"the agents of this environment are not in several teams of one size ({counts})",
                "set trainer.dual_policy.assignment=fraction, or choose a game of teams such as laser_tag",
            )
        self._teams, self._num_teams = names, _count(share, len(names), "teams")
        self.num_learners = self._num_teams * int(sizes[0])

    def draw(self, teams: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """See `Assignment`."""
        chosen = self._teams[generator.permutation(len(self._teams))[: self._num_teams]]
        return np.isin(teams, chosen)


def teams_of(spec: EnvironmentSpec) -> list[int]:
    """Return the team of each agent of an environment, in any order.

    Raises:
        ConfigError: if the environment cannot be built.
    """
    game = build(spec).game
    return [agent.team_id for agent in game.agents] or [game.agent.team_id] * game.num_agents


def create_assignment(name: AssignmentName, share: float, teams: Sequence[int]) -> Assignment:
    """Return the assignment of that name.

    Args:
        name: `fraction` or `team`.
        share: of the learner.
        teams: int `[A]`, team of each agent.

    Raises:
        ConfigError: see the two classes.
    """
    return TeamAssignment(share, teams) if name == "team" else FractionAssignment(share, len(teams))


def largest_remainder(share: float, total: int) -> int:
    """Return how many of `total` seats `share` gets; the other side gets the rest. A tie goes to `share`."""
    quota = round(share * total, 9)  # 0.7 * 10 is 7, not 7.000000000000001
    return int(np.floor(quota + 0.5))


def _count(share: float, total: int, unit: str) -> int:
    count = largest_remainder(share, total)
    if 0 < count < total or (share == 1 and count == total):
        return count
    side = "the learner" if count == 0 else "the opponent"
    fitting = ", ".join(f"{number / total:.3g}" for number in range(1, total))
    raise ConfigError(
        f"a share of {share:g} (policy_a_percentage) of {total} {unit} leaves none to {side}",
        f"choose one of {fitting}, or 1" if fitting else f"choose an environment with several {unit}",
    )
