import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metta_cli.artifacts.checkpoints import (
    CheckpointManifest,
    latest_valid_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    read_manifest,
    save_checkpoint,
    verify_checkpoint,
)
from metta_cli.errors import CheckpointError, NotFoundError, StorageError

MakeManifest = Callable[..., CheckpointManifest]


def weights_of(epoch: int) -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.full((3, 4), float(epoch)), "layer.bias": torch.tensor(epoch)}


@pytest.fixture
def save(tmp_path: Path, make_manifest: MakeManifest) -> Callable[[int], Path]:
    def save_epoch(epoch: int) -> Path:
        state = {"epoch": epoch, "optimizer": {"state": {0: {"exp_avg": torch.ones(2) * epoch}}}}
        return save_checkpoint(tmp_path, make_manifest(epoch=epoch), weights_of(epoch), state)

    return save_epoch


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make the seal fit, as a stranger's tool could."""
    content = json.loads((path / "manifest.json").read_text())
    change(content)
    data = json.dumps(content).encode()
    (path / "manifest.json").write_bytes(data)
    (path / "COMPLETE").write_text(hashlib.sha256(data).hexdigest())


def test_a_checkpoint_comes_back_whole(tmp_path: Path, make_manifest: MakeManifest) -> None:
    manifest = make_manifest(scores={"return": 0.5, "diverged": float("inf")}, config={"seed": 7, "x": None})
    state = {"optimizer": {"state": {0: {"step": torch.tensor(4.0)}}}, "rng": (3, None)}
    path = save_checkpoint(tmp_path, manifest, weights_of(3), state)

    assert path == tmp_path / "walker:v3"
    checkpoint = read_checkpoint(path)
    assert checkpoint.manifest.model_copy(update={"files": {}}) == manifest
    assert checkpoint.weights.keys() == weights_of(3).keys()
    assert all(torch.equal(checkpoint.weights[name], tensor) for name, tensor in weights_of(3).items())
    assert checkpoint.trainer_state["rng"] == (3, None)
    assert checkpoint.trainer_state["optimizer"]["state"][0]["step"].item() == 4.0


def test_a_checkpoint_may_hold_only_a_policy(tmp_path: Path, make_manifest: MakeManifest) -> None:
    path = save_checkpoint(tmp_path, make_manifest(), weights_of(3))
    assert read_checkpoint(path).trainer_state is None
    assert sorted(os.listdir(path)) == ["COMPLETE", "manifest.json", "weights.safetensors"]


def test_weights_of_every_layout_and_type_are_kept(tmp_path: Path, make_manifest: MakeManifest) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    weights = {
        "tied": tied,
        "also_tied": tied,
        "view": tied[1],
        "transposed": tied.T,
        "expanded": torch.ones(1, 2).expand(3, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(4).to(torch.bfloat16),
        "counter": torch.tensor([2**40]),
        "mask": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    loaded = read_checkpoint(save_checkpoint(tmp_path, make_manifest(), weights)).weights
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name], tensor)


def test_a_manifest_is_readable_without_the_tensors(save: Callable[[int], Path]) -> None:
    path = save(3)
    manifest = read_manifest(path)
    (path / "weights.safetensors").unlink()
    assert read_manifest(path) == manifest
    assert manifest.passport.action_names == ("noop", "move_north")
    assert manifest.environment.name == "navigation/simple"


def test_saving_the_same_weights_again_changes_nothing(save: Callable[[int], Path]) -> None:
    before = (save(3) / "manifest.json").read_bytes()
    assert (save(3) / "manifest.json").read_bytes() == before


def test_other_weights_never_overwrite_a_checkpoint(
    tmp_path: Path, save: Callable[[int], Path], make_manifest: MakeManifest
) -> None:
    path = save(3)
    with pytest.raises(StorageError, match="already exists, with other weights"):
        save_checkpoint(tmp_path, make_manifest(epoch=3), weights_of(4))
    assert torch.equal(read_checkpoint(path).weights["layer.bias"], torch.tensor(3))


