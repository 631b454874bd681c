"""Which task the next episode belongs to: the frame that all curricula share, and the simplest of them.

A curriculum is told the score of every episode. Scores are meant to be in `[0, 1]`: the return per agent
divided by the most that the task can give, or the plain return where it has no such limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metta_cli.training.callbacks import Callback

if TYPE_CHECKING:
    from metta_cli.environments.vector import FinishedEpisode
    from metta_cli.training.rollout import RolloutStatistics
    from metta_cli.training.trainer import Metrics, Trainer

SCORE_RATE = 0.1
"""Weight of a new score in the running mean that people are shown."""

Update = tuple[int, float]
"""A task, and a score in it."""


class Curriculum(Callback):
    """Chooses tasks, and keeps what it knows of them in checkpoints.

    One process decides for all environments, so its worker processes share one curriculum. Where several
    processes train together, each collects its updates (`is_shared`), and all merge the same list of them:
    they then know the same and differ only in their random numbers.

    Args:
        names: of the tasks; what stands before the last `;` is the family that a task is counted in.

    Attributes:
        names: as given.
        completed: int64 `[n]`, finished episodes.
        scores: float64 `[n]`, running means of the scores; 0 before the first episode.
        is_shared: whether updates wait for `merge`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.completed = np.zeros(len(names), np.int64)
        self.scores = np.zeros(len(names))
        self.is_shared = False
        self._updates: list[Update] = []

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.names)

    def probabilities(self) -> np.ndarray:
        """Return how likely each task is to be chosen, float64 `[n]`."""
        raise NotImplementedError

    def next_task(self, generator: np.random.Generator) -> int:
        """Return the index of the task of an episode that will begin.

        Args:
            generator: the only source of chance.
        """
        return int(generator.choice(self.num_tasks, p=self.probabilities()))

    def record(self, task: int, score: float) -> None:
        """Take note of a finished episode.

        Args:
            task: index.
            score: see above.
        """
        if self.is_shared:
            self._updates.append((task, float(score)))
        else:
            self._record(task, float(score))

    def take_updates(self) -> list[Update]:
        """Return what was recorded since the last time, where `is_shared`."""
        updates, self._updates = self._updates, []
        return updates

    def merge(self, updates: Iterable[Iterable[Update]]) -> None:
        """Take note of the episodes of all processes.

        Args:
            updates: what each process took, in the same order everywhere.
        """
        for of_one in updates:
            for task, score in of_one:
                self._record(task, score)

    def learn(self, task: int, score: float) -> None:
        """Change what the probabilities follow from; override it."""

    def _record(self, task: int, score: float) -> None:
        rate = SCORE_RATE if self.completed[task] else 1.0
        self.scores[task] += rate * (score - self.scores[task])
        self.completed[task] += 1
        self.learn(task, score)

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Keep updates back where other processes have to know of them too."""
        self.is_shared = trainer.world.size > 1

    def on_rollout_end(self, trainer: Trainer, rollout: RolloutStatistics) -> Metrics:
        """Merge the updates of all processes; return how the choice is spread over the tasks."""
        if self.is_shared:
            self.merge(trainer.world.gather(self.take_updates()))
        return self.metrics()

    def metrics(self) -> Metrics:
        """Return what there is to log."""
        chances = self.probabilities()
        seen = self.completed > 0
        positive = chances[chances > 0]
        metrics = {
            "curriculum/probability_min": float(chances.min()),
            "curriculum/probability_max": float(chances.max()),
            "curriculum/effective_tasks": float(np.exp(-(positive * np.log(positive)).sum())),
            "curriculum/seen_tasks": float(seen.sum()),
        }
        if seen.any():
            metrics["curriculum/score_mean"] = float(self.scores[seen].mean())
            metrics["curriculum/score_min"] = float(self.scores[seen].min())
        families: dict[str, float] = {}
        for name, count in zip(self.names, self.completed, strict=True):
            family = f"curriculum/completed/{family_of(name)}"
            families[family] = families.get(family, 0.0) + float(count)
        return metrics | families

    def report(self) -> list[dict[str, Any]]:
        """Return one row per task for people to read."""
        chances = self.probabilities()
        return [
            {
                "task": name,
                "probability": round(float(chances[index]), 5),
                "completed": int(self.completed[index]),
                "score": round(float(self.scores[index]), 4),
                **self.details(index),
            }
            for index, name in enumerate(self.names)
        ]

    def details(self, task: int) -> dict[str, Any]:
        """Return what else is known of a task; override it."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was learned of the tasks, under their names."""
        state = {"names": list(self.names), "completed": self.completed.copy(), "scores": self.scores.copy()}
        return state | {"rule": self.rule_state()}

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`. Nothing is taken over if the tasks are others, or the rule is."""
        if tuple(data["names"]) == self.names and data["rule"].keys() == self.rule_state().keys():
            self.completed = np.array(data["completed"], np.int64)
            self.scores = np.array(data["scores"], float)
            self.load_rule_state(data["rule"])

    def rule_state(self) -> dict[str, Any]:
        """Return what the probabilities follow from; override it."""
        return {}

    def load_rule_state(self, data: dict[str, Any]) -> None:
        """Go on from `rule_state`; override it."""


class WeightedCurriculum(Curriculum):
    """Draws tasks at random, whatever their scores are.

    Args:
        names: of the tasks.
        weights: of the tasks; None makes them equally likely.
    """

    def __init__(self, names: Sequence[str], weights: Sequence[float] | None = None) -> None:
        super().__init__(names)
        chosen = np.ones(len(names)) if weights is None else np.array(weights, float)
        self._probabilities: np.ndarray = chosen / chosen.sum()

    def probabilities(self) -> np.ndarray:
        """Return the weights, scaled to sum 1."""
        return self._probabilities


class CurriculumSource:
    """Connects a curriculum with a vectorized environment, as its `task_source`.

    Args:
        curriculum: chooses.
        seed: of its choices.

    Attributes:
        curriculum: as given.
        learner_rows: agents of all environments that learn, where others play against them; theirs are the
            returns that count. None is all agents.
    """

    def __init__(self, curriculum: Curriculum, seed: int) -> None:
        self.curriculum = curriculum
        self.learner_rows: np.ndarray | None = None
        self._generator = np.random.default_rng(seed)

    def choose(self) -> int:
        """Return the task of an episode that will begin."""
        return self.curriculum.next_task(self._generator)

    def record(self, episode: FinishedEpisode) -> None:
        """Tell the curriculum of a whole episode; one that `stagger_episodes` cut says nothing."""
        if not episode.is_cut:
            self.curriculum.record(episode.task, score_of(episode, self._learners(episode)))

    def _learners(self, episode: FinishedEpisode) -> np.ndarray | None:
        if self.learner_rows is None:
            return None
        slots, agents = np.divmod(self.learner_rows, len(episode.agent_returns))
        learners: np.ndarray = agents[slots == episode.environment]
        return learners


def score_of(episode: FinishedEpisode, agents: np.ndarray | None = None) -> float:
    """Return the mean return of agents, divided by the most that the task can give, if that is known.

    Args:
        episode: one that has ended.
        agents: indices of the agents that count; None is all of them.
    """
    returns = episode.agent_returns if agents is None else episode.agent_returns[agents]
    mean_return = float(returns.mean())
    return mean_return if episode.return_max is None else mean_return / episode.return_max


def family_of(name: str) -> str:
    """Return what tasks that differ in their last bucket only have in common."""
    return name.rpartition(";")[0] or name
