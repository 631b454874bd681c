"""A league in a real training run: its files, its end by force, and how it goes on."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from metta_cli.artifacts.checkpoints import latest_valid_checkpoint, list_checkpoints
from metta_cli.config.layers import load_config
from metta_cli.errors import NotFoundError
from metta_cli.populations.self_play import SelfPlay
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.league_evaluation import evaluate_league
from metta_cli.runs.league_files import draw_heatmap, read_standings
from metta_cli.runs.train import train
from metta_cli.tracking.jsonl import read_metrics

SMALL = {
    "env": "laser_tag",
    "env.args.agents_per_team": 2,
    "env.args.size": 15,
    "env.args.stations": 2,
    "env.args.max_steps": 25,
    "trainer.batch_size": 512,
    "trainer.minibatch_size": 256,
    "trainer.bptt_horizon": 16,
    "trainer.forward_pass_minibatch_target_size": 32,
    "trainer.num_workers": 0,
    "trainer.simulation.evaluate_interval": 0,
    "trainer.checkpoint.checkpoint_interval": 2,
    "trainer.checkpoint.keep": 2,
    "device": "cpu",
}
SELF_PLAY = {
    "trainer.dual_policy.enabled": True,
    "trainer.dual_policy.mode": "self_play",
    "trainer.dual_policy.assignment": "team",
    "trainer.dual_policy.self_play.snapshot_interval_agent_steps": 512,
    "trainer.dual_policy.self_play.max_snapshots": 3,
}


class Silent:
    def start(self, total_agent_steps, run):
        pass

    def update(self, metrics):
        pass

    def close(self):
        pass


def settings(data_dir, epochs, **more):
    return SMALL | {"run": "sp", "data_dir": str(data_dir), "trainer.total_timesteps": 512 * epochs} | more


def run(options):
    resolved = load_config(files=[], words=[], options=options, environ={})
    return train(resolved, resume=True, progress=Silent())


def saved_league(directory):
    checkpoint, _ = latest_valid_checkpoint(directory.checkpoints)
    return checkpoint.trainer_state["callbacks"]["league"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    run(settings(data_dir, 5, **SELF_PLAY))
    return RunDirectory(data_dir, "sp")


def test_a_run_keeps_its_snapshots_and_says_how_its_league_stands(finished):
    report = json.loads(finished.league_report.read_text())
    assert (report["run"], report["epoch"], report["agent_steps"]) == ("sp", 5, 2560)
    members = [member["id"] for member in report["members"]]
    assert len(members) == 3
    assert (members[0], members[-1]) == ("v0", "v5")
    assert {f"v{info.epoch}" for info in list_checkpoints(finished.league)} >= set(members)
    assert sum(member["probability"] for member in report["members"]) == pytest.approx(1)
    played = sum(entry["wins"] + entry["draws"] + entry["losses"] for entry in report["recent"])
    assert played > 0


def test_the_league_is_logged(finished):
    last = read_metrics(finished.metrics)[-1]
    assert last["league/pool_size"] == 3
    assert last["league/newest_snapshot_epoch"] == 5
    assert last["league/rating_low"] <= last["league/rating"] <= last["league/rating_high"]
    assert 0 <= last["league/win_rate"] <= 1


def test_members_are_evaluated_against_each_other_and_drawn(finished, tmp_path):
    standings = evaluate_league(finished, episodes=2, num_workers=0)
    matrix = standings.matrix()
    assert matrix.rows == ["v0", *(member["id"] for member in standings.members[1:])]
    np.testing.assert_array_equal(matrix.matches, 2 * (1 - np.eye(3)))
    again = read_standings(finished)
    np.testing.assert_array_equal(again.matrix().win_rates, matrix.win_rates)
    rated = {row["player"]: row["rated_by"] for row in again.rows()}
    assert rated["v5"] == "evaluation"
    picture = draw_heatmap(matrix, "sp", tmp_path / "heat.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_chosen_few_are_evaluated(finished):
    standings = evaluate_league(finished, episodes=1, only=["v0", "v5"], num_workers=0)
    assert standings.matrix().columns == ["v0", "v5"]
    with pytest.raises(Exception, match="v99"):
        evaluate_league(finished, episodes=1, only=["v0", "v99"])


def test_the_live_opponent_follows_the_learner(tmp_path, monkeypatch):
    original, followed = SelfPlay.begin_epoch, []

    def watched(self, policy):
        learner = torch.cat([part.flatten() for part in policy.parameters()])
        differs = [bool((_weights(self, "live") != learner).any())]
        original(self, policy)
        followed.append((*differs, bool((_weights(self, "live") == learner).all())))

    monkeypatch.setattr(SelfPlay, "begin_epoch", watched)
    run(settings(tmp_path, 3, **SELF_PLAY))
    assert followed == [(False, True), (True, True), (True, True)]


def _weights(self_play, name):
    return torch.cat([part.flatten() for part in self_play.pool[name].policy.parameters()])


def test_a_killed_run_goes_on_with_the_league_of_its_checkpoint(tmp_path):
    options = settings(tmp_path, 1000, **SELF_PLAY)
    directory = RunDirectory(tmp_path, "sp")
    with start(options) as process:
        try:
            wait_for(lambda: len(list_checkpoints(directory.checkpoints)) >= 2, process)
        finally:
            process.kill()
    before = saved_league(directory)
    checkpoint, _ = latest_valid_checkpoint(directory.checkpoints)
    epoch = checkpoint.manifest.epoch

    run(options | {"trainer.total_timesteps": 512 * (epoch + 2)})
    after = saved_league(directory)
    records = read_metrics(directory.metrics)
    assert records[-1]["epoch"] == epoch + 2
    assert after["snapshot_agent_steps"] == 512 * (epoch + 2)
    kept = {member["id"]: member for member in before["members"]}
    common = [member for member in after["members"] if member["id"] in kept]
    assert common
    for member in common:
        assert member == kept[member["id"]]
        assert matches(after, member["id"]) >= matches(before, member["id"])
    known = {member["id"] for member in after["members"]} | set(after["retired"])
    assert {f"v{info.epoch}" for info in list_checkpoints(directory.league)} == known


def test_what_follows_a_checkpoint_is_the_same_match_by_match(tmp_path):
    run(settings(tmp_path / "a", 2, **SELF_PLAY))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for copy in "ab":
        run(settings(tmp_path / copy, 4, **SELF_PLAY))
    first, second = (saved_league(RunDirectory(tmp_path / copy, "sp")) for copy in "ab")
    for league in (first, second):
        for member in league["members"]:
            member["uri"] = Path(member["uri"]).name
    assert first == second


def test_a_snapshot_that_is_gone_stops_the_run_before_it_goes_on(tmp_path):
    options = settings(tmp_path, 2, **SELF_PLAY)
    run(options)
    directory = RunDirectory(tmp_path, "sp")
    (directory.league / "sp:v0").rename(tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match="sp:v0"):
        run(options | {"trainer.total_timesteps": 512 * 3})


def test_an_ensemble_keeps_its_records_over_sessions(tmp_path):
    ensemble = {
        "trainer.dual_policy.enabled": True,
        "trainer.dual_policy.mode": "ensemble",
        "trainer.dual_policy.opponents": ["random", "mock://noop"],
        "trainer.dual_policy.matchmaking.method": "variance",
    }
    run(settings(tmp_path, 2, **ensemble))
    directory = RunDirectory(tmp_path, "sp")
    before = saved_league(directory)
    assert not directory.league.exists()
    run(settings(tmp_path, 4, **ensemble))
    after = saved_league(directory)
    for name in ("random", "mock://noop"):
        assert 0 < matches(before, name) < matches(after, name)


def matches(league, opponent):
    return sum(
        entry["wins"] + entry["draws"] + entry["losses"]
        for entry in league["phases"]
        if entry["other"] == opponent
    )


def start(options):
    words = [f"{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "metta_cli", "train", "--progress", "none", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
