"""Play the episodes of one simulation.

Which episodes are played is fixed before the first step: numbers 0 to N - 1, each with its own map and
simulator seed. Episode `n` is the `n // slots`-th of environment slot `n % slots`, and the number of
slots follows from N alone. Every batch is therefore the same for any number of workers, no episode is
left out because it took long, and none is counted because it was quick.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from metta_cli.config.catalogue import find_environment
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.simulation import SingleEnvSimulationConfig
from metta_cli.environments.vector import FinishedEpisode, VectorEnvironment
from metta_cli.errors import SimulatorError
from metta_cli.evaluation.outcomes import EpisodeResult, mean_stats
from metta_cli.populations.players import PlayerSource, Turn, uniform_noise

MAX_SLOTS = 32
"""Environments that are stepped together; part of the definition of a score, see `num_slots`."""

_EVALUATION_STREAM = 0x6576616C  # "eval"


@dataclass
class Recording:
    """What it takes to play an episode again: its seeds and every action.

    Attributes:
        episode: number of the episode to record.
        actions: flat actions, one int array `[agents]` for each step.
        result: the episode, once it has finished.
    """

    episode: int = 0
    actions: list[np.ndarray] = field(default_factory=list)
    result: EpisodeResult | None = None


def require_same_returns(spec: EnvironmentSpec, recording: Recording, returns: np.ndarray) -> None:
    """Refuse an episode that came out differently when it was played again.

    Args:
        spec: the environment.
        recording: of an episode that has finished.
        returns: float `[agents]`, of the repetition.

    Raises:
        SimulatorError: if the returns differ from the recorded ones.
    """
    if recording.result is None or not np.allclose(returns, recording.result.agent_returns, atol=1e-4):
        raise SimulatorError(
            f"episode {recording.episode} of '{spec.name}' came out differently when it was played again",
            "this is a defect of metta or of MettaGrid, please report it",
        )


def environment_of(simulation: SingleEnvSimulationConfig) -> EnvironmentSpec:
    """Return the environment of a simulation, with its overrides.

    Raises:
        UnknownNameError: if the catalogue does not have it.
    """
    spec = find_environment(simulation.env)
    return spec.model_copy(update={"args": {**spec.args, **simulation.env_overrides}})


def num_slots(num_episodes: int) -> int:
    """Return how many environments play `num_episodes`: at most `MAX_SLOTS`, in rounds as even as can be.

    It does not look at the machine: the last bits of a network's output depend on the size of the batch.
    """
    return math.ceil(num_episodes / math.ceil(num_episodes / MAX_SLOTS))


def environment_seed(seed: int) -> int:
    """Return the seed that the environments of an evaluation are opened with.

    Not the same number: training with seed S numbers its episodes from 0 as well, and would have seen
    every map of an evaluation with seed S.
    """
    stream, zero = np.array([_EVALUATION_STREAM]), np.zeros(1, dtype=np.int64)
    return int(uniform_noise(seed, stream, zero, zero)[0] * 2**31)


def play_simulation(
    simulation: SingleEnvSimulationConfig,
    source: PlayerSource,
    *,
    seed: int,
    num_workers: int = 0,
    recording: Recording | None = None,
    on_episode: Callable[[int], None] | None = None,
) -> list[EpisodeResult]:
    """Play exactly `simulation.num_episodes` episodes.

    The same arguments give the same results, bit for bit, for any `num_workers`. For the built-in
    players the first episodes do not depend on `num_episodes` either; for a network they do in the last
    bits of its output, because the size of the batch does.

    Args:
        simulation: what to play. With `max_time_s` the clock decides how many episodes start: the list
            may then be shorter, and differ from machine to machine.
        source: who plays all agents.
        seed: not negative.
        num_workers: processes that step the environments; 0 steps them in this one.
        recording: filled with the actions of one episode.
        on_episode: told how many episodes are done after each.

    Returns:
        The episodes in the order of their numbers.

    Raises:
        SimulatorError: if the simulator, or a worker that runs it, fails.
    """
    spec = environment_of(simulation)
    slots = num_slots(simulation.num_episodes)
    deadline = math.inf if simulation.max_time_s is None else time.monotonic() + simulation.max_time_s
    with (
        VectorEnvironment(
            spec,
            num_environments=slots,
            num_workers=min(num_workers, slots),
            seed=environment_seed(seed),
            scripted_actions=source.reads_scripted_actions,
            map_pool_size=0,
        ) as environment,
        _undisturbed_torch_random(seed),
    ):
        play = _Play(environment, source, simulation.num_episodes, seed, recording)
        while not play.is_finished:
            if time.monotonic() >= deadline:
                play.start_no_more()
            if play.step() and on_episode is not None:
                on_episode(len(play.results))
    return [play.results[episode] for episode in sorted(play.results)]


class _Play:
    """The state of playing one simulation: which episode and step every slot is at."""

    def __init__(
        self,
        environment: VectorEnvironment,
        source: PlayerSource,
        num_episodes: int,
        seed: int,
        recording: Recording | None,
    ) -> None:
        self.environment, self.recording, self.seed = environment, recording, seed
        self.player = source.create(environment.interface, environment.num_agents)
        self.scripted_actions = environment.scripted if source.reads_scripted_actions else None
        self.wanted = set(range(num_episodes))
        self.results: dict[int, EpisodeResult] = {}
        self.num_agents_each = environment.agents_per_environment
        self.agents = np.tile(np.arange(self.num_agents_each), environment.num_environments)
        self.episodes = np.arange(environment.num_environments)
        self.steps = np.zeros(environment.num_environments, dtype=np.int64)
        self.starts = np.ones(environment.num_agents, dtype=bool)
        environment.reset()

    @property
    def is_finished(self) -> bool:
        return len(self.results) == len(self.wanted)

    def start_no_more(self) -> None:
        """Want only what has ended or is being played now."""
        self.wanted &= {*self.results, *self.episodes.tolist()}

    def step(self) -> bool:
        """Step every slot once; return whether an episode that counts has ended."""
        num_before = len(self.results)
        actions = self.player.act(self._turn())
        if self.recording is not None:
            self._record(self.recording, actions)
        *_, finished = self.environment.step(actions)
        self.steps += 1
        self.starts[:] = False
        for episode in finished:
            self._finish(episode)
        return len(self.results) > num_before

    def _turn(self) -> Turn:
        episodes, steps = (each.repeat(self.num_agents_each) for each in (self.episodes, self.steps))
        return Turn(
            observations=self.environment.observations[:, : self.environment.max_used_tokens()],
            episode_starts=self.starts,
            noise=uniform_noise(self.seed, episodes, self.agents, steps),
            scripted_actions=self.scripted_actions,
        )

    def _rows(self, slot: int) -> slice:
        return slice(slot * self.num_agents_each, (slot + 1) * self.num_agents_each)

    def _record(self, recording: Recording, actions: np.ndarray) -> None:
        slot = recording.episode % len(self.episodes)
        if self.episodes[slot] == recording.episode:
            recording.actions.append(actions[self._rows(slot)].copy())

    def _finish(self, finished: FinishedEpisode) -> None:
        slot = finished.environment
        self.starts[self._rows(slot)] = True
        self.steps[slot] = 0
        self.episodes[slot] += len(self.episodes)
        if finished.episode not in self.wanted:
            return  # the slot has played its share and waits for the others
        result = self.results[finished.episode] = _result_of(finished)
        if self.recording is not None and self.recording.episode == finished.episode:
            self.recording.result = result


def _result_of(finished: FinishedEpisode) -> EpisodeResult:
    teams = [int(team) for team in finished.teams]
    by_team = {
        team: [stats for stats, other in zip(finished.agent_stats, teams, strict=True) if other == team]
        for team in sorted(set(teams))
    }
    return EpisodeResult(
        episode=finished.episode,
        map_seed=finished.map_seed,
        simulation_seed=finished.simulation_seed,
        num_steps=finished.num_steps,
        agent_returns=tuple(float(value) for value in finished.agent_returns),
        teams=tuple(teams),
        game_stats={name: float(value) for name, value in finished.game_stats.items()},
        agent_stats=mean_stats(finished.agent_stats),
        team_stats={team: mean_stats(stats) for team, stats in by_team.items()},
        truncated=finished.truncated,
    )


@contextmanager
def _undisturbed_torch_random(seed: int) -> Iterator[None]:
    """Seed torch's generators, and put them back afterwards: a training goes on as if nothing had been."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
