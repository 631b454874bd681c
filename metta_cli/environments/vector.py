"""Many environments as one, in this process or spread over worker processes."""

from __future__ import annotations

import mmap
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from types import TracebackType
from typing import Any, Protocol, Self

import gymnasium
import numpy as np
from numpy.typing import ArrayLike

from metta_cli.config.curriculum import Task
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.actions import ActionCodec
from metta_cli.environments.batch import BatchTask, InProcess, SimulatorBatch
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.simulator import FinishedEpisode
from metta_cli.environments.slab import SharedMemory, Slab, SlabLayout
from metta_cli.environments.tasks import TaskAssigner, TaskSet, TaskSource
from metta_cli.environments.workers import WorkerPool
from metta_cli.errors import ConfigError

__all__ = ["FinishedEpisode", "VectorEnvironment"]

EMPTY = 255
"""Location of an unused token; unused tokens are the last rows of an observation."""


class Stepper(Protocol):
    """Whatever steps the environments of the slab: this process, or a pool of workers."""

    def start_reset(self, seed: int, first_episode: int) -> None: ...

    def start_step(self) -> None: ...

    def wait(self) -> list[FinishedEpisode]: ...

    def close(self) -> None: ...


class VectorEnvironment:
    """`num_environments` copies of an environment that are reset and stepped together.

    An environment whose episode ends begins its next one in the same step: the observations are then the
    first of the new episode, rewards, terminals and truncations those of the last step of the old one, and
    `final_observations` holds what its agents saw last.

    All arrays are views of one block of memory that the simulators write into; the next `step` overwrites
    them, so copy what has to last. Episodes depend on `seed`, `first_episode` and the actions alone: any
    number of workers gives the same observations, rewards and finished episodes, bit for bit.

    With workers, `send` returns at once and `recv` waits, so a program may think about one vectorized
    environment while another one is stepping. `send`, `recv`, `async_reset` and the buffers are those of
    `pufferlib.PufferEnv`, so trainers written for PufferLib take this object as it is.

    Args:
        spec: which environment.
        num_environments: how many copies.
        num_workers: worker processes, each with a run of neighbouring environments; 0 steps them here.
        seed: all maps and simulations follow from it.
        stagger_episodes: cut the first episode of every environment, as a truncation, at a random step, so
            that episodes do not all end at once. No effect where episodes never end.
        scripted_actions: fill `scripted` after every reset and step.
        first_episode: number of the first episode; `next_episode` of an earlier run continues its episodes
            instead of playing them again.
        map_pool_size: how many different maps there are, 0 for a new map in every episode; by default what
            the environment's file says, and 0 with tasks.
        tasks: what episodes are drawn from, instead of `spec` alone; `next_tasks` says which comes next.
        task_source: writes `next_tasks` whenever an episode has begun, and is told of every one that ended.
        shard: `(index, count)`: play the `index`-th part of the episodes of `count` such objects.

    Attributes:
        spec: as given.
        interface: names and shapes of observations and actions.
        codec: between flat actions and the simulator's two action buffers.
        num_environments: as given, `E`.
        agents_per_environment: agents in one environment.
        num_agents: agents in all environments, `N`; those of one environment are neighbours.
        observations: uint8 `[N, K, 3]`, tokens (location, feature, value); unused rows are 255 and come last.
        final_observations: uint8 `[N, K, 3]`, see above; valid for agents whose episode just ended.
        rewards: float32 `[N]`, of the last step.
        terminals: bool `[N]`, the last step ended the episode by rule.
        truncations: bool `[N]`, the last step ended the episode by time.
        teams: int32 `[N]`, team of each agent in its running episode.
        scripted: int32 `[N]`, flat actions that the scripted baseline proposes for the observations.
        tasks: int32 `[E]`, task of each environment's running episode.
        episodes: int64 `[E]`, number of each environment's running episode.
        next_tasks: int32 `[E]`, task of the episode after it; to be written between steps.
        actions: int32 `[N]`, the last actions.
        masks: bool `[N]`, all true: every agent is always there.
        agent_ids: int64 `[N]`, 0 to N - 1.
        infos: episodes that ended in the last step, as nested plain numbers.
        single_observation_space: of one agent.
        single_action_space: of one agent.

    Raises:
        ConfigError: if the numbers make no sense, an environment is misconfigured, or tasks show a policy
            different things.
    """

    done = False
    emulated = False

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        num_environments: int,
        num_workers: int = 0,
        seed: int = 0,
        stagger_episodes: bool = False,
        scripted_actions: bool = False,
        first_episode: int = 0,
        map_pool_size: int | None = None,
        tasks: Sequence[Task] | None = None,
        task_source: TaskSource | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        default_pool_size = spec.map_pool_size if tasks is None else 0
        pool_size = default_pool_size if map_pool_size is None else map_pool_size
        _check_numbers(num_environments, num_workers, first_episode, pool_size)
        task_set = None if tasks is None else TaskSet(tasks)
        config = build(spec) if task_set is None else task_set.example()
        self.spec = spec
        self.interface = interface_of(config) if task_set is None else task_set.interface
        self.codec = ActionCodec(self.interface.action_names)
        self.num_environments = num_environments
        self.agents_per_environment = self.interface.agents_per_environment
        self.num_agents = num_environments * self.agents_per_environment
        self.num_workers = num_workers
        self._seed = seed
        self._first_episode = first_episode
        self._is_started = self._is_waiting = self._is_resetting = self._is_closed = False
        self.infos: list[dict[str, Any]] = []

        layout = SlabLayout(
            num_environments, self.agents_per_environment, self.interface.num_tokens, num_workers
        )
        batches = [
            BatchTask(
                name=spec.name or spec.builder,
                builder=spec.builder,
                action_names=self.interface.action_names,
                config=config,
                layout=layout,
                worker=worker,
                slots=slots,
                map_pool_size=pool_size,
                stagger_episodes=stagger_episodes,
                scripted_actions=scripted_actions,
                shard=shard,
                tasks=() if task_set is None else task_set.tasks,
            )
            for worker, slots in enumerate(_runs(num_environments, max(1, num_workers)))
        ]
        self._stepper = self._open(layout, batches)
        self._assigner = TaskAssigner(task_source, self._slab.next_tasks)
        self._finalizer = weakref.finalize(self, self._stepper.close)
        self._set_buffers()
        self._set_spaces()

    def _open(self, layout: SlabLayout, batches: list[BatchTask]) -> Stepper:
        if not self.num_workers:
            self._slab = Slab(layout, mmap.mmap(-1, layout.num_bytes))
            return InProcess(SimulatorBatch(batches[0], self._slab))
        memory = SharedMemory(layout.num_bytes)
        self._slab = Slab(layout, memory.memory)
        try:
            return WorkerPool(batches, self._slab, memory)
        finally:
            memory.close()

    def _set_buffers(self) -> None:
        slab = self._slab
        self.observations, self.final_observations = slab.observations, slab.final_observations
        self.rewards, self.terminals, self.truncations = slab.rewards, slab.terminals, slab.truncations
        self.teams, self.scripted = slab.teams, slab.scripted
        self.tasks, self.next_tasks, self.episodes = slab.tasks, slab.next_tasks, slab.episodes
        self.actions = np.zeros(self.num_agents, np.int32)
        self.teacher_actions = self.scripted
        self.masks = np.ones(self.num_agents, bool)
        self.agent_ids = np.arange(self.num_agents)
        self._is_primary = np.ones(self.num_agents, bool)

    def _set_spaces(self) -> None:
        shape = self.observations.shape[1:]
        self.metadata: dict[str, Any] = {"render_modes": []}
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(self.interface.num_actions)

    @cached_property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Space of `observations`."""
        return gymnasium.spaces.Box(0, 255, self.observations.shape, np.uint8)

    @cached_property
    def action_space(self) -> gymnasium.spaces.MultiDiscrete:
        """Space of the actions of all agents."""
        return gymnasium.spaces.MultiDiscrete([self.interface.num_actions] * self.num_agents)

    @property
    def agents_per_batch(self) -> int:
        """Agents that `recv` returns rows for: all of them."""
        return self.num_agents

    agent_per_batch = agents_per_batch

    @property
    def driver_env(self) -> Self:
        """What PufferLib's policies read the spaces from."""
        return self

    @property
    def next_episode(self) -> int:
        """The smallest episode number that no environment has begun yet."""
        return int(self._slab.episodes.max()) + 1 if self._is_started else self._first_episode

    def max_used_tokens(self) -> int:
        """Return how many leading token rows of the current observations are in use by any agent.

        Unused rows are the tail of an observation, so this is a search by halves over the rows.
        """
        locations = self.observations[:, :, 0]
        rows = range(locations.shape[1])
        used: int = bisect_left(rows, True, key=lambda row: bool(locations[:, row].min() == EMPTY))
        return used

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, list[FinishedEpisode]]:
        """Begin a new episode in every environment.

        Args:
            seed: start over with this seed, at `first_episode`. Without it the first reset uses the seed of
                the constructor, and a later one goes on to episodes that were not played yet.

        Returns:
            `observations`, and no infos.

        Raises:
            SimulatorError: if a map cannot be made, or the simulator or a worker fails.
        """
        self.async_reset(seed)
        self._wait()
        return self.observations, []

    def step(
        self, actions: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[FinishedEpisode]]:
        """Step every environment.

        Args:
            actions: int `[N]`, flat actions.

        Returns:
            `observations`, `rewards`, `terminals`, `truncations`, and the episodes that ended, by slot.

        Raises:
            SimulatorError: if the simulator or a worker fails; the environment is closed then.
            ValueError: if an action does not exist, or their number is wrong.
        """
        self.send(actions)
        finished = self._wait()
        return self.observations, self.rewards, self.terminals, self.truncations, finished

    def async_reset(self, seed: int | None = None) -> None:
        """Begin `reset`; `recv` ends it."""
        self._check_ready(needs_start=False)
        if seed is not None:
            self._seed = seed
        first_episode = self._first_episode if seed is not None else self.next_episode
        self._is_started = self._is_waiting = self._is_resetting = True
        self._assigner.choose_all()
        self._stepper.start_reset(self._seed, first_episode)

    def send(self, actions: ArrayLike) -> None:
        """Begin a `step`; `recv` ends it. Only with workers is there time in between.

        Args:
            actions: int `[N]`, flat actions.

        Raises:
            SimulatorError: if a worker is dead.
            ValueError: if an action does not exist, or their number is wrong.
        """
        self._check_ready(needs_start=True)
        self._set_actions(np.asarray(actions))
        self._is_waiting = True
        self._stepper.start_step()

    def recv(self) -> tuple[Any, ...]:
        """End what `async_reset` or `send` began.

        Returns:
            What `pufferlib.PufferEnv.recv` returns: observations, rewards, terminals, truncations, teacher
            actions (`scripted`), infos, agent ids, masks.

        Raises:
            SimulatorError: if the simulator or a worker fails; the environment is closed then.
        """
        if not self._is_waiting:
            raise RuntimeError("nothing was sent: call async_reset() or send() before recv()")
        self.infos = [episode.to_info() for episode in self._wait()]
        return (
            self.observations,
            self.rewards,
            self.terminals,
            self.truncations,
            self.teacher_actions,
            self.infos,
            self.agent_ids,
            self.masks,
        )

    def close(self) -> None:
        """End the workers. The arrays stay readable. May be called again."""
        self._is_closed = True
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self) -> list[FinishedEpisode]:
        try:
            finished = self._stepper.wait()
        except Exception:
            self.close()
            raise
        if self._is_resetting:
            self._assigner.choose_all()
        self._assigner.finish(finished)
        self._is_waiting = self._is_resetting = False
        return finished

    def _check_ready(self, *, needs_start: bool) -> None:
        if self._is_closed:
            raise RuntimeError("this vectorized environment is closed")
        if self._is_waiting:
            raise RuntimeError("it is still stepping: call recv() first")
        if needs_start and not self._is_started:
            raise RuntimeError("call reset() before the first step")

    def _set_actions(self, actions: np.ndarray) -> None:
        """Check the actions, and write each to the buffer that it belongs to and 0 to the other."""
        if actions.shape != (self.num_agents,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be integers of shape ({self.num_agents},), "
                f"not {actions.dtype} of shape {actions.shape}"
            )
        if actions.min() < 0 or actions.max() >= self.interface.num_actions:
            agent = int(np.flatnonzero((actions < 0) | (actions >= self.interface.num_actions))[0])
            raise ValueError(
                f"action {actions[agent]} of agent {agent} does not exist: "
                f"'{self.spec.name}' has actions 0 to {self.interface.num_actions - 1}"
            )
        self.actions[:] = actions
        np.less(self.actions, self.codec.num_primary, out=self._is_primary)
        np.multiply(self.actions, self._is_primary, out=self._slab.primary_actions)
        np.subtract(self.actions, self._slab.primary_actions, out=self._slab.vibe_actions)


def _runs(num_environments: int, num_runs: int) -> list[range]:
    """Return `num_runs` runs of neighbouring environments whose lengths differ by one at most."""
    ends = [num_environments * run // num_runs for run in range(num_runs + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


def _check_numbers(num_environments: int, num_workers: int, first_episode: int, pool_size: int) -> None:
    if num_environments < 1:
        raise ConfigError(f"num_environments is {num_environments}", "at least one environment is needed")
    if not 0 <= num_workers <= num_environments:
        raise ConfigError(
            f"num_workers is {num_workers} for {num_environments} environments",
            f"choose 0 (no worker processes) to {num_environments}",
        )
    if first_episode < 0:
        raise ConfigError(f"first_episode is {first_episode}", "episodes are numbered from 0")
    if pool_size < 0:
        raise ConfigError(f"map_pool_size is {pool_size}", "0 makes a new map for every episode")
