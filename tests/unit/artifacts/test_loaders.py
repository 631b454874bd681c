from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metta_cli.artifacts import loaders
from metta_cli.artifacts.checkpoints import CheckpointManifest, save_checkpoint
from metta_cli.artifacts.loaders import ForeignFile, load_checkpoint
from metta_cli.errors import CheckpointError, NotFoundError, PluginError, UnknownNameError


@pytest.fixture
def data_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_manifest: Callable[..., CheckpointManifest]
) -> Path:
    """Two runs, `walker` with epochs 2 and 10 and `runner` with none, seen from another directory."""
    data_dir = tmp_path / "train_dir"
    for epoch in (2, 10):
        weights = {"w": torch.tensor(float(epoch))}
        save_checkpoint(data_dir / "walker" / "checkpoints", make_manifest(epoch=epoch), weights)
    (data_dir / "runner" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return data_dir


@pytest.mark.parametrize(
    ("uri", "epoch"),
    [
        ("walker", 10),
        ("walker:latest", 10),
        ("walker:v2", 2),
        ("walker:v02", 2),
        ("train_dir/walker", 10),
        ("train_dir/walker/", 10),
        ("./train_dir/walker:v2", 2),
        ("train_dir/walker:latest", 10),
        ("train_dir/walker/checkpoints", 10),
        ("train_dir/walker/checkpoints:v2", 2),
        ("train_dir/walker/checkpoints/walker", 10),
        ("train_dir/walker/checkpoints/walker:latest", 10),
        ("train_dir/walker/checkpoints/walker:v2", 2),
        ("train_dir/walker/checkpoints/walker:v2/", 2),
        ("file://train_dir/walker:v2", 2),
        ("file://walker", 10),
        ("file://{here}/train_dir/walker", 10),
        ("{here}/train_dir/walker/checkpoints/walker:v10", 10),
    ],
)
def test_every_spelling_finds_its_checkpoint(data_dir: Path, uri: str, epoch: int) -> None:
    checkpoint = load_checkpoint(uri.format(here=data_dir.parent), "cpu", data_dir=data_dir)
    assert checkpoint.manifest.epoch == epoch
    assert checkpoint.weights["w"].item() == epoch


def test_a_copy_of_a_checkpoint_loads_under_any_name(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "walker" / "checkpoints" / "walker:v2").rename(tmp_path / "my best one")
    assert load_checkpoint("my best one").manifest.name == "walker:v2"


def test_a_renamed_run_still_loads(data_dir: Path) -> None:
    (data_dir / "walker").rename(data_dir / "old")
    assert load_checkpoint("old:v10", data_dir=data_dir).manifest.name == "walker:v10"


def test_the_latest_is_the_latest_that_verifies_and_the_rest_is_reported(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = data_dir / "walker" / "checkpoints" / "walker:v10"
    (newest / "weights.safetensors").write_bytes(b"")
    assert load_checkpoint("walker", data_dir=data_dir).manifest.epoch == 2
    assert "skipped: checkpoint" in caplog.text
    assert "walker:v10 is damaged" in caplog.text
    with pytest.raises(CheckpointError, match="walker:v10 is damaged"):
        load_checkpoint("walker:v10", data_dir=data_dir)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("wolker", r"there is no run or checkpoint 'wolker' \(did you mean 'walker'\?\)"),
        ("wolker:v2", r"'wolker:v2' \(did you mean 'walker'\?\)"),
        ("train_dir/wolker", r"'train_dir/wolker' \(did you mean 'walker'\?\)"),
        ("/nowhere/at/all", r"'/nowhere/at/all' \(known: runner, walker\)"),
        ("walker:v3", r"there is no v3 in .*checkpoints \(there is v2, v10\)"),
        ("runner", r"checkpoints holds no checkpoint yet"),
        ("runner:v1", r"there is no v1 in .* \(it is empty\)"),
        ("train_dir", r"train_dir is neither a run nor a checkpoint"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(data_dir: Path, uri: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        load_checkpoint(uri, data_dir=data_dir)


def test_a_run_elsewhere_is_suggested_by_its_path(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"did you mean 'train_dir/walker'\?"):
        load_checkpoint("train_dir/wolker", data_dir=tmp_path / "other")


def test_without_any_run_the_cure_is_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="metta train run=NAME"):
        load_checkpoint("walker", data_dir=tmp_path / "missing")


@pytest.mark.parametrize("uri", ["model.pt", "file://model.pt", "pytorch://model.pt", "pytorch://other"])
def test_a_file_is_handed_over_unread(data_dir: Path, tmp_path: Path, uri: str) -> None:
    (tmp_path / "model.pt").write_bytes(b"not even a file of weights")
    (data_dir / "other").write_bytes(b"")
    assert load_checkpoint(uri, data_dir=data_dir) in (
        ForeignFile(Path("model.pt")),
        ForeignFile(data_dir / "other"),
    )


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("modle.pt", r"there is no file 'modle\.pt' \(did you mean 'model\.pt'\?\)"),
        ("pytorch://modle", r"there is no file 'modle' \(did you mean 'model\.pt'\?\)"),
        ("model.ptt", r"no run or checkpoint 'model\.ptt' \(did you mean 'model\.pt'\?\)"),
        (
            "pytorch://trian_dir/model.pt",
            r"there is no directory 'trian_dir'; did you mean 'train_dir'\?",
        ),
        ("pytorch://train_dir/model.pt", r"train_dir holds no file of weights"),
        (
            "train_dir/walker/checkpoints/model_0000.pt",
            r"train_dir/walker is a run of metta: its address is 'train_dir/walker', or with :vEPOCH",
        ),
        ("pytorch://train_dir/runner/a/b.pt", r"did you mean 'train_dir/runner/checkpoints'\?|known: "),
        ("pytorch://train_dir", r"train_dir is neither a run nor a checkpoint"),
    ],
)
def test_a_missing_file_is_answered_with_the_closest_one(
    data_dir: Path, tmp_path: Path, uri: str, message: str
) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(NotFoundError, match=message):
        load_checkpoint(uri, data_dir=data_dir)


def test_a_checkpoint_is_found_by_the_scheme_for_files_of_others_too(data_dir: Path) -> None:
    checkpoint = load_checkpoint("pytorch://walker:v2", data_dir=data_dir)
    assert checkpoint.manifest.epoch == 2


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown URI scheme 'fiel' \(did you mean 'file'"):
        load_checkpoint("fiel://walker")


class ReturnsWeights:
    def load(self, uri: object, *, device: str, data_dir: Path) -> dict[str, object]:
        return {}


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (ReturnsWeights, "returned a dict for file://x"),
        (len, "not a class with a method load"),
        (int, "method load"),
    ],
)
def test_a_plugin_that_is_no_loader_is_named(
    monkeypatch: pytest.MonkeyPatch, plugin: object, message: str
) -> None:
    monkeypatch.setattr(loaders, "load_plugin", lambda group, name: plugin)
    with pytest.raises(PluginError, match=message):
        load_checkpoint("file://x")
