"""Tracking with the real client: what reaches the server, and what happens when it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from metta_cli.artifacts.checkpoints import Checkpoint, save_checkpoint
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.artifacts.wandb_client import list_runs
from metta_cli.testing.loaders import example_checkpoint

from .wandb_server import Fault, WandbServer

# Trains from one epoch to another: logs, saves, offers, and deletes what it saved.
TRACK = """
import os, shutil, signal, sys
from pathlib import Path
from metta_cli.config.schema import WandbConfig
from metta_cli.errors import MettaError
from metta_cli.tracking import wandb as module

directory, first, last, fault = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
is_short = fault in ("hang", "pause", "no upload")
module.INIT_TIMEOUT_SECONDS = 3.0 if fault == "no start" else 60.0
module.FINISH_TIMEOUT_SECONDS = 2.0 if is_short else 60.0
module.LAST_UPLOAD_TIMEOUT_SECONDS = 2.0 if is_short else 60.0
module.TEARDOWN_TIMEOUT_SECONDS = 1.0 if is_short else 60.0

def service_process():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        if name == "wandb-core" and int(rest.split()[1]) == os.getpid():
            return int(stat.parent.name)

config = WandbConfig(mode="online", entity="team", project="maze", tags=["a", "b"], group="g", notes="n")
try:
    tracker = module.WandbTracker(
        config, run="walker", directory=directory, run_config={"seed": 1}, upload_interval=2
    )
except MettaError as error:
    sys.exit(f"{type(error).__name__}: {error}")
for epoch in range(first, last + 1):
    if fault == "kill" and epoch == first + 1:
        pid = service_process()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if fault == "hang" and epoch == first + 1:
        pid = service_process()
        os.kill(pid, signal.SIGSTOP)
        print(pid, flush=True)
    if fault == "pause" and epoch == first + 1:
        print("paused", flush=True)
        sys.stdin.readline()
    extra = {f"losses/extra_{i}": i * epoch / 7 for i in range(60 if fault == "hang" else 0)}
    tracker.log({"losses/entropy": 1 / epoch, **extra}, agent_steps=100 * epoch, epoch=epoch)
    if epoch > 7:
        continue
    path = Path(shutil.copytree(directory / f"saved/walker:v{epoch}", directory / f"walker:v{epoch}"))
    tracker.save_checkpoint(path, epoch=epoch, metadata={"epoch": epoch}, is_last=epoch == 7)
    shutil.rmtree(path)
