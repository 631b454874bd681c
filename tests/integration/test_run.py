"""Whole runs of `metta train` in processes of their own: stopped, killed, damaged, crowded, gone on with."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from metta_cli.artifacts.checkpoints import list_checkpoints, read_checkpoint
from metta_cli.tracking.jsonl import read_metrics

WORDS = ("env=navigation/simple", "hardware=local_debug", "trainer.checkpoint.checkpoint_interval=1")
PATIENCE_SECONDS = 120


def command(directory, *words):
    shared = ["--run", "r", "--data-dir", str(directory), "--progress", "none"]
    return [sys.executable, "-m", "metta_cli", "train", *WORDS, *words, *shared]


def train(directory, *words, **options):
    return subprocess.run(
        command(directory, *words),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        **options,
    )


def start(directory, *words):
    return subprocess.Popen(
        command(directory, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_epochs(directory, process, count):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list_checkpoints(directory / "r" / "checkpoints")) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def epochs(directory):
    return [record["epoch"] for record in read_metrics(directory / "r" / "metrics.jsonl")]


def newest(directory):
    return list_checkpoints(directory / "r" / "checkpoints")[-1]


ENDLESS = "trainer.total_timesteps=1_000_000_000"


def test_a_killed_run_goes_on_where_its_newest_checkpoint_is(tmp_path):
    process = start(tmp_path, ENDLESS)
    wait_for_epochs(tmp_path, process, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    saved = newest(tmp_path).epoch
    done = train(tmp_path, f"trainer.total_timesteps={(saved + 3) * 1024}")
    assert done.returncode == 0, done.stderr
    assert epochs(tmp_path) == list(range(1, saved + 4))
    manifest = read_checkpoint(newest(tmp_path).path).manifest
    assert (manifest.epoch, manifest.agent_steps) == (saved + 3, (saved + 3) * 1024)
    records = read_metrics(tmp_path / "r" / "metrics.jsonl")
    assert [record["agent_steps"] for record in records] == [1024 * epoch for epoch in epochs(tmp_path)]
    # No jump: the policy that goes on is as uncertain as the one that was killed, not a new one.
    before, after = records[saved - 1], records[saved]
    assert abs(before["losses/entropy"] - after["losses/entropy"]) < 0.05


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number, code):
    process = start(tmp_path, ENDLESS, "trainer.checkpoint.checkpoint_interval=1000")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (tmp_path / "r" / "metrics.jsonl").is_file() or not epochs(tmp_path):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert "metta train run=r" in stderr
    assert newest(tmp_path).epoch == epochs(tmp_path)[-1]
    assert (tmp_path / "r" / "learning_curve.png").stat().st_size > 0


def test_a_second_process_is_told_who_trains_the_run(tmp_path):
    process = start(tmp_path, ENDLESS)
    wait_for_epochs(tmp_path, process, 1)
    second = train(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 7
    assert f"process {process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_checkpoint_carries_scores_of_its_own_weights_only(tmp_path):
    done = train(tmp_path, "trainer.total_timesteps=7168", "trainer.simulation.evaluate_interval=5")
    assert done.returncode == 0, done.stderr
    evaluated = [
        info.epoch
        for info in list_checkpoints(tmp_path / "r" / "checkpoints")
        if "avg_simulation_score" in read_checkpoint(info.path).manifest.scores
    ]
    assert evaluated == [5, 7]


def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


def test_a_checkpoint_that_finds_no_room_leaves_the_older_ones_alone(tmp_path):
    assert train(tmp_path, "trainer.total_timesteps=2048").returncode == 0
    saved = newest(tmp_path)
    done = train(tmp_path, "trainer.total_timesteps=4096", preexec_fn=limit_file_size)
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 4
    assert newest(tmp_path) == saved
    assert read_checkpoint(saved.path).manifest.epoch == 2


def damage(info):
    weights = info.path / "weights.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def test_a_damaged_checkpoint_is_skipped_with_its_reason(tmp_path):
    assert train(tmp_path, "trainer.total_timesteps=2048").returncode == 0
    damage(newest(tmp_path))
    done = train(tmp_path, "trainer.total_timesteps=3072")
    assert done.returncode == 0, done.stderr
    assert "r:v2" in done.stderr
    assert newest(tmp_path).epoch == epochs(tmp_path)[-1] == 3


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(tmp_path):
    assert train(tmp_path, "trainer.total_timesteps=2048").returncode == 0
    for info in list_checkpoints(tmp_path / "r" / "checkpoints"):
        damage(info)
    done = train(tmp_path, "trainer.total_timesteps=3072")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert epochs(tmp_path) == [1, 2]


def test_a_checkpoint_of_another_world_shows_how_they_differ(tmp_path):
    assert train(tmp_path, "trainer.total_timesteps=1024").returncode == 0
    shared = ["--data-dir", str(tmp_path), "--progress", "none", "hardware=local_debug"]
    words = ["env=arena/combat_2x4", f"policy_uri={tmp_path / 'r'}", "run=other"]
    done = subprocess.run(
        [sys.executable, "-m", "metta_cli", "train", *words, *shared],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 3
    assert "change_vibe_laser" in done.stderr
    assert "inv:ore_red" in done.stderr
    assert not (tmp_path / "other" / "checkpoints" / "other:v1").exists()


def test_a_run_that_diverges_says_so_and_keeps_its_last_good_checkpoint(tmp_path):
    assert train(tmp_path, "trainer.total_timesteps=2048").returncode == 0
    weights = read_checkpoint(newest(tmp_path).path).weights
    done = train(tmp_path, "trainer.total_timesteps=4096", "trainer.ppo.vf_coef=1e39")
    assert done.returncode == 1
    assert "not finite: the run has diverged" in done.stderr
    assert "Traceback" not in done.stderr
    assert newest(tmp_path).epoch == 2
    kept = read_checkpoint(newest(tmp_path).path).weights
    assert all(part.equal(weights[name]) for name, part in kept.items())
