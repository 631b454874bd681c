"""`metta train` in two processes, as torchrun starts them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from metta_cli.artifacts.checkpoints import list_checkpoints, read_manifest
from metta_cli.tracking.jsonl import read_metrics
from tests.integration.test_distributed import environment_of, free_port

PATIENCE_SECONDS = 180
WORDS = [
    "hardware=local_debug",
    "trainer.checkpoint.checkpoint_interval=1",
    "trainer.simulation.evaluate_interval=0",
    "--progress=none",
    "--run=r",
]


def command(directory, *words):
    return [sys.executable, "-m", "metta_cli", "train", *WORDS, *words, f"--data-dir={directory}"]


def start_two(directory, *words):
    port = free_port()
    return [
        subprocess.Popen(
            command(directory, *words),
            env=environment_of(rank, 2, port) | {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def finish(processes):
    """Return exit code, stdout and stderr of each process."""
    outcomes = []
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        outcomes.append((process.returncode, out, err))
    return outcomes


def wait_for_a_checkpoint(directory, processes):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list_checkpoints(directory / "r" / "checkpoints"):
        assert all(process.poll() is None for process in processes), finish(processes)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_processes_make_one_run_that_one_can_go_on_with(tmp_path):
    words = ["curriculum=navigation/rooms", "trainer.total_timesteps=6144"]
    (code, out, err), other = finish(start_two(tmp_path, *words))
    assert (code, other) == (0, (0, "", "")), err + other[2]
    assert "Trained 6,144 agent steps (3 epochs)" in out  # 2 x 1024 in every epoch
    records = read_metrics(tmp_path / "r" / "metrics.jsonl")
    assert [record["agent_steps"] for record in records] == [2048, 4096, 6144]
    manifest = read_manifest(list_checkpoints(tmp_path / "r" / "checkpoints")[-1].path)
    assert (manifest.epoch, manifest.agent_steps) == (3, 6144)
    alone = subprocess.run(
        command(tmp_path, words[0], "trainer.total_timesteps=7168"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert alone.returncode == 0, alone.stderr
    assert read_metrics(tmp_path / "r" / "metrics.jsonl")[-1]["agent_steps"] == 7168


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_and_saves_all(tmp_path, rank):
    processes = start_two(tmp_path, "env=navigation/simple", "trainer.total_timesteps=1_000_000_000")
    wait_for_a_checkpoint(tmp_path, processes)
    processes[rank].send_signal(signal.SIGTERM)
    (code, _, err), (other, _, _) = finish(processes)
    assert code == 143, err
    assert other in (0, 143)
    assert "go on with: metta train run=r" in err
    epochs = [record["epoch"] for record in read_metrics(tmp_path / "r" / "metrics.jsonl")]
    assert list_checkpoints(tmp_path / "r" / "checkpoints")[-1].epoch == epochs[-1]


def test_a_process_that_dies_ends_the_run_with_the_reason(tmp_path):
    processes = start_two(tmp_path, "env=navigation/simple", "trainer.total_timesteps=1_000_000_000")
    wait_for_a_checkpoint(tmp_path, processes)
    processes[1].kill()
    (code, _, err), _ = finish(processes)
    assert code == 1
    assert "another process of this run has ended or does not answer" in err
    assert list_checkpoints(tmp_path / "r" / "checkpoints")


def test_a_batch_for_all_is_divided(tmp_path):
    words = ["env=navigation/simple", "trainer.scale_batches_by_world_size=true"]
    (code, out, err), _ = finish(start_two(tmp_path, *words, "trainer.total_timesteps=2048"))
    assert code == 0, err
    assert "Trained 2,048 agent steps (2 epochs)" in out  # 2 x 512 in every epoch
