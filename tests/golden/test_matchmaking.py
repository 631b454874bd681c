"""Probabilities of meeting opponents, against numbers worked out by hand."""

import numpy as np
import pytest

from metta_cli.algorithms.matchmaking import (
    adaptive_probabilities,
    latest_probabilities,
    prioritized_probabilities,
    quality_after_win,
    quality_probabilities,
)

RATES = np.array([0.9, 0.7, 0.5, 0.1])


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("hard", [0.01, 0.09, 0.25, 0.81]),
        ("squared", [0.01, 0.09, 0.25, 0.81]),
        ("linear", [0.1, 0.3, 0.5, 0.9]),
        ("linear_capped", [0.1, 0.3, 0.5, 0.5]),
        ("variance", [0.09, 0.21, 0.25, 0.09]),
    ],
)
def test_prioritized_probabilities_are_in_proportion_to_the_function_of_the_win_rate(weighting, expected):
    found = prioritized_probabilities(RATES, weighting)
    np.testing.assert_allclose(found, np.array(expected) / sum(expected))


@pytest.mark.parametrize(
    ("weighting", "power", "expected"),
    [
        ("hard", 2.0, [0.0086, 0.0776, 0.2155, 0.6983]),
        ("hard", 1.0, [0.0556, 0.1667, 0.2778, 0.5]),
        ("variance", 2.0, [0.1406, 0.3281, 0.3906, 0.1406]),
    ],
)
def test_worked_numbers(weighting, power, expected):
    np.testing.assert_allclose(prioritized_probabilities(RATES, weighting, power), expected, atol=5e-5)


@pytest.mark.parametrize("weighting", ["hard", "squared", "linear", "linear_capped", "variance"])
def test_who_always_wins_meets_all_opponents_alike(weighting):
    found = prioritized_probabilities(np.ones(4), weighting)
    np.testing.assert_array_equal(found, np.full(4, 0.25))


def test_an_opponent_that_is_always_beaten_is_not_met_while_another_is_not():
    found = prioritized_probabilities(np.array([1.0, 0.5]), "hard")
    np.testing.assert_array_equal(found, [0.0, 1.0])


def test_an_unknown_weighting_is_refused():
    with pytest.raises(KeyError):
        prioritized_probabilities(RATES, "soft")


def test_a_beaten_opponent_loses_quality_in_inverse_proportion_to_how_often_it_is_met():
    assert quality_after_win(np.zeros(3), 0) == pytest.approx(-0.01)
    qualities = np.array([0.0, np.log(2.0)])  # met with probabilities 1/3 and 2/3
    np.testing.assert_allclose(quality_probabilities(qualities), [1 / 3, 2 / 3])
    assert quality_after_win(qualities, 0, 0.1) == pytest.approx(-0.1 / (2 / 3))
    assert quality_after_win(qualities, 1, 0.1) == pytest.approx(np.log(2.0) - 0.1 / (4 / 3))


def test_quality_probabilities_survive_large_scores():
    np.testing.assert_allclose(quality_probabilities(np.array([1e4, 1e4])), [0.5, 0.5])


@pytest.mark.parametrize(("latest", "expected"), [(2, [0, 0, 0.5, 0.5]), (9, [0.25] * 4), (1, [0, 0, 0, 1])])
def test_only_the_latest_are_met(latest, expected):
    np.testing.assert_allclose(latest_probabilities(4, latest), expected)


def test_adaptive_difficulty_prefers_the_target_and_is_even_around_it():
    found = adaptive_probabilities(np.array([0.3, 0.5, 0.7]), target=0.5, width=0.1)
    np.testing.assert_allclose(found, np.array([np.exp(-2), 1, np.exp(-2)]) / (1 + 2 * np.exp(-2)))


def test_adaptive_difficulty_takes_the_nearest_where_all_are_far():
    found = adaptive_probabilities(np.array([0.0, 0.1]), target=1.0, width=0.01)
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-12)
    found = adaptive_probabilities(np.array([0.2, 0.9]), target=0.8, width=0.1)
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-6)
