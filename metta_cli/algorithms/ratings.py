"""How strong players are, from who beat whom, and how sure that is.

Shape letter: `P` players.
"""

from __future__ import annotations

import math

import numpy as np

POINTS_PER_NAT = 400.0 / math.log(10.0)
"""Elo's scale: a player 400 points ahead wins ten of eleven games."""
PRIOR_DEVIATION = 500.0
"""Standard deviation in points of how far a player is from the anchor, before any game is seen."""
QUANTILE_95 = 1.959963984540054

_MAX_NEWTON_STEPS = 100


def win_rate(wins: float, draws: float, losses: float) -> float:
    """Return `(wins + draws / 2) / games`; 0.5 without games."""
    games = wins + draws + losses
    return (wins + 0.5 * draws) / games if games > 0 else 0.5


def win_rate_interval(wins: float, draws: float, losses: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the win rate; (0, 1) without games.

    A draw counts as half a win. An outcome that can be a half varies less than one that is all or
    nothing, so with draws the interval is wider than it need be, never too narrow.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference",
        https://doi.org/10.1080/01621459.1927.10502953
    """
    games = wins + draws + losses
    if games <= 0:
        return 0.0, 1.0
    rate, square = win_rate(wins, draws, losses), QUANTILE_95**2
    middle = (rate + square / (2 * games)) / (1 + square / games)
    half = QUANTILE_95 * math.sqrt(rate * (1 - rate) / games + square / (4 * games**2)) / (1 + square / games)
    return max(0.0, middle - half), min(1.0, middle + half)


def bradley_terry(
    scores: np.ndarray, anchor: int = 0, prior_deviation: float = PRIOR_DEVIATION
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratings that explain all games at once best, and their covariance.

    The model: `i` beats `j` with probability `1 / (1 + 10 ** ((r_j - r_i) / 400))`. The ratings
    maximise likelihood times a normal prior around the anchor, which keeps a player that has won
    everything at a finite distance. The covariance is that of the normal distribution which touches the
    posterior at its maximum. Unlike Elo's running update, the order of the games does not matter.

    Trap: players that no chain of games connects to the anchor stay at 0 with the width of the prior.

    Source: Bradley and Terry 1952, "Rank Analysis of Incomplete Block Designs: I. The Method of Paired
        Comparisons", https://doi.org/10.2307/2334029

    Args:
        scores: float `[P, P]`, `scores[i, j]` the points that `i` made against `j`: wins, and half the
            draws. The diagonal is ignored.
        anchor: the player whose rating is 0 by definition.
        prior_deviation: in points.

    Returns:
        Ratings `[P]` and covariance `[P, P]` in points; row and column of the anchor are 0.
    """
    points = np.array(scores, dtype=np.float64)
    np.fill_diagonal(points, 0.0)
    free = np.arange(len(points)) != anchor
    precision = (POINTS_PER_NAT / prior_deviation) ** 2
    strengths = np.zeros(len(points))
    for _ in range(_MAX_NEWTON_STEPS):
        gradient, curvature = _slopes(points, strengths, precision)
        step = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        strengths[free] += np.clip(step, -1.0, 1.0)  # far from the maximum a whole step may overshoot
        if not step.size or np.abs(step).max() < 1e-10:
            break
    covariance = np.zeros_like(points)
    curvature = _slopes(points, strengths, precision)[1]
    covariance[np.ix_(free, free)] = np.linalg.inv(curvature[np.ix_(free, free)])
    return strengths * POINTS_PER_NAT, covariance * POINTS_PER_NAT**2


def _slopes(points: np.ndarray, strengths: np.ndarray, precision: float) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient `[P]` and negative Hessian `[P, P]` of the log posterior."""
    expected = 1.0 / (1.0 + np.exp(strengths[None, :] - strengths[:, None]))
    games = points + points.T
    gradient = (points - games * expected).sum(axis=1) - precision * strengths
    weights = games * expected * expected.T
    curvature = np.diag(weights.sum(axis=1) + precision) - weights
    return gradient, curvature
