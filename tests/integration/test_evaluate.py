"""`metta eval` below the command line: addresses, suites, checkpoints, files."""

import json
import logging
from dataclasses import replace

import pytest
import torch
import yaml

from metta_cli.artifacts.checkpoints import Architecture, CheckpointManifest, save_checkpoint
from metta_cli.config.catalogue import find_environment
from metta_cli.config.layers import load_config
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import CheckpointError, NotFoundError, StorageError, UnknownNameError
from metta_cli.evaluation.suite import evaluate_policy
from metta_cli.policies.registry import create_policy
from metta_cli.runs import evaluate as evaluate_module
from metta_cli.runs.evaluate import choose_suite, choose_workers, evaluate


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def resolved(*words):
    return load_config(files=[], words=list(words), options={}, environ={})


def save_policy(data_dir, *, run="walker", environment="navigation/simple", **changes):
    spec = find_environment(environment)
    passport = interface_of(build(spec))
    torch.manual_seed(0)
    policy = create_policy("fast", passport, {})
    manifest = CheckpointManifest(
        run=run,
        epoch=3,
        agent_steps=1000,
        architecture=Architecture(name="fast"),
        passport=replace(passport, **changes),
        environment=spec,
    )
    save_checkpoint(data_dir / run / "checkpoints", manifest, policy.state_dict(), None)
    return policy, passport


def test_checkpoint_scores_what_its_policy_scores_in_memory(tmp_path):
    policy, passport = save_policy(tmp_path / "train_dir")
    result = evaluate(
        resolved(), uri="walker:v3", environment="navigation/simple", episodes=4, seed=9, baselines=False
    )
    suite = choose_suite(resolved(), None, "navigation/simple", 4)
    expected = evaluate_policy(policy, passport, suite, seed=9)
    assert result.simulations == expected.simulations
    assert result.provenance["policy"]["checkpoint"] == "walker:v3"
    assert len(result.provenance["policy"]["sha256"]["weights.safetensors"]) == 64
    assert result.saved_to is None
    assert list((tmp_path).iterdir()) == [tmp_path / "train_dir"]


def test_result_files_say_how_to_repeat_the_evaluation(tmp_path):
    result = evaluate(
        resolved(),
        uri="random",
        environment="navigation/simple",
        episodes=3,
        seed=5,
        output_dir="eval_results",
    )
    directory = tmp_path / "eval_results" / "eval_random_navigation_simple"
    assert result.saved_to == str(directory.relative_to(tmp_path) / "evaluation_results.yaml")
    summary = yaml.safe_load((directory / "evaluation_results.yaml").read_text())
    assert summary["seed"] == 5
    assert summary["provenance"]["versions"]["mettagrid"].startswith("0.26")
    assert {"command", "git", "started_at", "policy"} <= set(summary["provenance"])
    environment = summary["simulations"]["navigation/simple"]["environment"]
    assert environment["builder"] == find_environment("navigation/simple").builder
    episodes = json.loads((directory / "evaluation_results.json").read_text())["simulations"][
        "navigation/simple"
    ]["episodes"]
    assert [each["map_seed"] for each in episodes] == [
        each.map_seed for each in result.simulations[0].episodes
    ]
    again = evaluate(
        resolved(), uri="random", environment="navigation/simple", episodes=3, seed=5, num_workers=2
    )
    assert again.simulations == result.simulations


def test_suite_is_played_whole_with_random_and_scripted_beside_it():
    result = evaluate(resolved(), uri="mock://noop", suite="navigation_single", episodes=2)
    assert [each.name for each in result.simulations] == ["navigation/simple", "navigation/intermediate"]
    assert result.baseline_names == ["random", "scripted"]
    assert result.average_simulation_score().mean == 0.0
    assert result.average_simulation_score("scripted").mean > 0.8
    assert result.seed == resolved().config.seed


