"""`metta eval`."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

SHORT = ["--env", "navigation/simple", "--episodes", "2", "--workers", "0"]


def test_the_result_has_the_form_of_the_documentation(metta):
    outcome = metta("eval", "random", *SHORT, "--progress", "none")
    lines = outcome.out.splitlines()
    saved = Path("eval_results/eval_random_navigation_simple/evaluation_results.yaml")
    assert outcome.code == 0
    assert lines[:2] == ["Evaluation Results:", "=" * 50]
    assert lines[2].startswith("Average simulation score: ")
    assert lines[3].startswith("Average category score: ")
    assert lines[5] == "Detailed scores:"
    assert lines[7] == "navigation:"
    assert lines[8].startswith("  simple: ")
    assert lines[-1] == f"Results saved to: {saved}"
    assert set(yaml.safe_load(saved.read_text())["simulation_scores"]) == {"navigation/simple"}
    assert outcome.err == ""


def test_stdout_is_json_and_nothing_else_in_a_pipe(metta_process):
    outcome = metta_process("eval", "scripted", *SHORT, "--format", "json", "--output-dir", "here")
    data = json.loads(outcome.out)
    assert data["avg_simulation_score"] > 0.9
    assert "scripted" in outcome.err
    assert "\033" not in outcome.err
    assert list(Path("here").iterdir()) == [Path("here/eval_scripted_navigation_simple")]


def test_words_and_options_say_the_same_and_may_stand_anywhere(metta):
    quiet = ["--progress", "none", "--no-baselines", "--format", "json"]
    by_option = metta("eval", "random", *SHORT, "--seed", "5", *quiet)
    by_word = metta("eval", "sim.episodes=2", "env=navigation/simple", *quiet, "random", "seed=5")
    by_configuration = metta(
        "eval", "policy_uri=random", "env=navigation/simple", *SHORT, "--seed", "5", *quiet
    )
    first, *others = (json.loads(outcome.out) for outcome in (by_option, by_word, by_configuration))
    assert first["seed"] == 5
    for other in others:
        assert (
            other["simulations"]["navigation/simple"]["episodes"]
            == (first["simulations"]["navigation/simple"]["episodes"])
        )


def test_a_suite_can_be_named_by_option_and_by_the_words_of_old(metta):
    quiet = ["--episodes", "1", "--progress", "none", "--no-baselines", "--format", "json"]
    by_option = json.loads(metta("eval", "noop", "--suite", "memory", *quiet).out)
    by_word = json.loads(metta("eval", "noop", "sim_job.simulation_suite.name=memory", *quiet).out)
    assert by_option["suite"] == by_word["suite"] == "memory"
    assert by_option["simulation_scores"] == by_word["simulation_scores"]


def test_the_table_can_be_written_as_csv_beside_the_results(metta):
    outcome = metta("eval", "random", *SHORT, "--no-baselines", "-o", "scores.csv", "--progress", "none")
    (row,) = csv.DictReader(io.StringIO(Path("scores.csv").read_text()))
    assert (row["simulation"], row["player"], row["num_episodes"]) == ("navigation/simple", "policy", "2")
    assert outcome.out == ""


def test_baselines_are_left_out_on_request(metta):
    quiet = ["--progress", "none", "--format", "json"]
    data = json.loads(metta("eval", "random", *SHORT, "--no-baselines", *quiet).out)
    assert data["simulations"]["navigation/simple"]["baselines"] == {}


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        ("", 2, "nothing says what to evaluate", "metta eval train_dir/RUN"),
        ("navigation", 2, "'navigation' is no policy", "did you mean --suite navigation?"),
        ("random --suite navgation", 2, "unknown suite 'navgation'", "'navigation'"),
        ("random --env laser_tga", 2, "unknown environment 'laser_tga'", "'laser_tag'"),
        ("random --env laser_tag --suite memory", 2, "--suite and --env exclude each other", ""),
        ("random seed = 3", 2, "one policy is evaluated at a time", "without blanks"),
        ("nosuch", 5, "there is no run or checkpoint 'nosuch'", ""),
        ("s4://bucket/x", 2, "s4", ""),
        ("random --episodes 0", 2, "--episodes", ""),
        ("a" * 300, 2, "is not the address of a checkpoint", ""),
        (f"pytorch://{'a' * 300}.pt", 2, "is not the address of a checkpoint", ""),
    ],
)
def test_a_mistake_is_told_in_two_lines_and_writes_nothing(metta, words, code, message, hint):
    outcome = metta("eval", *words.split())
    first, *rest = outcome.err.splitlines()
    assert outcome.code == code
    assert outcome.out == ""
    assert first.startswith("error: ")
    assert message in first
    assert len(rest) <= 1
    assert hint in "".join(rest)
    assert not Path("eval_results").exists()


def test_a_run_of_the_data_directory_gets_its_closest_name(metta):
    Path("train_dir/first/checkpoints").mkdir(parents=True)
    outcome = metta("eval", "frist")
    assert outcome.code == 5
    assert "did you mean 'first'?" in outcome.err
