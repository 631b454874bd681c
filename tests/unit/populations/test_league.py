"""Whom the learner meets, and what the league remembers."""

import json

import numpy as np
import pytest

from metta_cli.config.league import LeagueConfig
from metta_cli.populations.league import League
from metta_cli.populations.matchmaking import Member
from metta_cli.populations.opponents import MatchResult

ANY = np.random.default_rng(0)


def league_of(*names, **config):
    config = LeagueConfig(opponents=list(names), **config)
    return League(config, [Member(name, "opponent", name) for name in names])


def play(league, opponent, *outcomes):
    for outcome in outcomes:
        league.record(MatchResult(opponent, outcome, 1 - outcome))


def met(league, num=4000):
    generator = np.random.default_rng(5)
    chosen = [league.choose(generator) for _ in range(num)]
    return {name: chosen.count(name) / num for name in dict.fromkeys(chosen)}


def snapshot(epoch, agent_steps=None):
    return Member(
        f"v{epoch}",
        "snapshot",
        "",
        epoch=epoch,
        agent_steps=100 * epoch if agent_steps is None else agent_steps,
    )


def test_an_ensemble_is_met_by_its_weights():
    config = LeagueConfig(mode="ensemble", opponents=[{"uri": "a", "weight": 3}, "b"])
    league = League(config, [Member(each.id, "opponent", each.uri, each.weight) for each in config.opponents])
    assert met(league)["a"] == pytest.approx(0.75, abs=0.03)
    play(league, "a", *[1] * 50)
    assert met(league)["a"] == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("method", "preferred"),
    [("hard", "strong"), ("adaptive", "even"), ("variance", "even"), ("latest", "weak")],
)
def test_results_change_whom_the_learner_meets(method, preferred):
    league = league_of("strong", "even", "weak", mode="ensemble", matchmaking={"method": method, "latest": 1})
    assert met(league, 3)  # what was drawn before the results does not linger
    play(league, "strong", *[0] * 40)
    play(league, "even", *[0, 1] * 20)
    play(league, "weak", *[1] * 40)
    shares = met(league)
    assert max(shares, key=shares.get) == preferred


def test_a_quality_falls_with_every_win_and_only_then():
    league = league_of("a", "b", mode="ensemble", matchmaking={"method": "quality"})
    play(league, "a", 0, 0.5)
    assert [member.quality for member in league.members] == [0, 0]
    play(league, "a", 1)
    assert league.members[0].quality == pytest.approx(-0.01)
    league.add_snapshot(snapshot(3))
    assert league.members[-1].quality == 0  # the highest of all


def test_a_curriculum_goes_on_once_its_opponent_is_beaten_often_enough():
    league = league_of("weak", "strong", mode="curriculum", curriculum={"win_rate": 0.75, "matches": 4})
    play(league, "weak", 1, 1, 1)
    assert league.choose(ANY) == "weak"  # too few matches
    play(league, "weak", 0)
    assert league.choose(ANY) == "strong"
    play(league, "weak", 1, 1, 1, 1)  # episodes that had begun before
    assert not league.outcomes
    play(league, "strong", *[1] * 9)
    assert league.choose(ANY) == "strong"  # nobody is left


def test_a_curriculum_looks_at_the_last_matches_only():
    league = league_of("weak", "strong", mode="curriculum", curriculum={"win_rate": 1.0, "matches": 3})
    play(league, "weak", 0, 0, 1, 1)
    assert league.stage == 0
    play(league, "weak", 1)
    assert league.stage == 1


def test_self_play_meets_the_present_and_the_past_by_shares():
    league = league_of(mode="self_play", self_play={"live_share": 0.25}, matchmaking={"method": "uniform"})
    league.add_snapshot(snapshot(0))
    league.add_snapshot(snapshot(5))
    shares = met(league)
    assert shares["live"] == pytest.approx(0.25, abs=0.03)
    assert shares["v0"] == pytest.approx(0.375, abs=0.03)


def test_matches_against_the_present_open_no_gate_and_rate_nobody():
    league = league_of(mode="self_play", self_play={"gate_matches": 2})
    league.add_snapshot(snapshot(0))
    play(league, "live", 1, 1)
    assert not league.has_won(0.5)
    assert "live" not in league.ratings()
    assert league.recent.between("learner", "live").wins == pytest.approx(1.99)
    play(league, "v0", 1, 0)
    assert league.has_won(0.5)
    league.add_snapshot(snapshot(3))
    assert not league.has_won(0.5)


def test_the_learner_after_each_snapshot_is_a_player_of_its_own():
    league = league_of(mode="self_play")
    league.add_snapshot(snapshot(0))
    play(league, "v0", *[0] * 20)
    league.add_snapshot(snapshot(3))
    play(league, "v0", *[1] * 20)
    ratings = league.ratings()
    assert ratings["learner@v0"].high < 0 < ratings["learner@v3"].low
    assert league.metrics()["league/rating"] == ratings["learner@v3"].value


def test_a_snapshot_that_made_room_is_forgotten_even_if_it_is_still_playing():
    league = league_of(mode="self_play")
    for epoch in (0, 3, 6):
        league.add_snapshot(snapshot(epoch))
        for past in league.ids:
            play(league, past, 1)
    league.retire(league.members[1], epoch=6)
    play(league, "v3", 1)
    assert league.ids == ["v0", "v6"]
    assert league.retired == {"v3": 6}
    known = json.dumps(league.report())
    assert '"v3"' not in known
    assert "learner@v3" not in known


def test_a_league_goes_on_as_if_it_had_never_stopped():
    def new():
        return league_of("a", mode="self_play", matchmaking={"method": "quality"})

    league = new()
    for epoch in (0, 3, 6):
        league.add_snapshot(snapshot(epoch))
        play(league, "a", 1, 0, 0.5)
        play(league, f"v{epoch}", 1, 1)
    league.retire(league.members[2], epoch=6)
    again = new()
    again.load_state_dict(json.loads(json.dumps(league.state_dict())))
    assert again.state_dict() == league.state_dict()
    for each in (league, again):
        play(each, "v6", 1, 0)
        each.add_snapshot(snapshot(9))
    assert again.state_dict() == league.state_dict()
    assert again.report() == league.report()
    assert met(again, 200) == met(league, 200)


def test_a_curriculum_goes_on_where_it_was():
    league = league_of("a", "b", "c", mode="curriculum", curriculum={"matches": 2})
    play(league, "a", 1, 1)
    play(league, "b", 1)
    again = league_of("a", "b", "c", mode="curriculum", curriculum={"matches": 2})
    again.load_state_dict(league.state_dict())
    assert again.choose(ANY) == "b"
    play(again, "b", 1)
    assert again.choose(ANY) == "c"


def test_opponents_are_those_that_the_configuration_names_now():
    league = league_of("a", "b", mode="ensemble")
    play(league, "b", 1)
    again = league_of("b", "c", mode="ensemble")
    again.load_state_dict(league.state_dict())
    assert again.ids == ["b", "c"]
    assert again.recent.between("learner", "b").wins == 1
