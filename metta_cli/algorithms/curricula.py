"""Formulas by which curricula choose tasks: functions of arrays with one entry per task."""

from __future__ import annotations

import numpy as np

LOW_REWARD_EPSILON = 1e-6


def reweight(success: np.ndarray, smoothing: float) -> np.ndarray:
    """Return success rates on a scale on which small ones count more.

    `R(p) = p (1 - s) / (p + s (1 - 2 p))`: it keeps 0 and 1, and takes `s` to 1/2.

    Source: Kanitscheider et al. 2021, "Multi-task curriculum learning in a complex, visual, hard-exploration
    domain", section 3.2.

    Args:
        success: `[n]`, in `[0, 1]`.
        smoothing: `s`, in `(0, 1)`.
    """
    rates = np.asarray(success, float)
    scaled: np.ndarray = rates * (1 - smoothing) / (rates + smoothing * (1 - 2 * rates))
    return scaled


def normalized_success(rates: np.ndarray, baselines: np.ndarray) -> np.ndarray:
    """Return how much of what was left to learn has been learned.

    Args:
        rates: `[n]`, success rates in `[0, 1]`.
        baselines: `[n]`, rates before learning, below 1.
    """
    learned: np.ndarray = np.maximum(rates - baselines, 0.0) / (1.0 - baselines)
    return learned


def learning_progress(fast: np.ndarray, slow: np.ndarray, smoothing: float) -> np.ndarray:
    """Return how fast success changes, in either direction: `|R(fast) - R(slow)|`.

    Args:
        fast: `[n]`, a running mean of success.
        slow: `[n]`, a running mean that lags behind it.
        smoothing: of `reweight`.
    """
    change: np.ndarray = np.abs(reweight(fast, smoothing) - reweight(slow, smoothing))
    return change


def learning_progress_distribution(progress: np.ndarray, success: np.ndarray) -> np.ndarray:
    """Return the probabilities of tasks: the sigmoid of the z-score of their learning progress.

    Tasks without progress that never succeeded get none; if that is all of them, they are equally likely.

    Args:
        progress: `[n]`, learning progress, at least 0.
        success: `[n]`, mean success rates.
    """
    counts = (progress > 0) | (success > 0)
    if not counts.any():
        return np.full(len(progress), 1 / len(progress))
    deviation = progress[counts].std()
    scores = (progress[counts] - progress[counts].mean()) / (deviation if deviation > 0 else 1.0)
    weights = np.zeros(len(progress))
    weights[counts] = _sigmoid(scores)
    weights /= weights.sum()
    return weights


def low_reward_weights(averages: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return weights of tasks by how far their score has fallen: `e + best / (average + e)`, `e` = 1e-6.

    Args:
        averages: `[n]`, running means of the scores, at least 0.
        best: `[n]`, the greatest scores so far.
    """
    fallen: np.ndarray = np.asarray(best, float) / (np.asarray(averages, float) + LOW_REWARD_EPSILON)
    return LOW_REWARD_EPSILON + fallen


def logistic_gates(num_tasks: int, progress: float, blending: float) -> np.ndarray:
    """Return weights that walk from the first task to the last; each fades in and out along a logistic curve.

    Args:
        num_tasks: `n`.
        progress: 0 is at the first task, 1 at the last.
        blending: width of the curves, in tasks.
    """
    offsets = np.arange(num_tasks) - progress * (num_tasks - 1)
    steepness = 4 / blending
    weights: np.ndarray = _sigmoid((offsets + 0.5) * steepness) * _sigmoid((0.5 - offsets) * steepness)
    return weights


def linear_gates(num_tasks: int, progress: float, blending: float) -> np.ndarray:
    """Return weights that walk from the first task to the last; each fades in and out along a line.

    Args:
        num_tasks: `n`.
        progress: 0 is at the first task, 1 at the last.
        blending: tasks that are further away than half of one and this have weight 0.
    """
    offsets = np.abs(np.arange(num_tasks) - progress * (num_tasks - 1))
    weights: np.ndarray = np.maximum(0.0, 1 - offsets / (0.5 + blending))
    return weights


def mix_with_uniform(weights: np.ndarray, share: float) -> np.ndarray:
    """Return probabilities: of the weights, but for a share that is spread evenly.

    Args:
        weights: `[n]`, at least 0, not all of them 0.
        share: in `[0, 1]`.
    """
    mixed: np.ndarray = (1 - share) * weights / weights.sum() + share / len(weights)
    return mixed


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    return result
