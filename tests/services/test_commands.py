"""A policy goes to a service and comes back, by the commands that a person types."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metta_cli.cli.main import main
from metta_cli.cli.process import LOGGERS

from .s3_server import BUCKET, S3Server
from .wandb_server import WandbServer

GAME = [
    "env=laser_tag_small",
    "env.args.max_steps=16",
    "hardware=local_debug",
    "trainer.batch_size=256",
    "trainer.minibatch_size=256",
    "trainer.total_timesteps=256",
    "policy.args.hidden_size=16",
]
FOLDER = f"s3://{BUCKET}/runs"


@pytest.fixture
def metta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Run a command in an empty directory, and return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.handlers) for logger in loggers]

    def run(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main(words)
        out, err = capsys.readouterr()
        assert not exit_info.value.code, err
        return out

    yield run
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.level, logger.handlers = level, handlers


def test_a_policy_on_s3_is_pushed_listed_trained_against_trained_from_and_evaluated(
    metta: Callable[..., str], s3_server: S3Server
) -> None:
    metta("train", *GAME, "run=old", "--progress", "none")
    assert metta("push", FOLDER, "old") == f"{FOLDER}/old:v1\n"
    listed = metta("list-runs", "--source", "s3", "--bucket", FOLDER, "--format", "uris", "--limit", "5")
    uri = listed.splitlines()[0]
    assert uri == f"{FOLDER}/old:latest"
    metta("dual-train", uri, *GAME, "run=new", "--progress", "none")
    metta("train", *GAME, f"policy_uri={uri}", "run=more", "--progress", "none")
    evaluation = ["env=laser_tag_small", "--episodes", "1", "--no-baselines", "--progress", "none"]
    assert uri in metta("eval", uri, *evaluation)
    assert len(s3_server.asked("GET /bucket/runs/old/checkpoints/old%3Av1/weights")) == 1
    (row,) = json.loads(metta("cache", "verify", "--format", "json"))
    assert (row["address"], row["state"]) == (f"{FOLDER}/old/checkpoints/old:v1", "ok")


def test_a_policy_on_wandb_is_pushed_listed_and_trained_against(
    metta: Callable[..., str], wandb_server: WandbServer
) -> None:
    metta("train", *GAME, "run=old", "--progress", "none")
    address = metta("push", "wandb://team/maze", "old")
    assert address == "wandb://team/maze/model/old:v0\n"
    wandb_server.backend.add_run("team", "maze", "old")
    place = ["--source", "wandb", "--entity", "team", "--project", "maze"]
    uri = metta("list-runs", *place, "--format", "uris", "--limit", "5").splitlines()[0]
    assert uri == "wandb://team/maze/model/old:latest"
    metta("dual-train", uri, *GAME, "run=new", "--progress", "none")
    (row,) = json.loads(metta("cache", "verify", "--format", "json"))
    assert row["address"] == "wandb://team/maze/model/old:v0"
