"""`wandb://` addresses, from the server to the policy."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from metta_cli.artifacts.cache import default_root
from metta_cli.artifacts.checkpoints import Checkpoint, save_checkpoint
from metta_cli.artifacts.loaders import ForeignFile, load_checkpoint
from metta_cli.artifacts.wandb_client import list_runs, push_to_wandb
from metta_cli.artifacts.wandb_references import parse_reference
from metta_cli.cli.main import main
from metta_cli.errors import CheckpointError, MettaError, UsageError
from metta_cli.testing.loaders import LoaderContract, example_checkpoint
from metta_plugins.loaders.wandb import WandbLoader

from .wandb_server import TAMPER, Fault, WandbServer


def files_of(checkpoint: Checkpoint, directory: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint that is saved, read and deleted."""
    path = save_checkpoint(directory, checkpoint.manifest, checkpoint.weights, checkpoint.trainer_state)
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    shutil.rmtree(path)
    return files


class TestWandbLoader(LoaderContract):
    @pytest.fixture(autouse=True)
    def _server(self, wandb_server: WandbServer) -> None:
        self.server = wandb_server

    def make_loader(self) -> WandbLoader:
        return WandbLoader()

    def store(self, checkpoint: Checkpoint, directory: Path) -> str:
        self.server.backend.add_artifact("team", "maze", "example", files_of(checkpoint, directory))
        return "wandb://team/maze/model/example:latest"

    def missing_uri(self, directory: Path) -> str:
        self.server.backend.add_artifact("team", "maze", "example", {"a": b""})
        return "wandb://team/maze/model/missing"


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("wandb://team/maze/model/walker:latest", ("team", "maze", "model", "walker", "latest")),
        ("wandb://team/maze/dataset/walker:v3", ("team", "maze", "dataset", "walker", "v3")),
        ("wandb://team/maze/walker", ("team", "maze", None, "walker", "latest")),
        ("wandb://team/maze/walker:epoch-12", ("team", "maze", None, "walker", "epoch-12")),
        ("wandb://run/walker", (None, None, "model", "walker", "latest")),
        ("wandb://run/walker:v7", (None, None, "model", "walker", "v7")),
        ("wandb://sweep/walker:best", (None, None, "sweep_model", "walker", "best")),
        ("wandb://team/maze/model/a.b_c-07-24:v0", ("team", "maze", "model", "a.b_c-07-24", "v0")),
    ],
)
def test_every_form_of_an_address_is_understood(uri: str, parts: tuple[str | None, ...]) -> None:
    assert tuple(vars(parse_reference(uri)).values()) == parts


@pytest.mark.parametrize(
    "uri",
    ["wandb://walker", "wandb://a/b/c/d/e", "wandb://team//walker", "wandb://t/p/a b",
     "wandb://t/p/n:a:b", "wandb://t/p/../n"],
)  # fmt: skip
def test_another_form_is_refused_with_those_that_there_are(uri: str) -> None:
    with pytest.raises(UsageError, match="wandb://run/NAME"):
        parse_reference(uri)


def test_a_project_is_no_checkpoint(wandb_server: WandbServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wandb://team/maze names no artifact \(write wandb://ENTITY"):
        load_checkpoint("wandb://team/maze")
    with pytest.raises(UsageError, match="names no artifact"):
        push_to_wandb(tmp_path, "wandb://team/maze")


def test_latest_is_what_is_latest_now(wandb_server: WandbServer, tmp_path: Path) -> None:
    add = wandb_server.backend.add_artifact
    add("team", "maze", "walker", files_of(example_checkpoint(epoch=1), tmp_path))
    assert load_checkpoint("wandb://team/maze/walker").manifest.epoch == 1
    add("team", "maze", "walker", files_of(example_checkpoint(epoch=2), tmp_path))
    assert load_checkpoint("wandb://team/maze/walker").manifest.epoch == 2
    assert load_checkpoint("wandb://team/maze/walker:v0").manifest.epoch == 1
    downloads = [request for request in wandb_server.requests if request.startswith("/storage/artifact")]
    assert len(downloads) == len(set(downloads))  # v0 came out of the cache


def test_a_file_of_another_tool_is_found_and_not_opened(wandb_server: WandbServer) -> None:
    wandb_server.backend.add_artifact("tester", "metta", "walker", {"model.pt": b"weights", "log.txt": b""})
    found = load_checkpoint("wandb://run/walker:v0")
    assert isinstance(found, ForeignFile)
    assert (found.path.name, found.path.read_bytes()) == ("model.pt", b"weights")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.pt": b"1", "b.pt": b"2"}, r"holds 2 files of weights: a\.pt, b\.pt \(.*called model\.pt"),
        ({"log.txt": b"1"}, r"holds neither a checkpoint nor a file of weights, but log\.txt"),
        ({"a/COMPLETE": b"1", "b/COMPLETE": b"1"}, "holds several checkpoints"),
        ({"manifest.json": b"{}", "weights.safetensors": b"1"}, "without its COMPLETE file"),
    ],
)
def test_an_artifact_that_is_no_checkpoint_is_told_so(
    wandb_server: WandbServer, files: dict[str, bytes], message: str
) -> None:
    wandb_server.backend.add_artifact("team", "maze", "walker", files)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint("wandb://team/maze/walker")
    assert not [request for request in wandb_server.requests if request.startswith("/storage/artifact")]


