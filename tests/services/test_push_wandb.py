"""`metta push` to W&B: what `runs.push` adds to the adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from metta_cli.artifacts.checkpoints import save_checkpoint
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.errors import UsageError
from metta_cli.runs.push import push
from metta_cli.testing.loaders import example_checkpoint

from .wandb_server import WandbServer


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    checkpoint = example_checkpoint("walker", 3)
    save_checkpoint(tmp_path / "runs/walker/checkpoints", checkpoint.manifest, checkpoint.weights)
    return tmp_path / "runs"


def test_a_project_is_enough_the_run_gives_the_name(wandb_server: WandbServer, data_dir: Path) -> None:
    address = push("wandb://team/maze", "walker", data_dir=data_dir)
    assert address == "wandb://team/maze/model/walker:v0"
    assert load_checkpoint(address).manifest.name == "walker:v3"


def test_a_name_and_an_alias_may_be_given(wandb_server: WandbServer, data_dir: Path) -> None:
    assert push("wandb://team/maze/model/other:best", "walker:v3", data_dir=data_dir).endswith("/other:v0")
    assert load_checkpoint("wandb://team/maze/model/other:best").manifest.name == "walker:v3"


def test_wandb_counts_versions_itself(wandb_server: WandbServer, data_dir: Path) -> None:
    with pytest.raises(UsageError, match="counts versions itself"):
        push("wandb://team/maze/model/walker:v7", "walker", data_dir=data_dir)