tracker.close()
print("trained to the end")
"""


def start(directory: Path, first: int, last: int, fault: str = "none") -> subprocess.Popen[str]:
    for epoch in range(first, min(last, 7) + 1):
        checkpoint = example_checkpoint("walker", epoch)
        save_checkpoint(directory / "saved", checkpoint.manifest, checkpoint.weights)
    words = [sys.executable, "-c", TRACK, str(directory), str(first), str(last), fault]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def track(directory: Path, first: int, last: int, fault: str = "none") -> tuple[str, str]:
    return start(directory, first, last, fault).communicate(timeout=120)


def test_metrics_and_checkpoints_reach_the_run_and_a_resumed_one_goes_on(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    out, err = track(tmp_path / "walker", 1, 5)
    assert out == "trained to the end\n", err
    run = wandb_server.backend.run("walker")
    assert (run.entity, run.project, run.state, run.tags) == ("team", "maze", "finished", ["a", "b"])
    assert (run.settings["groupName"], run.settings["notes"]) == ("g", "n")
    assert run.id.startswith("walker-")
    assert run.config["seed"] == {"value": 1}
    assert [row["agent_steps"] for row in run.history] == [100, 200, 300, 400, 500]
    assert [artifact.metadata for artifact in wandb_server.backend.versions("walker")] == [
        {"epoch": 2},
        {"epoch": 4},
    ]
    out, err = track(tmp_path / "walker", 6, 7)
    assert out == "trained to the end\n", err
    assert wandb_server.backend.run("walker").id == run.id
    assert [row["agent_steps"] for row in run.history] == [100, 200, 300, 400, 500, 600, 700]
    versions = wandb_server.backend.versions("walker")
    assert [artifact.metadata["epoch"] for artifact in versions] == [2, 4, 6, 7]
    assert [artifact.type for artifact in versions] == ["model"] * 4
    assert versions[0].aliases == ["epoch-2"]
    assert set(versions[-1].aliases) == {"latest", "epoch-7"}
    assert list(tmp_path.glob("walker/wandb/uploads/*")) == []
    [listed] = list_runs("team", "maze")
    loaded = load_checkpoint(listed["uri"])
    assert isinstance(loaded, Checkpoint)
    assert loaded.manifest.epoch == 7


def test_a_killed_service_process_costs_warnings_and_no_training(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    out, err = track(tmp_path / "walker", 1, 5, "kill")
    assert out == "trained to the end\n"
    assert err.count("W&B gets no more metrics") == 1
    assert "Traceback" not in err


def test_a_service_process_that_hangs_costs_a_bounded_time_at_the_end(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    process = start(tmp_path / "walker", 1, 300, "hang")
    assert process.stdout is not None
    service = int(process.stdout.readline())
    try:
        process.wait(timeout=90)
    finally:
        os.kill(service, signal.SIGKILL)  # until then it holds the pipes open
        process.kill()
        out, err = process.communicate()
    assert out == "trained to the end\n"
    assert "W&B has not got everything (its service process takes nothing)" in err
    assert "Traceback" not in err


def test_a_server_that_goes_away_costs_a_bounded_time_at_the_end(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    process = start(tmp_path / "walker", 1, 5, "pause")
    assert process.stdout is not None
    assert process.stdout.readline() == "paused\n"
    wandb_server.stop()
    out, err = process.communicate("go on\n", timeout=60)
    assert out == "trained to the end\n"
    assert "W&B has not got everything" in err
    assert "Traceback" not in err


def test_uploads_that_fail_cost_one_warning(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults = [Fault("graphql:CreateArtifact", 403)]
    out, err = track(tmp_path / "walker", 1, 5)
    assert out == "trained to the end\n"
    assert err.count("was not uploaded to W&B") == 1, err
    assert len(wandb_server.backend.run("walker").history) == 5


def test_uploads_that_hang_are_left_behind_at_the_end(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults = [Fault("/storage/artifact", delay_seconds=600)]
    out, err = track(tmp_path / "walker", 1, 5, "no upload")
    assert out == "trained to the end\n"
    assert (
        "the last upload to W&B was not through after 2 s; later send a checkpoint with `metta push`" in err
    )


def test_without_a_server_at_the_start_the_metrics_are_kept(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    wandb_server.stop()
    out, err = track(tmp_path / "walker", 1, 5)
    assert out == "trained to the end\n"
    assert err.count("cannot be reached: ") == 1
    assert "send them later with `wandb sync`" in err
    [written] = tmp_path.glob("walker/wandb/offline-run-*-walker-*/run-walker-*.wandb")
    assert b"losses/entropy" in written.read_bytes()


def test_a_server_that_fails_at_the_start_is_not_waited_for(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    wandb_server.faults = [Fault("graphql:UpsertBucket", 500)]
    out, err = track(tmp_path / "walker", 1, 2, "no start")
    assert out == "trained to the end\n", err
    assert "send them later with `wandb sync`" in err
    assert list(tmp_path.glob("walker/wandb/offline-run-*-walker-*"))


def test_a_key_that_does_not_work_stops_the_run_before_it_starts(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    wandb_server.api_keys = set()
    out, err = track(tmp_path / "walker", 1, 2)
    assert out == ""
    assert err.strip().splitlines()[-1].startswith("AccessError: W&B wants an API key")
