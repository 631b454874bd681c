"""`metta train wandb=online`, from the command line to the policy that others load."""

import subprocess
import sys

from metta_cli.artifacts.checkpoints import list_checkpoints, read_checkpoint
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.artifacts.wandb_client import list_runs

WORDS = (
    "env=navigation/simple", "hardware=local_debug", "trainer.checkpoint.checkpoint_interval=1",
    "trainer.checkpoint.wandb_checkpoint_interval=2", "trainer.total_timesteps=5120", "wandb=online",
    "wandb.entity=team", "wandb.project=maze", "wandb.tags=[night]",
)  # fmt: skip


def test_a_run_is_on_wandb_with_its_policy(wandb_server, tmp_path):
    words = [*WORDS, "--run", "r", "--data-dir", str(tmp_path), "--progress", "none"]
    command = [sys.executable, "-m", "metta_cli", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    [run] = list_runs("team", "maze")
    assert (run["name"], run["state"], run["tags"]) == ("r", "finished", ["night"])
    assert run["score"] == run["metrics"]["episode/recent_return_mean"]
    assert [row["epoch"] for row in wandb_server.backend.run("r").history] == [1, 2, 3, 4, 5]
    newest = wandb_server.backend.versions("r")[-1].metadata
    assert (newest["epoch"], newest["environment"]) == (5, "navigation/simple")
    saved = list_checkpoints(tmp_path / "r/checkpoints")[-1]
    assert load_checkpoint(run["uri"]).manifest == read_checkpoint(saved.path).manifest
