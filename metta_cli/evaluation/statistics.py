"""Means over episodes, the intervals around them, and the scale that a score is read on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval over episodes.

    Attributes:
        mean: the plain mean.
        low: lower end of the interval; None where it cannot be known (one episode).
        high: upper end of the interval; None together with `low`.
        num_episodes: how many episodes the mean was taken over.
    """

    mean: float
    low: float | None
    high: float | None
    num_episodes: int

    def to_json(self) -> dict[str, float | int | None]:
        """Return the interval as JSON data."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "num_episodes": self.num_episodes}


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of one number per episode, with Student's t interval.

    Not a percentile bootstrap: with 5 or 10 episodes that is too narrow (it held the true mean in 83 %
    and 91 % of draws from a normal distribution, the t interval in 95 %). Where all values are equal
    the interval has no width; that says only that these episodes agreed.

    Args:
        values: one number per episode, at least one.

    Raises:
        ValueError: if there is no value.
    """
    return mean_of_means([values])


def mean_of_means(groups: Sequence[Sequence[float]], weights: Sequence[float] | None = None) -> Interval:
    """Return the weighted mean of the means of several groups of episodes, with its interval.

    The groups (simulations) are taken as given, only their episodes as drawn at random: the variance
    is `sum(w^2 s^2 / n)` and the degrees of freedom are Welch's and Satterthwaite's, rounded down.

    Source: Welch 1947, "The generalization of Student's problem when several different population
        variances are involved", https://doi.org/10.1093/biomet/34.1-2.28

    Args:
        groups: for each simulation, one number per episode, at least one.
        weights: weight of each group, summing to 1; equal weights by default.

    Raises:
        ValueError: if there is no group, or one without values.
    """
    if not groups or any(len(values) == 0 for values in groups):
        raise ValueError("a mean needs at least one value in every group")
    weights = [1.0 / len(groups)] * len(groups) if weights is None else weights
    arrays = [np.asarray(values, dtype=np.float64) for values in groups]
    mean = math.fsum(w * float(x.mean()) for w, x in zip(weights, arrays, strict=True))
    num_episodes = sum(len(x) for x in arrays)
    if any(len(x) < 2 for x in arrays):
        return Interval(mean, None, None, num_episodes)
    parts = [w * w * _sample_variance(x) / len(x) for w, x in zip(weights, arrays, strict=True)]
    variance = math.fsum(parts)
    if variance == 0.0:
        return Interval(mean, mean, mean, num_episodes)
    freedom = variance**2 / math.fsum(v * v / (len(x) - 1) for v, x in zip(parts, arrays, strict=True))
    # A rounding error below a whole number must not cost a degree of freedom.
    half_width = student_t_quantile(max(1, math.floor(freedom + 1e-9))) * math.sqrt(variance)
    return Interval(mean, mean - half_width, mean + half_width, num_episodes)


def _sample_variance(values: np.ndarray) -> float:
    """Return the unbiased variance; exactly 0 for equal values, whatever their mean rounds to."""
    return 0.0 if bool((values == values[0]).all()) else float(values.var(ddof=1))


@lru_cache(maxsize=256)
def student_t_quantile(degrees_of_freedom: int) -> float:
    """Return `t` such that a Student variable is within `[-t, t]` with probability `CONFIDENCE`.

    Found by bisection on the closed form for whole degrees of freedom.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if _probability_within(middle, degrees_of_freedom) < CONFIDENCE:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _probability_within(t: float, degrees_of_freedom: int) -> float:
    angle = math.atan(t / math.sqrt(degrees_of_freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees_of_freedom % 2 == 1
    if degrees_of_freedom == 1:
        return 2 * angle / math.pi
    term = cosine if is_odd else 1.0
    total = term
    for k in range(3 if is_odd else 2, degrees_of_freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


def normalized_score(
    scores: Sequence[float], random_scores: Sequence[float], scripted_scores: Sequence[float]
) -> float | None:
    """Return `(score - random) / (scripted - random)`: 0 plays like random, 1 like the scripted player.

    Meaningful only where the scripted player is better than the random one. That is asked of the
    episodes, which both played from the same seeds: the interval of the paired differences must lie
    above 0. In a zero-sum game such as laser tag, where a population plays itself and gains balance
    losses, it does not, and there is no normalised score.

    Args:
        scores: one score per episode of the policy.
        random_scores: of the random player.
        scripted_scores: of the scripted player, in the same order of episodes as `random_scores`.

    Returns:
        The normalised score, or None where there is no scale.
    """
    if len(random_scores) != len(scripted_scores):
        return None  # one of the two was cut by the time limit: the episodes are not pairs
    gains = mean_interval([s - r for s, r in zip(scripted_scores, random_scores, strict=True)])
    if gains.low is None or gains.low <= 0:
        return None
    return (mean_interval(scores).mean - mean_interval(random_scores).mean) / gains.mean
