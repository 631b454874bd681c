"""A run of neighbouring environments that one process steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from mettagrid.config.mettagrid_config import MettaGridConfig

from metta_cli.config.curriculum import Task
from metta_cli.environments.scripted import ScriptedPlayer
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.simulator import CompiledGame, FinishedEpisode, Simulator
from metta_cli.environments.slab import Slab, SlabLayout
from metta_cli.environments.tasks import GameCache
from metta_cli.errors import MettaError, SimulatorError

TOKEN_CURE = "give the environment more num_tokens"
SEED_CURE = "these seeds make it happen again; with num_workers=0 in a process that a debugger can follow"


@dataclass(frozen=True)
class BatchTask:
    """What a process needs to know to step its environments; travels to a worker.

    Attributes:
        name: canonical name of the environment, for messages.
        builder: which builder made it; the scripted baseline plays by it.
        action_names: flat action index -> name.
        config: MettaGrid's configuration, checked; the process that runs the task may change it.
        layout: of the slab of all environments.
        worker: index of the process.
        slots: the environments of this process.
        map_pool_size: how many different maps there are; 0 for a new one in every episode.
        stagger_episodes: whether the first episode of every environment is cut at a random step.
        scripted_actions: whether the scripted baseline proposes actions.
        shard: `(index, count)`: these environments are the `index`-th part of `count` parts of that size, so
            that their episodes are others than those of the other parts.
        tasks: what episodes are drawn from; none if all are of `config`.
    """

    name: str
    builder: str
    action_names: tuple[str, ...]
    config: MettaGridConfig
    layout: SlabLayout
    worker: int
    slots: range
    map_pool_size: int
    stagger_episodes: bool
    scripted_actions: bool
    shard: tuple[int, int] = (0, 1)
    tasks: tuple[Task, ...] = ()

    def number_of(self, slot: int) -> int:
        """Return the number of an environment among those of all parts."""
        return self.shard[0] * self.layout.num_environments + slot

    @property
    def num_numbers(self) -> int:
        """How many environments all parts have together."""
        return self.shard[1] * self.layout.num_environments

    def name_of(self, index: int) -> str:
        """Return what the environment of a task is called."""
        return self.tasks[index].name if self.tasks else self.name

    def builder_of(self, index: int) -> str:
        """Return which builder made the environment of a task."""
        return self.tasks[index].spec.builder if self.tasks else self.builder


class SimulatorBatch:
    """Steps the environments of one process, one after the other.

    Args:
        task: which environments, and how.
        slab: where they live.
    """

    def __init__(self, task: BatchTask, slab: Slab) -> None:
        self._task = task
        self._slab = slab
        keep_maps = task.map_pool_size > 0
        game = CompiledGame(task.config, keep_maps=keep_maps)
        self._games = GameCache(task.tasks, num_tokens=task.layout.num_tokens, keep_maps=keep_maps)
        self._simulators = [Simulator(game, slab, slot) for slot in task.slots]
        self._players: dict[int, ScriptedPlayer] = {}
        self._seeds = EpisodeSeeds(0, task.map_pool_size)
        self._cuts: dict[int, list[Simulator]] = {}
        self._num_steps = 0
        rows = slice(self._simulators[0].rows.start, self._simulators[-1].rows.stop)
        self._terminals, self._truncations = slab.terminals[rows], slab.truncations[rows]
        # A memoryview is written to three times faster than an array.
        self._active_slot = slab.active_slots.data[task.worker : task.worker + 1]

    def reset(self, seed: int, first_episode: int) -> list[FinishedEpisode]:
        """Begin an episode in every environment: each has the number of its environment more than the first.

        Returns:
            Nothing: episodes that this ends are not finished.

        Raises:
            SimulatorError: if a map cannot be made, or the simulator refuses it.
        """
        self._seeds = EpisodeSeeds(seed, self._task.map_pool_size)
        self._num_steps = 0
        try:
            for simulator in self._simulators:
                self._start(simulator, first_episode + self._task.number_of(simulator.slot))
            self._cuts = self._draw_cuts()
            self._propose_actions()
        except MettaError:
            raise
        except Exception as error:
            raise self._failure(error) from error
        return []

    def step(self) -> list[FinishedEpisode]:
        """Step every environment by the actions in the slab; begin a new episode where one has ended.

        Returns:
            The episodes that ended, by slot.

        Raises:
            SimulatorError: if the simulator fails.
        """
        # The simulator sets these flags and never clears them.
        self._terminals.fill(False)
        self._truncations.fill(False)
        self._num_steps += 1
        active_slot = self._active_slot
        finished: list[FinishedEpisode] = []
        try:
            for simulator in self._simulators:
                active_slot[0] = simulator.slot
                simulator.step()
            cut = self._cut_episodes() if self._cuts else []
            if self._terminals.any() or self._truncations.any():
                finished = self._renew_episodes(cut)
            self._propose_actions()
        except MettaError:
            raise
        except Exception as error:
            raise self._failure(error) from error
        return finished

    def _start(self, simulator: Simulator, episode: int) -> None:
        slot = simulator.slot
        self._active_slot[0] = slot
        self._slab.episodes[slot] = episode
        self._slab.episode_starts[slot] = self._num_steps
        if self._task.tasks:
            index = int(self._slab.next_tasks[slot])
            simulator.game = self._games.game(index, episode, self._seeds)
            self._slab.tasks[slot] = index
        simulator.start(episode, self._seeds)
        if self._task.scripted_actions:
            task = self._task
            builder = task.builder_of(int(self._slab.tasks[slot]))
            self._players[slot] = ScriptedPlayer(simulator.grid, task.action_names, builder)

    def _draw_cuts(self) -> dict[int, list[Simulator]]:
        """Return step -> simulators whose first episode is cut there; empty if episodes never end."""
        cuts: dict[int, list[Simulator]] = defaultdict(list)
        for simulator in self._simulators if self._task.stagger_episodes else ():
            max_steps = simulator.game.max_steps
            if max_steps > 0:
                steps = self._seeds.first_episode_steps(self._task.number_of(simulator.slot), max_steps)
                if steps < max_steps:  # otherwise it is a whole episode
                    cuts[steps].append(simulator)
        return dict(cuts)

    def _cut_episodes(self) -> list[Simulator]:
        """Truncate the first episodes that are due; a rule that ended one in the same step goes first."""
        due = self._cuts.pop(self._num_steps, [])
        cut = [simulator for simulator in due if not self._slab.terminals[simulator.rows].all()]
        for simulator in cut:
            self._slab.truncations[simulator.rows] = True
        return cut

    def _renew_episodes(self, cut: list[Simulator]) -> list[FinishedEpisode]:
        """Account for every environment all of whose agents are done, and begin its next episode."""
        dones = (self._terminals | self._truncations).reshape(len(self._simulators), -1)
        finished = []
        for index in np.flatnonzero(dones.all(axis=1)):
            simulator = self._simulators[index]
            self._active_slot[0] = simulator.slot
            finished.append(simulator.finish(is_cut=simulator in cut))
            last = simulator.last_step()
            self._start(simulator, finished[-1].episode + self._task.num_numbers)
            simulator.restore(last)
        return finished

    def _propose_actions(self) -> None:
        for slot, player in self._players.items():
            self._active_slot[0] = slot
            self._slab.scripted[self._slab.rows(slot)] = player.actions()

    def _failure(self, error: Exception) -> SimulatorError:
        """Return an error that says where and when the exception happened."""
        slot = int(self._active_slot[0])
        step = self._num_steps - int(self._slab.episode_starts[slot])
        name = self._task.name_of(int(self._slab.tasks[slot]))
        place = describe_place(name, slot, int(self._slab.episodes[slot]), self._seeds, step)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        cure = TOKEN_CURE if "token budget" in reason else SEED_CURE
        return SimulatorError(f"{place}: {reason}", cure)


class InProcess:
    """Steps all environments in this process, while it waits.

    Args:
        batch: the environments.
    """

    def __init__(self, batch: SimulatorBatch) -> None:
        self._batch = batch
        self._begun: Callable[[], list[FinishedEpisode]] | None = None

    def start_reset(self, seed: int, first_episode: int) -> None:
        """Have `wait` begin new episodes."""
        self._begun = partial(self._batch.reset, seed, first_episode)

    def start_step(self) -> None:
        """Have `wait` step the environments by the actions in the slab."""
        self._begun = self._batch.step

    def wait(self) -> list[FinishedEpisode]:
        """Do what was begun.

        Returns:
            The episodes that ended, by slot.

        Raises:
            SimulatorError: if the simulator fails.
        """
        begun, self._begun = self._begun, None
        return begun() if begun else []

    def close(self) -> None:
        """Nothing to end."""


def describe_place(name: str, slot: int, episode: int, seeds: EpisodeSeeds, step: int) -> str:
    """Return where and when something happened, precisely enough to make it happen again."""
    return (
        f"environment '{name}', slot {slot}, episode {episode}, seed {seeds.seed}, "
        f"map seed {seeds.map_seed(episode)}, simulation seed {seeds.simulation_seed(episode)}, step {step}"
    )
