import csv
import json
from dataclasses import replace

import pytest
import yaml

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.errors import StorageError
from metta_cli.evaluation.files import results_directory, save_results, to_csv
from metta_cli.evaluation.outcomes import mean_stats
from metta_cli.evaluation.results import EpisodeResult, SimulationResult, SuiteResult

SPEC = EnvironmentSpec(name="laser_tag", builder="laser_tag", args={"per_team": 1})


def episode(number, returns, *, teams=None, team_stats=None):
    teams = (0,) * len(returns) if teams is None else teams
    return EpisodeResult(
        episode=number,
        map_seed=100 + number,
        simulation_seed=200 + number,
        num_steps=50,
        agent_returns=tuple(returns),
        teams=tuple(teams),
        game_stats={"attack.hit": 2.0 * number},
        agent_stats={"heart.gained": float(number)},
        team_stats=team_stats or {team: {"heart.gained": float(number)} for team in teams},
        truncated=True,
    )


def simulation(name, scores, **baselines):
    played = {key: tuple(episode(i, [s]) for i, s in enumerate(values)) for key, values in baselines.items()}
    episodes = tuple(episode(i, [s]) for i, s in enumerate(scores))
    return SimulationResult(name, SPEC, len(scores), episodes, played)


def suite(*simulations, uri="train_dir/metta_7-23/metta.pt"):
    return SuiteResult("full_eval", uri, 7, simulations, {"versions": {"mettagrid": "0.26.22"}})


NAVIGATION = (
    simulation("navigation/simple", [1.0, 0.8], random=[0.0, 0.0], scripted=[1.0, 1.0]),
    simulation("navigation/terrain_small", [4.0, 4.0], random=[1.0, 0.5], scripted=[9.0, 9.5]),
)
LASER_TAG = simulation("laser_tag/simple", [0.1, 0.3], random=[0.125, 0.125], scripted=[0.0, 0.0])


def test_score_of_an_episode_is_the_mean_return_of_its_agents():
    assert episode(0, [1.0, 0.0, 0.5, 0.5]).score == 0.5


def test_team_scores_follow_the_team_of_each_agent_not_its_place():
    result = episode(0, [1.0, 2.0, 3.0, 5.0], teams=(1, 0, 1, 0))
    assert result.team_scores == {0: 3.5, 1: 2.0}


def test_missing_statistic_counts_as_zero():
    assert mean_stats([{"a": 4.0}, {"a": 2.0, "b": 9.0}, {}]) == {"a": 2.0, "b": 3.0}


def test_category_is_the_exact_name_before_the_first_slash():
    categories = suite(
        simulation("cylinder", [1.0]),
        simulation("cylinder_easy/a", [2.0]),
        simulation("cylinder/b/c", [3.0]),
    ).categories
    assert {name: [each.name for each in group] for name, group in categories.items()} == {
        "cylinder": ["cylinder", "cylinder/b/c"],
        "cylinder_easy": ["cylinder_easy/a"],
    }
    assert simulation("cylinder/b/c", [3.0]).short_name == "b/c"
    assert simulation("cylinder", [3.0]).short_name == "cylinder"


def test_averages_are_plain_means_of_simulations_and_of_categories():
    result = suite(*NAVIGATION, LASER_TAG)
    assert result.average_simulation_score().mean == pytest.approx((0.9 + 4.0 + 0.2) / 3)
    assert {name: score.mean for name, score in result.category_scores.items()} == {
        "navigation": pytest.approx(2.45),
        "laser_tag": pytest.approx(0.2),
    }
    assert result.average_category_score().mean == pytest.approx((2.45 + 0.2) / 2)
    assert result.average_category_score("scripted").mean == pytest.approx(((1.0 + 9.25) / 2 + 0.0) / 2)


def test_more_episodes_give_a_simulation_no_more_weight():
    result = suite(simulation("a/x", [0.0] * 8), simulation("a/y", [1.0, 1.0]))
    assert result.category_scores["a"].mean == 0.5
    assert result.average_simulation_score().mean == 0.5


def test_logged_scores_carry_category_and_simulation():
    assert suite(*NAVIGATION).scores() == {
        "avg_category_score": pytest.approx(2.45),
        "avg_simulation_score": pytest.approx(2.45),
        "eval_navigation/score": pytest.approx(2.45),
        "eval_navigation/simple": pytest.approx(0.9),
        "eval_navigation/terrain_small": pytest.approx(4.0),
    }


def test_normalized_score_needs_both_baselines_and_a_scale():
    assert NAVIGATION[0].normalized_score == pytest.approx(0.9)
    assert LASER_TAG.normalized_score is None
    assert simulation("a/x", [1.0, 1.0], random=[0.0, 0.0]).normalized_score is None


def test_text_has_the_documented_form():
    text = suite(*NAVIGATION, LASER_TAG).to_text()
    lines = text.splitlines()
    assert lines[:2] == ["Evaluation Results:", "=" * 50]
    assert lines[2].startswith("Average simulation score: 1.700   [")
    assert lines[2].endswith("random 0.292   scripted 3.417")
    assert lines[3].startswith("Average category score: 1.325   [")
    assert lines[4:7] == ["", "Detailed scores:", ""]
    assert lines[7] == "navigation:"
    assert lines[8] == (
        "  simple: 0.900          [-0.371, 2.171]   random 0.000   scripted 1.000   normalised 0.90"
    )
    assert lines[9].startswith("  terrain_small: 4.000   [4.000, 4.000]   random 0.750   scripted 9.250")
    assert lines[10].startswith("  category score: 2.450   [")
    assert lines[12] == "laser_tag:"
    assert lines[13].startswith("  simple: 0.200 ")
    assert lines[13].endswith("normalised -")
    assert "there is no scale" in text
    assert text.isascii()


