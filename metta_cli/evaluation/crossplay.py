"""Play fixed players against each other, every pair a number of episodes, side by side.

As in `episodes`, which episodes are played is fixed before the first step. Episode `n` is the match
`schedule[n]` and the `n // slots`-th of environment slot `n % slots`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.vector import FinishedEpisode, VectorEnvironment
from metta_cli.evaluation.episodes import environment_seed, num_slots
from metta_cli.populations.assignment import AssignmentName, create_assignment, teams_of
from metta_cli.populations.opponents import OpponentSource
from metta_cli.populations.players import Turn, uniform_noise

_ASSIGNMENT_STREAM = 0x63726F73  # "cros"


@dataclass(frozen=True)
class Match:
    """One episode of one pair.

    Attributes:
        first: who played the share of the agents that is the learner's in training.
        second: who played the others.
        first_return: mean return of the agents of `first`.
        second_return: mean return of the agents of `second`.
    """

    first: str
    second: str
    first_return: float
    second_return: float


def round_robin(players: Sequence[str], episodes: int) -> list[tuple[str, str]]:
    """Return the matches of everybody against everybody.

    Args:
        players: at least two.
        episodes: of each pair; each of the two is first in half of them, the one listed later in one more
            if the number is odd.
    """
    pairs = list(combinations(players, 2))
    return [pair if number % 2 else (pair[1], pair[0]) for number in range(episodes) for pair in pairs]


def play_matches(
    spec: EnvironmentSpec,
    players: Mapping[str, OpponentSource],
    schedule: Sequence[tuple[str, str]],
    *,
    share: float,
    assignment: AssignmentName,
    seed: int,
    num_workers: int = 0,
    on_match: Callable[[int], None] | None = None,
) -> list[Match]:
    """Play a schedule; the same arguments give the same matches for any `num_workers`.

    Args:
        spec: where.
        players: who, by the names in the schedule.
        schedule: pairs of names, one for each episode, at least one.
        share: of the agents that the first of a pair plays.
        assignment: whether that is of single agents or of whole teams.
        seed: of maps, simulations, assignments and actions.
        num_workers: processes that step the environments; 0 steps them in this one.
        on_match: told how many matches have ended after each.

    Returns:
        The matches in the order of the schedule.

    Raises:
        ConfigError: the share or the assignment does not fit the environment.
        SimulatorError: the simulator, or a worker that runs it, fails.
    """
    slots = num_slots(len(schedule))
    with VectorEnvironment(
        spec,
        num_environments=slots,
        num_workers=min(num_workers, slots),
        seed=environment_seed(seed),
        scripted_actions=any(source.reads_scripted_actions for source in players.values()),
        map_pool_size=0,
    ) as environment:
        play = _CrossPlay(environment, players, schedule, share, assignment, seed)
        while len(play.matches) < len(schedule):
            num_before = len(play.matches)
            play.step()
            if on_match is not None and len(play.matches) > num_before:
                on_match(len(play.matches))
    return [play.matches[episode] for episode in range(len(schedule))]


class _CrossPlay:
    """Which match every slot is at, and who plays which of its agents."""

    def __init__(
        self,
        environment: VectorEnvironment,
        players: Mapping[str, OpponentSource],
        schedule: Sequence[tuple[str, str]],
        share: float,
        assignment: AssignmentName,
        seed: int,
    ) -> None:
        self.environment, self.schedule, self.seed = environment, schedule, seed
        self.assignment = create_assignment(assignment, share, teams_of(environment.spec))
        self.names = list(dict.fromkeys(name for pair in schedule for name in pair))
        num_rows = environment.num_agents
        self.players = [players[name].create(environment.interface, num_rows) for name in self.names]
        self.matches: dict[int, Match] = {}
        num_slots, num_agents = environment.num_environments, environment.agents_per_environment
        self.is_first = np.zeros((num_slots, num_agents), dtype=bool)
        self.who = np.zeros((num_slots, num_agents), dtype=np.int64)
        self.episodes = np.arange(num_slots)
        self.steps = np.zeros(num_slots, dtype=np.int64)
        self.starts = np.ones((num_slots, num_agents), dtype=bool)
        environment.reset()
        for slot in range(num_slots):
            self._start(slot)

    def step(self) -> None:
        """Step every slot once."""
        actions = np.zeros(self.environment.num_agents, dtype=np.int64)
        for index in np.unique(self.who):
            rows = np.flatnonzero(self.who.ravel() == index)
            actions[rows] = self.players[index].act(self._turn(rows), rows)
        *_, finished = self.environment.step(actions)
        self.steps += 1
        self.starts[:] = False
        for episode in finished:
            self._finish(episode)

    def _turn(self, rows: np.ndarray) -> Turn:
        environment = self.environment
        slots, agents = np.divmod(rows, environment.agents_per_environment)
        return Turn(
            observations=environment.observations[rows, : environment.max_used_tokens()],
            episode_starts=self.starts.ravel()[rows],
            noise=uniform_noise(self.seed, self.episodes[slots], agents, self.steps[slots]),
            scripted_actions=environment.scripted[rows],
        )

    def _start(self, slot: int) -> None:
        """Seat the players of the episode that begins; a slot that has played its share repeats its last."""
        episode = int(self.episodes[slot])
        first, second = self.schedule[min(episode, len(self.schedule) - 1)]
        size = self.environment.agents_per_environment
        teams = self.environment.teams[slot * size : (slot + 1) * size]
        generator = np.random.default_rng([self.seed, _ASSIGNMENT_STREAM, episode])
        self.is_first[slot] = self.assignment.draw(teams, generator)
        seats = self.names.index(first), self.names.index(second)
        self.who[slot] = np.where(self.is_first[slot], *seats)

    def _finish(self, finished: FinishedEpisode) -> None:
        slot = finished.environment
        if finished.episode < len(self.schedule):
            mine = self.is_first[slot]
            self.matches[finished.episode] = Match(
                *self.schedule[finished.episode],
                float(finished.agent_returns[mine].mean()),
                float(finished.agent_returns[~mine].mean()),
            )
        self.episodes[slot] += self.environment.num_environments
        self.starts[slot], self.steps[slot] = True, 0
        self._start(slot)
