"""Ratings and win rates, against an independent slow reference and closed forms."""

import math

import numpy as np
import pytest
from references.bradley_terry import curvature, ratings_of

from metta_cli.algorithms.ratings import bradley_terry, win_rate, win_rate_interval

SCORES = np.array([[0, 3, 1, 0.5], [7, 0, 4, 2], [9, 6.5, 0, 0], [9.5, 8, 3, 0]])


@pytest.mark.parametrize("anchor", [0, 2])
def test_ratings_are_those_of_the_slow_reference(anchor):
    ratings, _ = bradley_terry(SCORES, anchor, 500.0)
    np.testing.assert_allclose(ratings, ratings_of(SCORES.tolist(), anchor, 500.0), atol=0.01)


def test_the_covariance_is_the_inverse_of_the_curvature():
    ratings, covariance = bradley_terry(SCORES, 0, 500.0)
    slow = np.array(curvature(SCORES.tolist(), ratings.tolist(), 0, 500.0))[1:, 1:]
    np.testing.assert_allclose(covariance[1:, 1:], np.linalg.inv(slow), rtol=1e-3)
    assert not covariance[0].any()
    assert not covariance[:, 0].any()


def test_with_many_games_a_share_of_wins_is_the_elo_formula():
    # 64 % of the points is what Elo expects of 100 points ahead.
    share = 1 / (1 + 10 ** (-100 / 400))
    assert share == pytest.approx(0.640, abs=5e-4)
    ratings, _ = bradley_terry(np.array([[0, (1 - share) * 1e6], [share * 1e6, 0]]))
    assert ratings[1] == pytest.approx(100.0, abs=0.1)


def test_who_has_won_everything_has_a_finite_rating_that_grows_with_the_games():
    few = bradley_terry(np.array([[0, 0], [5, 0]]))[0][1]
    many = bradley_terry(np.array([[0, 0], [5000, 0]]))[0][1]
    assert 0 < few < many < 5000


def test_without_games_a_rating_is_the_prior():
    ratings, covariance = bradley_terry(np.zeros((2, 2)), prior_deviation=300.0)
    np.testing.assert_allclose(ratings, 0.0)
    assert math.sqrt(covariance[1, 1]) == pytest.approx(300.0)


def test_the_anchor_alone_is_rated_zero():
    ratings, covariance = bradley_terry(np.zeros((1, 1)))
    assert ratings.tolist() == [0.0]
    assert covariance.tolist() == [[0.0]]


def test_a_draw_is_half_a_win_and_no_game_is_even():
    assert win_rate(3, 2, 5) == 0.4
    assert win_rate(0, 0, 0) == 0.5


def test_the_interval_is_wilsons():
    # Published example: 81 successes in 263 trials give (0.2553, 0.3662).
    low, high = win_rate_interval(81, 0, 182)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert win_rate_interval(0, 0, 0) == (0.0, 1.0)
    assert win_rate_interval(10, 0, 0)[1] == pytest.approx(1.0)
    assert win_rate_interval(10, 0, 0)[0] == pytest.approx(0.7225, abs=5e-4)


def test_the_interval_holds_the_true_rate_as_often_as_it_says():
    generator = np.random.default_rng(4)
    outcomes = generator.multinomial(30, [0.5, 0.2, 0.3], size=2000)  # wins, draws, losses: rate 0.6
    held = [low <= 0.6 <= high for low, high in (win_rate_interval(*row) for row in outcomes)]
    assert np.mean(held) > 0.94


def test_the_intervals_hold_the_true_ratings_as_often_as_they_say():
    generator = np.random.default_rng(8)
    held = []
    for _ in range(200):
        true = np.concatenate([[0.0], generator.normal(0, 200, 3)])
        chances = 1 / (1 + 10 ** ((true[None, :] - true[:, None]) / 400))
        wins = np.triu(generator.binomial(30, chances), 1)
        games = np.triu(np.full((4, 4), 30), 1)
        ratings, covariance = bradley_terry(wins + (games - wins).T)
        half = 1.96 * np.sqrt(np.diag(covariance))
        held += (np.abs(ratings - true) <= half)[1:].tolist()
    assert 0.92 < np.mean(held) < 0.98
