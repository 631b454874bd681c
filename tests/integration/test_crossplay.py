"""Fixed players against each other in the real simulator."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from metta_cli.config.catalogue import find_environment
from metta_cli.errors import ConfigError
from metta_cli.evaluation.crossplay import play_matches, round_robin
from metta_cli.populations.opponents import OpponentSource
from metta_cli.runs.opponents import load_opponent


def arena(**args):
    spec = find_environment("laser_tag")
    small = {"agents_per_team": 2, "size": 15, "max_steps": 60, "stations": 2}
    return spec.model_copy(update={"args": {**spec.args, **small, **args}})


def players(*names):
    return {name: load_opponent(name, torch.device("cpu"), data_dir=Path()) for name in names}


def play(schedule, spec=None, names=("random", "noop", "scripted"), **changes):
    options = {"share": 0.5, "assignment": "team", "seed": 3} | changes
    return play_matches(spec or arena(), players(*names), schedule, **options)


def test_everybody_meets_everybody_as_often_and_from_both_sides():
    schedule = round_robin(["a", "b", "c"], 4)
    assert len(schedule) == 12
    assert all(schedule.count(pair) == 2 for pair in set(schedule))
    assert set(schedule) == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")}
    assert sorted(round_robin(["a", "b"], 3)) == [("a", "b"), ("b", "a"), ("b", "a")]


def test_matches_come_in_the_order_of_the_schedule_and_are_the_same_for_any_number_of_workers():
    schedule = round_robin(["random", "noop", "scripted"], 4)
    matches = play(schedule)
    assert [(match.first, match.second) for match in matches] == schedule
    assert play(schedule, num_workers=2) == matches
    assert play(schedule, seed=4) != matches


def test_the_one_that_does_nothing_loses_to_the_scripted_player():
    returns = [
        (match.first_return - match.second_return) * (1 if match.first == "scripted" else -1)
        for match in play(round_robin(["noop", "scripted"], 10), arena(max_steps=300))
    ]
    assert np.mean(returns) > 0


class Recorder:
    """Does nothing, and writes down which rows it was asked for and which of them began an episode."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def act(self, turn, rows):
        self.log.append((self.name, rows.copy(), turn.episode_starts.copy()))
        return np.zeros(len(rows), np.int64)


def test_every_agent_is_played_by_one_of_the_pair_and_told_when_its_episode_begins():
    log = []
    sources = {
        name: OpponentSource(name, lambda interface, num_rows, name=name: Recorder(name, log))
        for name in "ab"
    }
    schedule = round_robin(["a", "b"], 80)  # 32 slots at most, so that slots play several episodes
    play_matches(arena(max_steps=5), sources, schedule, share=0.5, assignment="team", seed=0)
    steps = list(zip(log[::2], log[1::2], strict=True))
    num_rows = len(steps[0][0][1]) + len(steps[0][1][1])
    for (_, mine, _), (_, others, _) in steps:
        assert sorted([*mine, *others]) == list(range(num_rows))
        assert len(mine) == len(others) == num_rows // 2
    starts = np.array([mine[2].all() and others[2].all() for mine, others in steps])
    np.testing.assert_array_equal(np.flatnonzero(starts), np.arange(0, len(steps), 5))
    assert any((before[0][1] != after[0][1]).any() for before, after in pairwise(steps))


def test_a_share_gives_the_first_of_a_pair_so_many_agents():
    log = []
    sources = {
        name: OpponentSource(name, lambda interface, num_rows, name=name: Recorder(name, log))
        for name in "ab"
    }
    play_matches(arena(max_steps=2), sources, [("a", "b")] * 4, share=0.75, assignment="fraction", seed=0)
    assert [(name, len(rows)) for name, rows, _ in log[:2]] == [("a", 12), ("b", 4)]


def test_teams_are_asked_for_where_there_are_teams():
    with pytest.raises(ConfigError, match="teams"):
        play([("random", "noop")], find_environment("navigation/simple"))