def test_text_names_the_file_once_it_is_saved(tmp_path):
    saved = save_results(suite(LASER_TAG), tmp_path)
    path = tmp_path / "evaluation_results.yaml"
    assert saved.to_text().splitlines()[-1] == f"Results saved to: {path}"
    assert "Results saved" not in suite(LASER_TAG).to_text()


def test_text_shows_each_team_with_its_hits_and_hearts():
    stats = {0: {"attack.hit": 12.0, "cell.visited": 3.0}, 1: {"heart.gained": 1.0}}
    episodes = tuple(episode(i, [2.0, -1.0], teams=(0, 1), team_stats=stats) for i in range(2))
    text = suite(SimulationResult("laser_tag/simple", SPEC, 2, episodes)).to_text()
    assert "    team 0: 2.000   [2.000, 2.000]   attack.hit 12.00\n" in text
    assert "    team 1: -1.000   [-1.000, -1.000]   heart.gained 1.00\n" in text


def test_agents_of_one_team_get_no_team_lines():
    assert NAVIGATION[0].team_scores() == {}


def test_cut_simulation_is_marked_in_text_and_data():
    cut = replace(NAVIGATION[0], num_episodes=5)
    assert not cut.is_complete
    assert "navigation/simple was cut by max_time_s: of 5 episodes, policy 2" in suite(cut).to_text()
    assert suite(cut).to_json()["simulations"]["navigation/simple"]["is_complete"] is False
    assert NAVIGATION[0].is_complete


def test_one_episode_is_shown_without_an_interval():
    assert "  simple: 0.500   [-, -]" in suite(simulation("a/simple", [0.5])).to_text()


def test_json_holds_every_episode_with_its_seeds():
    data = json.loads(json.dumps(suite(*NAVIGATION).to_json()))
    first, second = data["simulations"]["navigation/simple"]["episodes"]
    assert (first["map_seed"], first["simulation_seed"], first["score"]) == (100, 200, 1.0)
    assert second["episode"] == 1
    assert data["simulations"]["navigation/simple"]["agent_stats"] == {"heart.gained": 0.5}
    assert data["simulations"]["navigation/simple"]["game_stats"] == {"attack.hit": 1.0}
    assert data["simulations"]["navigation/simple"]["environment"]["args"] == {"per_team": 1}
    assert data["avg_simulation_score"] == pytest.approx(2.45)
    assert data["intervals"]["avg_simulation_score"]["num_episodes"] == 4
    assert data["provenance"] == {"versions": {"mettagrid": "0.26.22"}}


def test_table_has_a_row_for_every_player_and_team():
    teams = tuple(episode(i, [2.0, -1.0], teams=(0, 1)) for i in range(2))
    result = suite(SimulationResult("laser_tag/simple", SPEC, 2, teams, {"random": teams}))
    rows = result.rows()
    assert [(row["player"], row["team"], row["score"]) for row in rows] == [
        ("policy", None, 0.5),
        ("policy", 0, 2.0),
        ("policy", 1, -1.0),
        ("random", None, 0.5),
        ("random", 0, 2.0),
        ("random", 1, -1.0),
    ]
    assert {row["environment"] for row in rows} == {"laser_tag"}


def test_saved_files_hold_the_same_scores(tmp_path):
    result = save_results(suite(*NAVIGATION), tmp_path / "new" / "directory")
    directory = tmp_path / "new" / "directory"
    assert sorted(path.name for path in directory.iterdir()) == [
        "evaluation_results.csv",
        "evaluation_results.json",
        "evaluation_results.yaml",
    ]
    summary = yaml.safe_load((directory / "evaluation_results.yaml").read_text())
    full = json.loads((directory / "evaluation_results.json").read_text())
    assert summary["simulation_scores"] == full["simulation_scores"]
    assert "episodes" not in summary["simulations"]["navigation/simple"]
    with open(directory / "evaluation_results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows if row["player"] == "policy"] == [0.9, 4.0]
    assert rows[0]["normalized_score"] == "0.9"
    assert rows[1]["normalized_score"] == ""
    assert result.saved_to == str(directory / "evaluation_results.yaml")


def test_csv_of_a_result_starts_with_its_header():
    assert to_csv(suite(LASER_TAG)).splitlines()[0].startswith("policy_uri,suite,category,simulation,")


def test_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        save_results(suite(LASER_TAG), tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("uri", "directory"),
    [
        ("train_dir/metta_7-23/metta.pt", "eval_metta_laser_tag"),
        ("pytorch://train_dir/metta_7-23/metta.pt", "eval_metta_laser_tag"),
        ("file://./train_dir/my.run", "eval_my.run_laser_tag"),
        ("train_dir/my_run/", "eval_my_run_laser_tag"),
        ("train_dir/my_run:v12", "eval_my_run_v12_laser_tag"),
        ("random", "eval_random_laser_tag"),
        ("mock://random", "eval_random_laser_tag"),
    ],
)
def test_results_directory_is_named_after_policy_and_suite(tmp_path, uri, directory):
    assert results_directory(tmp_path, uri, "laser_tag") == tmp_path / directory


def test_environment_name_makes_one_directory(tmp_path):
    assert results_directory(tmp_path, "random", "navigation/simple").name == "eval_random_navigation_simple"