def test_a_damaged_download_leaves_nothing_in_the_cache(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.backend.add_artifact("team", "maze", "walker", files_of(example_checkpoint(), tmp_path))
    wandb_server.faults = [Fault("/storage/artifact", TAMPER)]
    with pytest.raises(CheckpointError, match=r"team/maze/model/walker:v0 is damaged"):
        load_checkpoint("wandb://team/maze/walker")
    assert [path for path in default_root().iterdir() if path.suffix != ".lock"] == []
    wandb_server.faults = []
    assert load_checkpoint("wandb://team/maze/walker").manifest.run == "example"


def test_a_damaged_cache_is_noticed(
    wandb_server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wandb_server.backend.add_artifact("team", "maze", "walker", {"model.pt": b"weights"})
    found = load_checkpoint("wandb://team/maze/walker")
    found.path.write_bytes(b"weighty")
    with caplog.at_level(logging.WARNING):
        found = load_checkpoint("wandb://team/maze/walker")
    assert found.path.read_bytes() == b"weights"
    assert "is damaged and is downloaded again" in caplog.text


def test_a_checkpoint_that_is_pushed_can_be_loaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    checkpoint = example_checkpoint(epoch=5)
    manifest = checkpoint.manifest.model_copy(update={"scores": {"avg_simulation_score": 0.5}})
    path = save_checkpoint(tmp_path, manifest, checkpoint.weights)
    assert push_to_wandb(path, "wandb://team/maze/model/walker") == "wandb://team/maze/model/walker:v0"
    # The same again is no new version, but gets the alias.
    assert (
        push_to_wandb(path, "wandb://team/maze/model/walker:champion") == "wandb://team/maze/model/walker:v0"
    )
    loaded = load_checkpoint("wandb://team/maze/walker:champion")
    assert isinstance(loaded, Checkpoint)
    assert torch.equal(loaded.weights["layer.weight"], checkpoint.weights["layer.weight"])
    [stored] = wandb_server.backend.versions("walker")
    assert stored.metadata == {
        "run": "example",
        "epoch": 5,
        "agent_steps": 5000,
        "environment": "example",
        "architecture": "fast",
        "scores": {"avg_simulation_score": 0.5},
    }
    [listed] = list_runs("team", "maze")  # once, although it took two uploads
    assert (listed["uri"], listed["score"]) == ("wandb://team/maze/model/walker:latest", 0.5)


def test_what_is_damaged_or_numbered_is_not_pushed(wandb_server: WandbServer, tmp_path: Path) -> None:
    checkpoint = example_checkpoint()
    path = save_checkpoint(tmp_path, checkpoint.manifest, checkpoint.weights)
    with pytest.raises(UsageError, match="W&B counts versions itself"):
        push_to_wandb(path, "wandb://team/maze/walker:v3")
    (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        push_to_wandb(path, "wandb://team/maze/walker")
    assert wandb_server.requests == []


@pytest.fixture
def trained(wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a policy of `navigation/simple`, with random weights."""
    from metta_cli.config.catalogue import find_environment
    from metta_cli.environments.builders import build
    from metta_cli.environments.interface import interface_of
    from metta_cli.policies.registry import create_policy

    environment = find_environment("navigation/simple")
    interface = interface_of(build(environment))
    policy = create_policy("fast", interface, {})
    manifest = example_checkpoint().manifest.model_copy(
        update={"environment": environment, "passport": interface}
    )
    files = files_of(Checkpoint(manifest, policy.state_dict()), tmp_path)
    wandb_server.backend.add_artifact("team", "maze", "walker", files)
    monkeypatch.chdir(tmp_path)
    return "wandb://team/maze/model/walker:latest"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    with pytest.raises(SystemExit) as exit_info:
        main(words)
    captured = capsys.readouterr()
    assert not exit_info.value.code, captured.err
    return json.loads(captured.out)


def test_the_commands_take_the_address(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "inspect", trained, "--format", "json")
    result = run(
        capsys, "eval", trained, "--env", "navigation/simple", "--episodes", "1", "--no-baselines",
        "--workers", "0", "--format", "json",
    )  # fmt: skip
    assert "navigation/simple" in json.dumps(result)


def test_without_a_network_the_command_says_so_in_two_lines(
    trained: str, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb_server.stop()
    with pytest.raises(SystemExit) as exit_info:
        main(["inspect", trained])
    said = capsys.readouterr().err
    assert exit_info.value.code == MettaError.exit_code
    assert said.startswith(
        f"error: W&B ({wandb_server.url}) cannot be reached: Connection refused\nhint: look at"
    )
    assert said.count("\n") == 2