def test_a_damaged_checkpoint_makes_room_and_is_set_aside(
    tmp_path: Path, save: Callable[[int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = save(3)
    for _ in range(2):
        (path / "weights.safetensors").write_bytes(b"")
        save(3)
        assert read_checkpoint(path).manifest.epoch == 3
    assert (tmp_path / ".damaged-walker:v3" / "weights.safetensors").read_bytes() == b""
    assert "weights.safetensors has 0 of" in caplog.text


def test_what_a_killed_writer_left_is_removed_by_the_next_save(
    tmp_path: Path, save: Callable[[int], Path]
) -> None:
    leftover = tmp_path / ".tmp-123-walker:v2"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-123-file").write_bytes(b"half")
    save(3)
    assert os.listdir(tmp_path) == ["walker:v3"]


def test_checkpoints_are_listed_by_epoch_not_by_text(tmp_path: Path, save: Callable[[int], Path]) -> None:
    for epoch in (10, 9, 100):
        save(epoch)
    (tmp_path / "walker:v500").mkdir()
    (tmp_path / "walker:v600").write_text("a file")
    (tmp_path / ".tmp-1-walker:v700").mkdir()
    (tmp_path / "notes").mkdir()
    assert [(info.epoch, info.run) for info in list_checkpoints(tmp_path)] == [
        (9, "walker"),
        (10, "walker"),
        (100, "walker"),
    ]
    assert list_checkpoints(tmp_path, run="runner") == []
    assert list_checkpoints(tmp_path / "missing") == []


def damage(path: Path, kind: str) -> None:
    weights, manifest = path / "weights.safetensors", path / "manifest.json"
    match kind:
        case "truncated":
            os.truncate(weights, weights.stat().st_size - 1)
        case "bit flip in weights" | "bit flip in manifest":
            file = weights if "weights" in kind else manifest
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "no manifest" | "no weights" | "no marker":
            name = {"manifest": "manifest.json", "weights": "weights.safetensors", "marker": "COMPLETE"}
            (path / name[kind.split()[1]]).unlink()
        case "garbled manifest":
            manifest.write_text("{")
        case "garbled state":
            (path / "trainer_state.json").write_text("[]")
        case "empty directory":
            for file in path.iterdir():
                file.unlink()
        case _:
            raise AssertionError(kind)


KINDS_OF_DAMAGE = [
    "truncated",
    "bit flip in weights",
    "bit flip in manifest",
    "no manifest",
    "no weights",
    "no marker",
    "garbled manifest",
    "garbled state",
    "empty directory",
]


@pytest.mark.parametrize("kind", KINDS_OF_DAMAGE)
def test_damage_is_found_named_and_skipped(tmp_path: Path, save: Callable[[int], Path], kind: str) -> None:
    save(3)
    newest = save(4)
    damage(newest, kind)
    with pytest.raises(CheckpointError, match=r"walker:v4 is (damaged|incomplete): .*\w"):
        read_checkpoint(newest)
    checkpoint, skipped = latest_valid_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.manifest.epoch == 3
    assert len(skipped) == 1
    assert "walker:v4" in skipped[0]


def test_all_checkpoints_damaged_is_an_error_not_a_fresh_start(
    tmp_path: Path, save: Callable[[int], Path]
) -> None:
    damage(save(3), "truncated")
    damage(save(4), "no marker")
    with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints .*v4 is incomplete.*v3 is damaged"):
        latest_valid_checkpoint(tmp_path)


def test_no_checkpoint_at_all_is_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-walker:v3").mkdir()
    assert latest_valid_checkpoint(tmp_path) == (None, [])
    assert latest_valid_checkpoint(tmp_path / "missing") == (None, [])


def test_a_missing_checkpoint_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint directory"):
        read_checkpoint(tmp_path / "walker:v3")


def test_a_newer_format_asks_for_an_upgrade(save: Callable[[int], Path]) -> None:
    path = save(3)
    reseal(path, lambda content: content.update(format_version=2, surprise=1))
    with pytest.raises(CheckpointError, match=r"has format 2, this metta reads format 1 .*upgrade"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("agent_steps"), "agent_steps in manifest.json"),
        (lambda content: content.update(epoch=-1), "epoch in manifest.json"),
        (lambda content: content["passport"].pop("tag_names"), "passport.tag_names in manifest.json"),
        (lambda content: content.pop("format_version"), "cannot be understood"),
        (lambda content: content["files"].pop("weights.safetensors"), "does not list weights.safetensors"),
        (lambda content: content["files"].pop("trainer_state.safetensors"), "does not list trainer_state"),
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(
    save: Callable[[int], Path], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = save(3)
    reseal(path, change)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_a_manifest_cannot_point_outside_its_directory(tmp_path: Path, save: Callable[[int], Path]) -> None:
    path = save(3)
    (tmp_path / "secret").write_bytes(b"secret")
    digest = {"sha256": hashlib.sha256(b"secret").hexdigest(), "bytes": 6}
    reseal(path, lambda content: content["files"].update({"../secret": digest}))
    with pytest.raises(CheckpointError, match=r"does not list ../secret as a file beside it"):
        verify_checkpoint(path)


@pytest.mark.parametrize("run", ["", "../walker", "a/b", ".hidden", "a:v1", "-x", "a\n"])
def test_a_run_name_that_is_no_file_name_never_reaches_the_disk(
    run: str, make_manifest: MakeManifest
) -> None:
    with pytest.raises(ValueError, match="run"):
        make_manifest(run=run)


def test_pruning_keeps_the_newest_and_the_protected(tmp_path: Path, save: Callable[[int], Path]) -> None:
    paths = {epoch: save(epoch) for epoch in (1, 2, 3, 9, 10)}
    assert sorted(prune_checkpoints(tmp_path, 2, protect=[paths[2]])) == [paths[1], paths[3]]
    assert [info.epoch for info in list_checkpoints(tmp_path)] == [2, 9, 10]
    assert sorted(os.listdir(tmp_path)) == ["walker:v10", "walker:v2", "walker:v9"]


def test_pruning_never_deletes_the_last_good_checkpoint(tmp_path: Path, save: Callable[[int], Path]) -> None:
    good, worse, worst = save(1), save(2), save(3)
    damage(worse, "truncated")
    damage(worst, "no marker")
    assert prune_checkpoints(tmp_path, 1) == []
    assert good.exists()
    checkpoint, skipped = latest_valid_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.manifest.epoch == 1
    assert len(skipped) == 2


def test_pruning_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        prune_checkpoints(tmp_path, 0)
