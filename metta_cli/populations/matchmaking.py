"""Whom the learner meets next, by the method that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metta_cli.algorithms.matchmaking import (
    adaptive_probabilities,
    latest_probabilities,
    normalized,
    prioritized_probabilities,
    quality_probabilities,
)
from metta_cli.config.league import MatchmakingConfig, Method


@dataclass
class Member:
    """Somebody whom the learner may meet.

    Attributes:
        id: what payoffs and metrics call it.
        kind: `opponent` for one that the configuration names, `snapshot` for a copy of the learner.
        uri: where its weights are, or who it is.
        weight: how often it is met, beside the others, by the method weights.
        epoch: epochs of the learner when it was added.
        agent_steps: agent steps of the learner then.
        quality: score of the method quality.
    """

    id: str
    kind: str
    uri: str
    weight: float = 1.0
    epoch: int = 0
    agent_steps: int = 0
    quality: float = 0.0


def match_probabilities(
    method: Method, config: MatchmakingConfig, members: Sequence[Member], win_rates: np.ndarray
) -> np.ndarray:
    """Return how likely each member is to be met next, float64 `[P]`, summing to 1.

    Args:
        method: how to choose.
        config: the numbers that the methods take.
        members: in the order in which they were added, at least one.
        win_rates: float64 `[P]`, of the learner.
    """
    match method:
        case "weights":
            return normalized(np.array([member.weight for member in members]))
        case "uniform":
            return normalized(np.ones(len(members)))
        case "latest":
            return latest_probabilities(len(members), config.latest)
        case "quality":
            return quality_probabilities(np.array([member.quality for member in members]))
        case "adaptive":
            return adaptive_probabilities(win_rates, config.target_win_rate, config.target_width)
        case _:
            return prioritized_probabilities(win_rates, method, config.power)
