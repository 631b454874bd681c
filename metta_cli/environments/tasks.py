"""Several tasks in one vectorized environment: checked beforehand, compiled when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np
from mettagrid.config.mettagrid_config import MettaGridConfig

from metta_cli.config.curriculum import Task
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.builders import build, return_max
from metta_cli.environments.interface import interface_of
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.simulator import CompiledGame, FinishedEpisode
from metta_cli.errors import ConfigError

COMPILED_GAMES = 256
"""How many compiled games a process keeps: compiling takes about 1 ms, an episode some 50 ms."""


class TaskSource(Protocol):
    """Decides which task an episode belongs to."""

    def choose(self) -> int:
        """Return the index of the task of an episode that will begin."""
        ...

    def record(self, episode: FinishedEpisode) -> None:
        """Take note of an episode that has ended."""
        ...


class TaskSet:
    """Tasks between which an environment can change from episode to episode.

    Args:
        tasks: at least one. Every one is built at the ends of its ranges and with each of its choices.

    Attributes:
        tasks: as given.
        interface: what a policy sees of each of them; the number of tokens is that of the largest.

    Raises:
        ConfigError: if a task cannot be built, or two differ in what a policy sees of them.
        UnknownNameError: if a task asks for a builder that does not exist.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            raise ConfigError("a curriculum without tasks", "name at least one environment")
        _check_names(tasks)
        self.tasks = tuple(tasks)
        seen = [(task, interface) for task in tasks for interface in _interfaces(task)]
        first, reference = seen[0]
        for task, interface in seen[1:]:
            difference = _difference(reference, interface)
            if difference:
                raise ConfigError(
                    f"tasks '{first.name}' and '{task.name}' differ in {difference}",
                    "one policy sees all tasks of a curriculum: use environments with the same interface",
                )
        self.interface = replace(reference, num_tokens=max(interface.num_tokens for _, interface in seen))

    def example(self) -> MettaGridConfig:
        """Return the configuration of one episode of the first task."""
        return build(next(extremes(self.tasks[0])))


class GameCache:
    """Compiles the games of tasks, and keeps the ones that were used last.

    Args:
        tasks: by index.
        num_tokens: rows of the observation, the same for all of them.
        keep_maps: whether map seeds come again.
    """

    def __init__(self, tasks: Sequence[Task], *, num_tokens: int, keep_maps: bool) -> None:
        self._tasks = tasks
        self._num_tokens = num_tokens
        self._keep_maps = keep_maps
        self._games: OrderedDict[tuple[int, str], CompiledGame] = OrderedDict()

    def game(self, index: int, episode: int, seeds: EpisodeSeeds) -> CompiledGame:
        """Return the game of an episode.

        Args:
            index: of the task.
            episode: number of the episode; its parameters follow from it and the seeds.
            seeds: of the vectorized environment.

        Raises:
            ConfigError: if the parameters that were drawn make no game.
            IndexError: if there is no such task.
        """
        if not 0 <= index < len(self._tasks):
            raise IndexError(f"next task {index}, but there are {len(self._tasks)} tasks")
        task = self._tasks[index]
        parameters = task.draw(lambda name: seeds.fraction(name, episode))
        key = (index, repr(parameters))
        if key not in self._games:
            self._games[key] = self._compile(index, parameters)
            if len(self._games) > COMPILED_GAMES:
                self._games.popitem(last=False)
        self._games.move_to_end(key)
        return self._games[key]

    def _compile(self, index: int, parameters: dict[str, Any]) -> CompiledGame:
        task = self._tasks[index]
        spec = task.with_arguments(**{**parameters, "num_tokens": self._num_tokens})
        return CompiledGame(
            build(spec),
            keep_maps=self._keep_maps,
            task=index,
            parameters=parameters,
            return_max=return_max(spec) if task.score_max is None else task.score_max,
        )


class TaskAssigner:
    """Writes the tasks of the next episodes into the slab, as a source chooses them.

    Args:
        source: chooses; None leaves the array to whoever holds the vectorized environment.
        next_tasks: int32 `[E]`, task of each environment's next episode.
    """

    def __init__(self, source: TaskSource | None, next_tasks: np.ndarray) -> None:
        self._source = source
        self._next_tasks = next_tasks

    def choose_all(self) -> None:
        """Choose for every environment: before all of them are reset, and after it."""
        if self._source is not None:
            self._next_tasks[:] = [self._source.choose() for _ in self._next_tasks]

    def finish(self, episodes: Sequence[FinishedEpisode]) -> None:
        """Record episodes that ended, and choose anew where the next ones have begun."""
        if self._source is not None:
            for episode in episodes:
                self._source.record(episode)
            for episode in episodes:
                self._next_tasks[episode.environment] = self._source.choose()


def extremes(task: Task) -> Iterator[EnvironmentSpec]:
    """Yield the environment at the low and the high end of all ranges, and with each of its choices."""
    lows = {name: span[0] for name, span in task.ranges.items()}
    yield task.with_arguments(**lows)
    if task.ranges:
        yield task.with_arguments(**{name: span[-1] for name, span in task.ranges.items()})
    for name, span in task.ranges.items():
        for value in span[1:] if isinstance(span, list) else ():
            yield task.with_arguments(**{**lows, name: value})


def _interfaces(task: Task) -> Iterator[EnvironmentInterface]:
    """Yield what a policy sees in the extremes of a task."""
    for spec in extremes(task):
        try:
            config = build(spec)
        except ConfigError as error:
            raise ConfigError(f"task '{task.name}': {error.message}", error.cure) from error
        yield interface_of(config)


def _check_names(tasks: Sequence[Task]) -> None:
    names = [task.name for task in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two tasks are called '{twice[0]}'", "give every task a name of its own")


def _difference(first: EnvironmentInterface, second: EnvironmentInterface) -> str:
    """Say how two interfaces differ, but for the number of tokens; empty if they do not."""
    for field in fields(EnvironmentInterface):
        known, other = getattr(first, field.name), getattr(second, field.name)
        if field.name == "num_tokens" or known == other:
            continue
        what = field.name.replace("_", " ")
        if not isinstance(known, tuple):
            return f"{what}: {known} and {other}"
        only = [
            sorted(set(map(str, one)) - set(map(str, two))) for one, two in ((known, other), (other, known))
        ]
        if not any(only):
            return f"the order of their {what}"
        return f"{what}: only the first has {only[0] or 'none'}, only the second {only[1] or 'none'}"
    return ""
