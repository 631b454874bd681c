"""`metta train wandb=online`, from the command line to the policy that others load."""

import subprocess
import sys

from metta_cli.artifacts.checkpoints import list_checkpoints, read_checkpoint
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.artifacts.wandb_client import list_runs

SMALL = ("env=laser_tag", "hardware=local_debug", "trainer.total_timesteps=5120")
WANDB = (
    "wandb=online", "wandb.entity=team", "wandb.project=maze", "wandb.tags=[night]",
    "trainer.checkpoint.checkpoint_interval=1", "trainer.checkpoint.wandb_checkpoint_interval=2",
)  # fmt: skip


def metta(directory, *words):
    command = [sys.executable, "-m", "metta_cli", *words]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_run_is_on_wandb_with_its_policy_and_others_train_against_it(wandb_server, tmp_path):
    metta(tmp_path, "train", *SMALL, *WANDB, "--run", "r", "--progress", "none")
    [run] = list_runs("team", "maze")
    assert (run["name"], run["state"], run["tags"]) == ("r", "finished", ["night"])
    assert run["metrics"]["agent_steps"] == 5120
    assert [row["epoch"] for row in wandb_server.backend.run("r").history] == [1, 2, 3, 4, 5]
    newest = wandb_server.backend.versions("r")[-1].metadata
    assert (newest["epoch"], newest["environment"]) == (5, "laser_tag")
    saved = list_checkpoints(tmp_path / "train_dir/r/checkpoints")[-1]
    assert load_checkpoint(run["uri"]).manifest == read_checkpoint(saved.path).manifest
    place = ("--source", "wandb", "--entity", "team", "--project", "maze")
    listed = metta(tmp_path, "list-runs", *place, "--format", "uris", "--limit", "5").stdout.splitlines()
    assert listed == ["wandb://team/maze/model/r:latest"]
    trained = metta(tmp_path, "dual-train", listed[0], *SMALL, "run=dual", "--progress", "none")
    assert "Loaded NPC policy from WandB artifact: team/maze/model/r:latest" in trained.stderr
