"""A player among opponents: scores by hand, splits, and the same result for any number of workers."""

import numpy as np
import pytest

from metta_cli.config.layers import load_config
from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.errors import ConfigError
from metta_cli.evaluation.crossplay import Match
from metta_cli.evaluation.population import Encounter, check_population, splits
from metta_cli.runs.population import evaluate_population


def evaluation(*, episodes=5, **options):
    resolved = load_config(words=["env=laser_tag_small", "env.args.max_steps=40"])
    return evaluate_population(
        resolved, uri="random", environment="laser_tag_small", episodes=episodes, **options
    )


def matches(*returns):
    return tuple(Match("focal", "opponent", mine, other) for mine, other in returns)


def encounter(*returns, num_focal=2, num_agents=4):
    return Encounter("tag", "tag", "random", num_focal, num_agents, matches(*returns))


def test_scores_of_an_encounter_by_hand():
    row = encounter((1.0, 0.0), (0.5, 0.5), (0.0, 2.0), (3.0, 1.0)).to_row()
    assert (row["focal_return"], row["npc_return"], row["margin"]) == (1.125, 0.875, 0.25)
    assert (row["wins"], row["draws"], row["losses"], row["win_rate"]) == (2, 1, 1, 0.625)
    margins = np.array([1.0, 0.0, -2.0, 2.0])
    half = 3.182446305 * margins.std(ddof=1) / 2  # Student's t for 95 % and 3 degrees of freedom
    assert row["margin_high"] - row["margin"] == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(("num_focal", "role"), [(1, "visitor"), (2, "even"), (3, "resident")])
def test_whoever_has_more_agents_is_the_resident(num_focal, role):
    assert encounter((0, 0), num_focal=num_focal).role == role


@pytest.mark.parametrize(("share", "played"), [(0.5, [0.5]), (0.25, [0.75, 0.25]), (0.9, [0.9, 0.1])])
def test_a_share_is_played_with_its_mirror(share, played):
    assert splits(share) == played


def test_every_opponent_and_split_has_its_row():
    result = evaluation(npcs=["noop", "random"], share=0.75, episodes=2)
    found = [(row["npc"], row["focal_agents"], row["num_episodes"]) for row in result.rows()]
    assert found == [("noop", 3, 2), ("noop", 1, 2), ("random", 3, 2), ("random", 1, 2)]
    assert "against noop, 3 of 4 agents (resident)" in result.to_text()
    assert [len(each["episodes"]) for each in result.to_json()["encounters"]] == [2, 2, 2, 2]


def test_the_number_of_workers_changes_no_score():
    alone = evaluation(npcs=["scripted"], assignment="team", num_workers=0)
    apart = evaluation(npcs=["scripted"], assignment="team", num_workers=2)
    assert alone.encounters == apart.encounters
    assert alone.encounters[0].margin.high < 0


def test_the_same_opponent_is_played_once():
    assert len(evaluation(npcs=["noop", "noop"], episodes=1).encounters) == 1


def test_a_result_is_saved_beside_and_not_over_one_without_opponents(tmp_path):
    result = evaluation(npcs=["noop"], episodes=1, output_dir=tmp_path)
    assert result.saved_to == str(tmp_path / "eval_random_laser_tag_small_npc/evaluation_results.yaml")
    assert result.provenance["npcs"] == [{"uri": "noop"}]


@pytest.mark.parametrize(
    ("simulation", "message"),
    [
        ({"env": "navigation/simple"}, "has one agent"),
        ({"env": "laser_tag_small", "max_time_s": 5.0}, "has a time limit"),
    ],
)
def test_what_cannot_be_played_among_others_is_refused_before_it_is_played(simulation, message):
    suite = SimulationSuiteConfig.model_validate({"name": "s", "simulations": {"a": simulation}})
    with pytest.raises(ConfigError, match=message):
        check_population(suite, 0.5, "fraction")