def test_words_of_the_configuration_reach_the_suite():
    configured = resolved("sim.suite=laser_tag", "sim.suite.env_overrides.max_steps=20")
    suite = choose_suite(configured, "laser_tag", None, None)
    assert suite.simulations["laser_tag/simple"].env_overrides["max_steps"] == 20
    assert choose_suite(configured, None, None, 7).simulations["laser_tag/simple"].num_episodes == 7
    assert (
        choose_suite(resolved(), "laser_tag", None, None).simulations["laser_tag/simple"].env_overrides == {}
    )


def test_environment_of_the_configuration_keeps_its_arguments():
    configured = resolved("env=navigation/simple", "env.args.max_steps=20")
    for suite in (
        choose_suite(configured, None, "navigation/simple", None),
        choose_suite(configured, None, None, 2),
    ):
        (simulation,) = suite.simulations.values()
        assert simulation.env_overrides["max_steps"] == 20
    other = choose_suite(configured, None, "env/mettagrid/laser_tag", None)
    assert list(other.simulations) == ["laser_tag"]


def test_little_work_is_done_without_worker_processes(monkeypatch):
    monkeypatch.setattr("metta_cli.runs.machine.cpu_count", lambda: 2)
    suite = choose_suite(resolved(), "full_eval", None, 100)
    workers = choose_workers(suite, None)
    assert workers["navigation/simple"] == 0
    assert workers["arena/basic_2x8"] == 2
    assert set(choose_workers(suite, 1).values()) == {1}
    assert choose_workers(choose_suite(resolved(), "laser_tag", None, 1), 8) == {"laser_tag/simple": 1}


def test_checkpoint_for_other_names_is_matched_by_name_with_a_warning(tmp_path, caplog):
    save_policy(tmp_path / "train_dir")
    with caplog.at_level(logging.WARNING):
        evaluate(
            resolved("env=laser_tag", "env.args.max_steps=10"),
            uri="train_dir/walker",
            episodes=1,
            baselines=False,
        )
    (record,) = [each for each in caplog.records if "matched by name" in each.message]
    assert record.message.startswith("train_dir/walker is matched by name to laser_tag: actions that are new")


def test_checkpoint_without_a_common_action_is_refused_before_anything_is_written(tmp_path):
    names = find_environment("navigation/simple")
    count = interface_of(build(names)).num_actions
    save_policy(tmp_path / "train_dir", action_names=tuple(f"jump_{n}" for n in range(count)))
    with pytest.raises(CheckpointError, match=r"walker cannot play navigation/simple: .*none of the actions"):
        evaluate(resolved(), uri="walker", environment="navigation/simple", output_dir="out", episodes=1)
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'laser_tag'"):
        evaluate(resolved(), uri="random", suite="lasertag")
    with pytest.raises(UnknownNameError, match="did you mean 'navigation/simple'"):
        evaluate(resolved(), uri="random", environment="navigation/simpel")
    with pytest.raises(UnknownNameError, match="did you mean 'random'"):
        evaluate(resolved(), uri="mock://randm", suite="laser_tag")
    with pytest.raises(NotFoundError):
        evaluate(resolved(), uri="train_dir/nobody", suite="laser_tag")


def test_unwritable_place_is_refused_before_anything_is_played(tmp_path):
    (tmp_path / "out").write_text("a file")
    played = []
    with pytest.raises(StorageError, match="choose another --output-dir"):
        evaluate(
            resolved(),
            uri="random",
            environment="navigation/simple",
            output_dir="out",
            progress=lambda *told: played.append(told),
        )
    assert played == []


def test_result_that_cannot_be_saved_is_logged(tmp_path, monkeypatch, caplog):
    def full_disk(result, directory):
        raise StorageError("the disk is full")

    monkeypatch.setattr(evaluate_module, "save_results", full_disk)
    with pytest.raises(StorageError):
        evaluate(
            resolved(),
            uri="noop",
            environment="navigation/simple",
            episodes=1,
            output_dir="out",
            baselines=False,
        )
    assert "Average simulation score: 0.000" in caplog.text
