"""Curricula that follow the scores: learning progress, regressed scores, and a walk from easy to hard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metta_cli.algorithms.curricula import (
    learning_progress,
    learning_progress_distribution,
    linear_gates,
    logistic_gates,
    low_reward_weights,
    mix_with_uniform,
    normalized_success,
)
from metta_cli.config.curriculum import (
    LearningProgressConfig,
    PrioritizeRegressedConfig,
    ProgressiveConfig,
)
from metta_cli.training.curricula import Curriculum

if TYPE_CHECKING:
    from metta_cli.training.trainer import Metrics

BASELINE_MAX = 0.75
"""Most that a first success rate counts as known before; a task that starts near 1 would never progress."""


class LearningProgressCurriculum(Curriculum):
    """Draws tasks whose success rate is changing, up or down.

    A task has a success rate, the mean of its last scores. The first one becomes its baseline; of the part
    above it there is a fast running mean and one that lags behind; their difference is the learning progress.
    Between two updates only some tasks are active; a share of those is drawn uniformly.

    A task that has not finished an episode yet is as likely as the best of the others, where the original
    gives it no weight.

    Source: Kanitscheider et al. 2021, section 3.2, and the bidirectional form of it that Metta used.

    Args:
        names: of the tasks.
        config: the numbers.
    """

    def __init__(self, names: Sequence[str], config: LearningProgressConfig) -> None:
        super().__init__(names)
        self.config = config
        count = len(names)
        self._outcomes = np.zeros((count, config.memory))
        self._num_outcomes = np.zeros(count, np.int64)
        self._new = np.zeros(count, np.int64)
        self._baselines = np.full(count, np.nan)
        self._fast, self._slow, self._success = np.zeros(count), np.zeros(count), np.zeros(count)
        self._active = np.zeros(0, np.int64)

    def learn(self, task: int, score: float) -> None:
        """Remember an outcome; once an active task has enough new ones, update all that have any.

        Processes that train together have different active tasks, so there any task can be the one.
        """
        self._outcomes[task, self._num_outcomes[task] % self.config.memory] = min(max(score, 0.0), 1.0)
        self._num_outcomes[task] += 1
        self._new[task] += 1
        if self._new[task] >= self.config.sample_threshold and (self.is_shared or task in self._active):
            self._update()

    def next_task(self, generator: np.random.Generator) -> int:
        """Return one of the active tasks; they are drawn anew after each update."""
        if not len(self._active):
            chances = self.probabilities()
            self._active = generator.choice(self.num_tasks, self.config.num_active_tasks, p=chances)
        return int(generator.choice(self._active))

    def probabilities(self) -> np.ndarray:
        """Return how likely each task is to become active."""
        weights = learning_progress_distribution(self.progress(), self._success)
        weights[self._num_outcomes == 0] = weights.max()
        return mix_with_uniform(weights, self.config.rand_task_rate)

    def progress(self) -> np.ndarray:
        """Return the learning progress of every task, float64 `[n]`."""
        return learning_progress(self._fast, self._slow, self.config.progress_smoothing)

    def _update(self) -> None:
        fresh = np.flatnonzero(self._new)
        kept = np.minimum(self._num_outcomes[fresh], self.config.memory)
        rates = self._outcomes[fresh].sum(axis=1) / kept
        is_first = np.isnan(self._baselines[fresh])
        self._baselines[fresh] = np.where(is_first, np.minimum(rates, BASELINE_MAX), self._baselines[fresh])
        success = normalized_success(rates, self._baselines[fresh])
        for mean, values in ((self._fast, success), (self._success, rates)):
            rate = np.where(is_first, 1.0, self.config.ema_timescale)
            mean[fresh] += rate * (values - mean[fresh])
        lag = np.where(is_first, 1.0, self.config.ema_timescale)
        self._slow[fresh] += lag * (self._fast[fresh] - self._slow[fresh])
        self._new[:] = 0
        self._active = np.zeros(0, np.int64)

    def metrics(self) -> Metrics:
        """Return what there is to log."""
        progress = self.progress()
        return super().metrics() | {
            "curriculum/learning_progress_mean": float(progress.mean()),
            "curriculum/learning_progress_max": float(progress.max()),
        }

    def details(self, task: int) -> dict[str, Any]:
        """Return the learning progress of a task."""
        return {"learning_progress": round(float(self.progress()[task]), 5)}

    def rule_state(self) -> dict[str, Any]:
        """Return the outcomes and the running means."""
        return {name: getattr(self, f"_{name}").copy() for name in _LEARNING_PROGRESS_STATE}

    def load_rule_state(self, data: dict[str, Any]) -> None:
        """Go on from `rule_state`; outcomes are forgotten if their number was another one."""
        for name in _LEARNING_PROGRESS_STATE:
            setattr(self, f"_{name}", np.array(data[name]))
        if self._outcomes.shape[1] != self.config.memory:
            self._outcomes = np.zeros((self.num_tasks, self.config.memory))
            self._num_outcomes[:] = self._new[:] = 0


_LEARNING_PROGRESS_STATE = (
    "outcomes",
    "num_outcomes",
    "new",
    "baselines",
    "fast",
    "slow",
    "success",
    "active",
)


class PrioritizeRegressedCurriculum(Curriculum):
    """Draws tasks whose running mean score has fallen most below their best score.

    A task without an episode is as likely as the most regressed one, the running mean starts at the first
    score, and a share of the episodes is spread evenly. In the original it starts at 0 and an unseen task
    weighs nothing: one early success then takes nearly all episodes, and tasks that never gave a reward
    are not tried again.

    Args:
        names: of the tasks.
        config: the numbers.
    """

    def __init__(self, names: Sequence[str], config: PrioritizeRegressedConfig) -> None:
        super().__init__(names)
        self.config = config
        self._averages, self._best = np.zeros(len(names)), np.zeros(len(names))

    def learn(self, task: int, score: float) -> None:
        """Move the running mean and the best score."""
        score = max(score, 0.0)
        rate = self.config.moving_avg_decay_rate if self.completed[task] > 1 else 1.0
        self._averages[task] += rate * (score - self._averages[task])
        self._best[task] = max(self._best[task], score)

    def probabilities(self) -> np.ndarray:
        """Return the weights, mixed with the even share."""
        weights = low_reward_weights(self._averages, self._best)
        weights[self.completed == 0] = max(1.0, weights.max())
        return mix_with_uniform(weights, self.config.uniform_share)

    def details(self, task: int) -> dict[str, Any]:
        """Return the best score of a task."""
        return {"best_score": round(float(self._best[task]), 4)}

    def rule_state(self) -> dict[str, Any]:
        """Return the running means and the best scores."""
        return {"averages": self._averages.copy(), "best": self._best.copy()}

    def load_rule_state(self, data: dict[str, Any]) -> None:
        """Go on from `rule_state`."""
        self._averages, self._best = np.array(data["averages"]), np.array(data["best"])


class ProgressiveCurriculum(Curriculum):
    """Walks from the first task to the last, as scores are good or simply as time passes.

    Args:
        names: of the tasks, easy ones first.
        config: the numbers.
    """

    def __init__(self, names: Sequence[str], config: ProgressiveConfig) -> None:
        super().__init__(names)
        self.config = config
        self.position = 0.0
        self.smoothed_score = 0.0

    def learn(self, task: int, score: float) -> None:
        """Move on, unless it takes good scores and they are not."""
        score = min(max(score, 0.0), 1.0)
        self.smoothed_score += self.config.smoothing * (score - self.smoothed_score)
        if self.config.progression == "time" or self.smoothed_score >= self.config.threshold:
            self.position = min(1.0, self.position + self.config.rate)

    def probabilities(self) -> np.ndarray:
        """Return the gates at the present position, mixed with the even share."""
        gates = linear_gates if self.config.gate == "linear" else logistic_gates
        weights = gates(self.num_tasks, self.position, self.config.blending)
        return mix_with_uniform(weights, self.config.uniform_share)

    def metrics(self) -> Metrics:
        """Return what there is to log."""
        return super().metrics() | {"curriculum/position": self.position}

    def rule_state(self) -> dict[str, Any]:
        """Return the position and the smoothed score."""
        return {"position": self.position, "smoothed_score": self.smoothed_score}

    def load_rule_state(self, data: dict[str, Any]) -> None:
        """Go on from `rule_state`."""
        self.position, self.smoothed_score = float(data["position"]), float(data["smoothed_score"])
