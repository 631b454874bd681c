"""The environment of a learner that plays against others: opponents are a part of it.

Shape letters: `E` environments, `A` agents of one, `N` agents of all; `n` rows that the learner plays.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import Any

import numpy as np

from metta_cli.environments.vector import EMPTY, FinishedEpisode, VectorEnvironment
from metta_cli.errors import MettaError
from metta_cli.populations.assignment import AssignmentName, create_assignment, teams_of
from metta_cli.populations.opponents import Matchmaker, MatchResult, OpponentError, OpponentPool
from metta_cli.populations.players import Turn, uniform_noise
from metta_cli.populations.tally import Tally

_ASSIGNMENT_STREAM = 0x61737367  # "assg"
_OPPONENT_STREAM = 0x6F707073  # "opps"


class OpponentEnvironment:
    """Plays the agents that the learner does not, and shows the learner only its own.

    It satisfies `metta_cli.training.environment.TrainingEnvironment`. In every episode the assignment
    says which `n / E` agents of an environment are the learner's, and the matchmaker which one opponent
    plays all the others. Row `i` of the learner is another agent in the next episode: rewards, flags and
    `final_observations` are those of the agent that the row was, `observations` of the one that it is.

    Which agents learn, who the opponent is and how it acts follow from `seed`, the number of the episode
    and the matchmaker's state: not from the number of workers.

    Args:
        environment: not yet reset; opened with `scripted_actions` if an opponent reads them.
        pool: who may play; may grow while it plays.
        matchmaker: chooses from the pool; what comes of it is in `tally`, for the caller to report.
        learner_share: share of the agents of every environment that learn.
        assignment: `fraction` draws single agents, `team` whole teams.
        seed: of everything random here.

    Attributes:
        environment: as given.
        interface: of the environment.
        num_agents: `n`.
        observations: uint8 `[n, K, 3]`; overwritten by the next step, as are all arrays here.
        final_observations: uint8 `[n, K, 3]`, valid where an episode ended in the last step.
        rewards: float32 `[n]`, of the last step.
        terminals: bool `[n]`, the last step ended the episode by rule.
        truncations: bool `[n]`, the last step ended the episode by time.
        learner_rows: int64 `[n]`, agents in `[0, N)` that the learner plays, in order.
        opponents: id of the opponent in each environment.
        tally: what both sides got since `start_tally`.

    Raises:
        ConfigError: if the share or the assignment does not fit the environment.
    """

    def __init__(
        self,
        environment: VectorEnvironment,
        pool: OpponentPool,
        matchmaker: Matchmaker,
        *,
        learner_share: float,
        assignment: AssignmentName = "fraction",
        seed: int = 0,
    ) -> None:
        self.environment, self.pool, self.matchmaker, self.seed = environment, pool, matchmaker, seed
        self.assignment = create_assignment(assignment, learner_share, teams_of(environment.spec))
        self.interface = environment.interface
        num_environments, num_agents = environment.num_environments, environment.agents_per_environment
        self.sizes = (self.assignment.num_learners, num_agents - self.assignment.num_learners)
        self.num_agents = num_environments * self.sizes[0]
        tokens = environment.observations.shape[1:]
        self.observations = np.full((self.num_agents, *tokens), EMPTY, np.uint8)
        self.final_observations = np.full((self.num_agents, *tokens), EMPTY, np.uint8)
        self.rewards = np.zeros(self.num_agents, np.float32)
        self.terminals = np.zeros(self.num_agents, bool)
        self.truncations = np.zeros(self.num_agents, bool)
        self.learner_rows = np.zeros(self.num_agents, np.int64)
        self.opponents = [""] * num_environments
        self.tally = Tally(self.sizes)
        self._learns = np.zeros((num_environments, num_agents), bool)
        self._episodes = np.zeros(num_environments, np.int64)
        self._steps = np.zeros(num_environments, np.int64)
        self._starts = np.ones(environment.num_agents, bool)
        self._actions = np.zeros(environment.num_agents, np.int64)
        self._slots: dict[str, np.ndarray] = {}
        self._rows: dict[str, np.ndarray] = {}
        self._noise_seed = _derived_seed(seed, _OPPONENT_STREAM)

    def start_tally(self) -> None:
        """Count from zero again: a rollout begins."""
        self.tally = Tally(self.sizes)

    def max_used_tokens(self) -> int:
        """Return how many leading token rows of `observations` are in use by any row."""
        return _used_tokens(self.observations)

    def reset(self) -> tuple[np.ndarray, list[FinishedEpisode]]:
        """Begin a new episode everywhere."""
        self.environment.reset()
        self._starts[:] = True
        for slot in range(self.environment.num_environments):
            self._start_episode(slot)
        self._regroup()
        self._take_observations()
        return self.observations, []

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[FinishedEpisode]]:
        """Step by the actions of the learner, int `[n]`.

        Returns:
            `observations`, `rewards`, `terminals`, `truncations`, and the episodes that ended, each with the
            learner's agents only.

        Raises:
            OpponentError: if an opponent fails.
            SimulatorError: if the simulator or a worker fails.
        """
        self._actions[self.learner_rows] = actions
        for opponent, rows in self._rows.items():
            self._actions[rows] = self._play(opponent, rows)
        *_, finished = self.environment.step(self._actions)
        environment, rows = self.environment, self.learner_rows
        self.rewards[:] = environment.rewards[rows]
        self.terminals[:] = environment.terminals[rows]
        self.truncations[:] = environment.truncations[rows]
        self._count_rewards()
        self._steps += 1
        self._starts[:] = False
        restricted = [self._finish(episode) for episode in finished]
        if finished:
            self._regroup()
        self._take_observations()
        return self.observations, self.rewards, self.terminals, self.truncations, restricted

    def _play(self, opponent: str, rows: np.ndarray) -> np.ndarray:
        """Return the actions of an opponent for its rows."""
        environment = self.environment
        slots, agents = np.divmod(rows, environment.agents_per_environment)
        observations = environment.observations[rows]
        turn = Turn(
            observations=observations[:, : _used_tokens(observations)],
            episode_starts=self._starts[rows],
            noise=uniform_noise(self._noise_seed, self._episodes[slots], agents, self._steps[slots]),
            scripted_actions=environment.scripted[rows],
        )
        name = self.pool[opponent].name
        try:
            actions = np.asarray(self.pool[opponent].act(turn, rows))
        except Exception as error:
            reason = error.message if isinstance(error, MettaError) else f"{type(error).__name__}: {error}"
            raise OpponentError(
                f"opponent {name} failed in '{environment.spec.name}': {' '.join(reason.split())}",
                "the run can go on without it: choose another opponent and start the same run again",
            ) from error
        num_actions = self.interface.num_actions
        is_valid = actions.shape == rows.shape and actions.dtype.kind in "iu"
        if not (is_valid and actions.min() >= 0 and actions.max() < num_actions):
            raise OpponentError(
                f"opponent {name} chose actions that do not exist in '{environment.spec.name}'",
                f"it has to return {len(rows)} integers from 0 to {num_actions - 1}",
            )
        return actions

    def _start_episode(self, slot: int) -> None:
        episode = int(self.environment.episodes[slot])
        num_agents = self.environment.agents_per_environment
        rows = slice(slot * num_agents, (slot + 1) * num_agents)
        self._episodes[slot], self._steps[slot] = episode, 0
        self._starts[rows] = True
        generator = np.random.default_rng([self.seed, _ASSIGNMENT_STREAM, episode])
        self._learns[slot] = self.assignment.draw(self.environment.teams[rows], generator)
        self.opponents[slot] = self.matchmaker.choose(generator)
        learners = slice(slot * self.sizes[0], (slot + 1) * self.sizes[0])
        self.learner_rows[learners] = rows.start + np.flatnonzero(self._learns[slot])

    def _regroup(self) -> None:
        """List the environments and the rows of every opponent that is playing."""
        slots = np.array(self.opponents)
        self._slots = {opponent: slots == opponent for opponent in dict.fromkeys(self.opponents)}
        self._rows = {}
        for opponent, chosen in self._slots.items():
            rows = np.flatnonzero(~self._learns & chosen[:, None])
            if len(rows):
                self._rows[opponent] = rows

    def _finish(self, episode: FinishedEpisode) -> FinishedEpisode:
        """Account for an episode, start the next one, and return it with the learner's agents only."""
        slot, (num_learners, num_others) = episode.environment, self.sizes
        final = slice(slot * num_learners, (slot + 1) * num_learners)
        self.final_observations[final] = self.environment.final_observations[self.learner_rows[final]]
        learns = self._learns[slot].copy()
        if not episode.is_cut:
            other = float(episode.agent_returns[~learns].mean()) if num_others else 0.0
            mine = float(episode.agent_returns[learns].mean())
            self.tally.matches.append(MatchResult(self.opponents[slot], mine, other))
        self._start_episode(slot)
        return replace(
            episode,
            agent_returns=episode.agent_returns[learns],
            teams=episode.teams[learns],
            agent_stats=[stats for stats, mine in zip(episode.agent_stats, learns, strict=True) if mine],
        )

    def _count_rewards(self) -> None:
        rewards = self.environment.rewards.reshape(self._learns.shape).astype(np.float64)
        learner = (rewards * self._learns).sum(axis=1)
        both = rewards.sum(axis=1)
        for opponent, chosen in self._slots.items():
            mine = float(learner[chosen].sum())
            self.tally.add_rewards(opponent, mine, float(both[chosen].sum()) - mine)

    def _take_observations(self) -> None:
        # "clip" writes straight into `out`; the default checks in a buffer first.
        np.take(self.environment.observations, self.learner_rows, axis=0, out=self.observations, mode="clip")


def _used_tokens(observations: np.ndarray) -> int:
    """Return how many leading token rows are in use; unused ones are the tail of an observation."""
    locations = observations[:, :, 0]
    used: int = bisect_left(
        range(locations.shape[1]), True, key=lambda row: bool(locations[:, row].min() == EMPTY)
    )
    return used


def _derived_seed(seed: int, stream: int) -> int:
    state: Any = np.random.SeedSequence([seed, stream]).generate_state(1)
    return int(state[0])
