"""The payoff table, and ratings out of it."""

import numpy as np
import pytest

from metta_cli.populations.payoff import PayoffTable
from metta_cli.populations.ratings import rate_players, rating_difference


def table_of(matches, decay=1.0):
    table = PayoffTable(decay)
    for match in matches:
        table.add(*match)
    return table


def test_the_higher_mean_return_wins_and_equal_ones_draw():
    table = table_of([("a", "b", 2, 1), ("a", "b", 1, 1), ("a", "b", 0, 1), ("a", "b", 5, 1)])
    record = table.between("a", "b")
    assert (record.wins, record.draws, record.losses) == (2, 1, 1)
    assert record.win_rate == 2.5 / 4
    assert record.mean_returns == (2.0, 1.0)


def test_who_has_not_met_wins_half():
    table = table_of([("a", "b", 2, 1)])
    np.testing.assert_array_equal(table.win_rates("a", ["b", "c"]), [1.0, 0.5])
    assert table.between("a", "c").mean_returns is None


def test_decay_shrinks_everything_that_came_before():
    table = table_of([("a", "b", 2, 1)] * 3 + [("a", "b", 0, 1)], decay=0.9)
    record = table.between("a", "b")
    assert record.wins == pytest.approx(0.9 + 0.9**2 + 0.9**3)
    assert record.losses == 1
    assert record.own_return == pytest.approx(2 * (0.9 + 0.9**2 + 0.9**3))
    assert record.matches < 4


def test_decay_forgets_only_the_pair_that_meets():
    table = table_of([("a", "b", 2, 1), ("a", "c", 2, 1), ("a", "c", 2, 1)], decay=0.5)
    assert table.between("a", "b").wins == 1
    assert table.between("a", "c").wins == 1.5


def test_a_table_survives_json():
    table = table_of([("a", "b", 2, 1), ("b", "c", 1, 1)], decay=0.9)
    again = PayoffTable.from_json(table.to_json(), 0.9)
    assert again.records == table.records
    again.add("a", "b", 0, 1)
    table.add("a", "b", 0, 1)
    assert again.records == table.records


def test_points_count_a_pair_from_both_sides():
    table = table_of([("a", "b", 2, 1), ("b", "a", 2, 1), ("b", "a", 1, 1)])
    np.testing.assert_array_equal(table.points(["a", "b"]), [[0, 1.5], [1.5, 0]])


def test_who_is_forgotten_leaves_no_record():
    table = table_of([("a", "b", 2, 1), ("b", "c", 1, 1), ("a", "c", 1, 1)])
    table.forget("b")
    assert list(table.records) == [("a", "c")]


def test_the_stronger_player_is_rated_higher_and_more_matches_narrow_the_interval():
    few = rate_players(table_of([("a", "b", 1, 0)] * 6 + [("a", "b", 0, 1)] * 2), ["b", "a"], "b")
    many = rate_players(table_of([("a", "b", 1, 0)] * 60 + [("a", "b", 0, 1)] * 20), ["b", "a"], "b")
    assert (few["b"].value, few["b"].low, few["b"].high) == (0, 0, 0)
    assert many["a"].low > few["a"].low
    assert many["a"].high - many["a"].low < few["a"].high - few["a"].low
    # 3 of 4 points are 400 log10(3) = 190.8 points ahead; the prior takes a little of it.
    assert many["a"].value == pytest.approx(190.8, abs=6)


def test_the_difference_of_two_players_is_surer_than_their_distances_to_the_anchor():
    matches = [("anchor", "a", 1, 0), ("anchor", "a", 0, 1)] + [("a", "b", 1, 0), ("a", "b", 0, 1)] * 50
    table, players = table_of(matches), ["anchor", "a", "b"]
    ratings = rate_players(table, players, "anchor")
    difference = rating_difference(table, players, "anchor", "a", "b")
    assert difference.value == pytest.approx(ratings["a"].value - ratings["b"].value)
    assert difference.high - difference.low < 0.5 * (ratings["a"].high - ratings["a"].low)
