import math

import numpy as np
import pytest

from metta_cli.evaluation.statistics import (
    Interval,
    mean_interval,
    mean_of_means,
    normalized_score,
    student_t_quantile,
)

# Two-sided 95 % quantiles as printed in textbook tables.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 19: 2.093, 30: 2.042}
TABLE |= {60: 2.000, 99: 1.984, 120: 1.980, 999: 1.962}


@pytest.mark.parametrize(("freedom", "quantile"), TABLE.items())
def test_student_quantile_equals_the_printed_table(freedom, quantile):
    assert student_t_quantile(freedom) == pytest.approx(quantile, abs=6e-4)


def test_student_quantile_equals_integration_of_the_density():
    for freedom in (3, 8):
        end = student_t_quantile(freedom)
        x = np.linspace(-end, end, 200_001)
        constant = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
        density = constant * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
        assert np.trapezoid(density, x) == pytest.approx(0.95, abs=1e-8)


def test_interval_of_five_values_equals_the_hand_computed_one():
    # mean 3, s = sqrt(2.5), standard error sqrt(0.5), t(4) = 2.7764451
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3.0
    assert interval.high - 3.0 == pytest.approx(2.7764451 * math.sqrt(0.5), abs=1e-6)
    assert 3.0 - interval.low == pytest.approx(2.7764451 * math.sqrt(0.5), abs=1e-6)
    assert interval.num_episodes == 5


def test_one_episode_has_a_mean_but_no_interval():
    assert mean_interval([0.25]) == Interval(0.25, None, None, 1)


def test_equal_values_have_an_interval_without_width():
    # the mean of ten times 0.1 is not exactly 0.1: the variance must still be 0
    assert mean_interval([0.1] * 10) == Interval(
        pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1), 10
    )
    assert mean_interval([0.1] * 10).low == mean_interval([0.1] * 10).high


def test_no_value_is_an_error():
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])
    with pytest.raises(ValueError, match="at least one value"):
        mean_of_means([[1.0], []])


def test_mean_of_means_does_not_weigh_simulations_by_their_episodes():
    assert mean_of_means([[0.0] * 90, [1.0] * 10]).mean == 0.5


def test_mean_of_two_groups_has_welch_interval():
    # Welch's test statistic for (a + b) / 2: s_a^2 = 1, s_b^2 = 4, n = 3 each.
    interval = mean_of_means([[1, 2, 3], [2, 4, 6]])
    parts = [0.25 * 1 / 3, 0.25 * 4 / 3]
    freedom = sum(parts) ** 2 / sum(v**2 / 2 for v in parts)  # 2.94, rounded down to 2
    assert 2 < freedom < 3
    assert interval.mean == 3.0
    assert interval.high - 3.0 == pytest.approx(4.3026527 * math.sqrt(sum(parts)), abs=1e-6)


def test_equal_groups_keep_whole_degrees_of_freedom():
    # two groups of equal variance and 5 episodes: Welch gives exactly 8
    interval = mean_of_means([[1, 2, 3, 4, 5], [11, 12, 13, 14, 15]])
    assert interval.high - interval.mean == pytest.approx(2.3060041 * math.sqrt(0.25), abs=1e-6)


def test_weights_make_the_mean_of_category_means():
    groups = [[1.0, 1.0], [3.0, 3.0], [10.0, 10.0]]
    assert mean_of_means(groups, [0.25, 0.25, 0.5]).mean == 6.0


def test_interval_holds_the_true_mean_in_95_percent_of_draws():
    draws = np.random.default_rng(0).normal(2.0, 3.0, size=(2000, 6))
    intervals = [mean_interval(row) for row in draws]
    share = np.mean([i.low <= 2.0 <= i.high for i in intervals])
    assert 0.935 < share < 0.965


def test_normalized_score_is_0_for_random_and_1_for_scripted():
    random, scripted = [0.0, 0.5, 0.1], [9.0, 9.5, 10.0]
    assert normalized_score(random, random, scripted) == 0.0
    assert normalized_score(scripted, random, scripted) == pytest.approx(1.0)
    assert normalized_score([4.6, 5.1, 5.05], random, scripted) == pytest.approx((14.75 - 0.6) / (28.5 - 0.6))


def test_normalized_score_needs_a_scripted_player_that_beats_random():
    assert normalized_score([0.1, 0.2], [0.125, 0.125], [0.025, 0.125]) is None  # worse
    assert normalized_score([1.0, 2.0], [0.0, 0.0], [0.1, 5.0]) is None  # not clearly better
    assert normalized_score([1.0], [0.0], [5.0]) is None  # one episode shows nothing
    assert normalized_score([0.5, 0.5], [0.0, 0.0], [1.0, 1.0]) == 0.5


def test_normalized_score_pairs_the_episodes():
    # maps differ far more than players do: only the pairs show that scripted is better
    random = [0.0, 10.0, 20.0, 30.0]
    scripted = [1.0, 11.1, 20.9, 31.0]
    assert normalized_score(random, random, scripted) == 0.0
