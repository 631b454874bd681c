"""The shipped settings learn the shipped navigation, from scratch, as a user would have them do it."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def metta(directory, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "metta_cli", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained_score(directory, environment, episodes, *train):
    metta(directory, "train", *train, "--run", "r", "--progress", "none")
    evaluate = ["eval", "train_dir/r", "--env", environment, "--episodes", str(episodes), "--seed", "5"]
    result = json.loads(metta(directory, *evaluate, "--format", "json", "--progress", "none"))
    simulation = result["simulations"][environment]
    return simulation["score"]["mean"], simulation["baselines"]


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_navigation_simple_is_learned_to_95_percent_of_the_maximum(tmp_path, optimizer):
    train = ["--config", "demo", "--total-timesteps", "1_228_800", f"trainer.optimizer.type={optimizer}"]
    score, _ = trained_score(tmp_path, "navigation/simple", 200, *train)
    assert score >= 0.95 * 3 * 0.333


def test_terrain_small_is_learned_to_half_of_the_scripted_player(tmp_path):
    train = ["env=navigation/terrain_small", "hardware=cpu", "--total-timesteps", "6_000_000"]
    train += ["trainer.simulation.evaluate_interval=0"]
    score, baselines = trained_score(tmp_path, "navigation/terrain_small", 20, *train)
    assert score >= 0.5 * baselines["scripted"]["mean"]
    assert baselines["random"]["mean"] < 0.2 * baselines["scripted"]["mean"]
