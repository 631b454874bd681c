"""How likely each opponent is to be met, from what is known of the matches so far.

Shape letter: `P` opponents. A win rate counts a draw as half a win, and is the learner's.
"""

from __future__ import annotations

import numpy as np

VANISHED = 1e-10  # weights that sum to less say nothing, and are taken as equal


def prioritized_probabilities(win_rates: np.ndarray, weighting: str, power: float = 2.0) -> np.ndarray:
    """Return the probabilities of prioritised fictitious self-play: `f(x)`, normalised.

        hard            (1 - x) ** power     whoever beats the learner
        linear          1 - x
        squared         (1 - x) ** 2
        linear_capped   min(0.5, 1 - x)      as linear, but nobody is met for being hopelessly strong
        variance        x (1 - x)            whoever is of the learner's own strength

    Where all weights vanish, as when the learner wins every match, all opponents are equally likely.

    Source: Vinyals et al. 2019, "Grandmaster level in StarCraft II using multi-agent reinforcement
        learning", https://doi.org/10.1038/s41586-019-1724-z, methods and released pseudocode.

    Args:
        win_rates: float `[P]` in [0, 1].
        weighting: a name from the table above.
        power: exponent of `hard`.

    Returns:
        float64 `[P]`, summing to 1.

    Raises:
        KeyError: if there is no such weighting.
    """
    rates = np.asarray(win_rates, dtype=np.float64)
    losses = 1.0 - rates
    weights = {
        "hard": losses**power,
        "linear": losses,
        "squared": losses**2,
        "linear_capped": np.minimum(0.5, losses),
        "variance": rates * losses,
    }
    return normalized(weights[weighting])


def quality_probabilities(qualities: np.ndarray) -> np.ndarray:
    """Return the softmax of quality scores `[P]`.

    Source: OpenAI et al. 2019, "Dota 2 with Large Scale Deep Reinforcement Learning",
        https://arxiv.org/abs/1912.06680, appendix N.
    """
    scores = np.asarray(qualities, dtype=np.float64)
    return normalized(np.exp(scores - scores.max()))


def quality_after_win(qualities: np.ndarray, beaten: int, learning_rate: float = 0.01) -> float:
    """Return the quality of an opponent that the learner has just beaten: `q - learning_rate / (P p)`.

    Dividing by the probability `p` of meeting it makes up for how seldom it is met. Other results
    change nothing.

    Source: as `quality_probabilities`.

    Args:
        qualities: float `[P]` of all opponents.
        beaten: index of the one that lost.
        learning_rate: size of the step.
    """
    probability = quality_probabilities(qualities)[beaten]
    return float(qualities[beaten] - learning_rate / (len(qualities) * probability))


def latest_probabilities(num_opponents: int, latest: int) -> np.ndarray:
    """Return equal probabilities for the last `latest` of `P` opponents, and 0 for those before.

    Args:
        num_opponents: `P`, in the order in which they were added.
        latest: at least 1; more than there are means all.
    """
    weights = np.zeros(num_opponents)
    weights[-latest:] = 1.0
    return normalized(weights)


def adaptive_probabilities(win_rates: np.ndarray, target: float, width: float) -> np.ndarray:
    """Return the probabilities of adaptive difficulty: a bell curve in the win rate, around a target.

    Opponents against which the learner wins about as often as wanted are met most. One without games,
    whose win rate counts as 0.5, is tried at once if the target is near that.

    Args:
        win_rates: float `[P]` in [0, 1].
        target: the win rate that is wanted.
        width: standard deviation of the curve, above 0.

    Returns:
        float64 `[P]`, summing to 1.
    """
    distances = (np.asarray(win_rates, dtype=np.float64) - target) / width
    exponents = -0.5 * distances**2
    return normalized(np.exp(exponents - exponents.max()))  # the nearest one counts 1, however far it is


def normalized(weights: np.ndarray) -> np.ndarray:
    """Return weights divided by their sum; equal ones where the sum vanishes.

    Args:
        weights: float `[P]`, not negative, at least one.
    """
    weights = np.asarray(weights, dtype=np.float64)
    total = weights.sum()
    if total < VANISHED:
        return np.full(len(weights), 1.0 / len(weights))
    return np.asarray(weights / total)
