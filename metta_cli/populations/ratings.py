"""Ratings with intervals, out of a payoff table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metta_cli.algorithms.ratings import QUANTILE_95, bradley_terry
from metta_cli.populations.payoff import PayoffTable


@dataclass(frozen=True)
class Rating:
    """How strong a player is, in Elo's points ahead of the anchor.

    Attributes:
        value: the most likely rating; 400 more win ten of eleven matches.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def rate_players(table: PayoffTable, players: Sequence[str], anchor: str) -> dict[str, Rating]:
    """Rate players by all matches among them; the anchor has 0 points by definition.

    The interval of a rating is that of its distance to the anchor. For other pairs see
    `rating_difference`.

    Args:
        table: the matches, without decay.
        players: whom to rate; matches with anybody else do not count.
        anchor: one of them.
    """
    names = list(players)
    values, covariance = bradley_terry(table.points(names), names.index(anchor))
    return {
        name: _rating(float(values[index]), float(covariance[index, index]))
        for index, name in enumerate(names)
    }


def rating_difference(
    table: PayoffTable, players: Sequence[str], anchor: str, better: str, worse: str
) -> Rating:
    """Return by how many points one player is ahead of another, with the interval of that."""
    names = list(players)
    values, covariance = bradley_terry(table.points(names), names.index(anchor))
    i, j = names.index(better), names.index(worse)
    variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
    return _rating(float(values[i] - values[j]), float(variance))


def _rating(value: float, variance: float) -> Rating:
    half = QUANTILE_95 * math.sqrt(max(0.0, variance))
    return Rating(value, value - half, value + half)
