"""Checkpoints: saved whole or not at all, and verified when read.

A checkpoint is the directory `RUN:vEPOCH`:

    weights.safetensors         the policy's tensors
    trainer_state.safetensors   tensors of the optimizer and of random generators (if it can be resumed)
    trainer_state.json          the nesting around them (`state_codec`)
    manifest.json               everything else, and the sha256 of each file above
    COMPLETE                    the sha256 of manifest.json

It is written under a temporary name, the files in this order and each synced to the device, and then
renamed: **the rename completes it**. `COMPLETE` lets a reader tell a checkpoint from a partial copy of
one. Once `save_checkpoint` has returned, the checkpoint survives kill -9 and a power cut; a failure
during a save never harms an older one. A checkpoint is never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from metta_cli.artifacts.atomic import (
    make_directory,
    remove_directory,
    remove_leftovers,
    require_free_space,
    storage_errors,
    sync_directory,
    write_directory,
)
from metta_cli.artifacts.manifest import (
    FORMAT_VERSION,
    Architecture,
    CheckpointManifest,
    FileDigest,
)
from metta_cli.artifacts.state_codec import decode_state, encode_state, owned_tensor
from metta_cli.errors import CheckpointError, NotFoundError, StorageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Architecture",
    "Checkpoint",
    "CheckpointInfo",
    "CheckpointManifest",
    "latest_valid_checkpoint",
    "list_checkpoints",
    "prune_checkpoints",
    "read_checkpoint",
    "read_manifest",
    "save_checkpoint",
    "verify_checkpoint",
]

WEIGHTS = "weights.safetensors"
STATE_TENSORS = "trainer_state.safetensors"
STATE_JSON = "trainer_state.json"
MANIFEST = "manifest.json"
COMPLETE = "COMPLETE"

_NAME = re.compile(r"(?P<run>.+):v(?P<epoch>[0-9]{1,12})")
_ANOTHER = "use another checkpoint of the run, as RUN:vN"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        manifest: what it says about itself.
        weights: parameter name -> tensor, on the device that was asked for.
        trainer_state: what training needs to go on, with all tensors on the CPU; None if it holds only a
            policy.
    """

    manifest: CheckpointManifest
    weights: dict[str, Tensor]
    trainer_state: Any | None = None


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint on disk, not yet read.

    Attributes:
        path: its directory.
        run: the run that its name gives.
        epoch: the epoch that its name gives.
    """

    path: Path
    run: str
    epoch: int


def save_checkpoint(
    checkpoints_dir: Path,
    manifest: CheckpointManifest,
    weights: Mapping[str, Tensor],
    trainer_state: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint that survives whatever happens after this call returns.

    Saving the same weights for the same epoch again changes nothing. A damaged checkpoint of that name is
    set aside as `.damaged-RUN:vEPOCH`.

    Trap: only one process may save to a directory, what an earlier one left unfinished is deleted here.

    Args:
        checkpoints_dir: directory to save to; created if need be.
        manifest: its description; `files` is filled in.
        weights: parameter name -> dense tensor of any device, layout and data type; tied ones are
            stored twice.
        trainer_state: anything that `encode_state` takes.

    Returns:
        The new directory, `checkpoints_dir/RUN:vEPOCH`.

    Raises:
        StorageError: the disk is full, the place cannot be written, or another checkpoint has that name.
    """
    path = checkpoints_dir / manifest.name
    files = _serialize(weights, trainer_state)
    digests = {
        name: FileDigest(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        for name, data in files.items()
    }
    description = manifest.model_copy(update={"files": digests}).to_json().encode()
    files |= {MANIFEST: description, COMPLETE: (hashlib.sha256(description).hexdigest() + "\n").encode()}
    make_directory(checkpoints_dir)
    remove_leftovers(checkpoints_dir)
    if os.path.lexists(path) and _is_same(path, digests[WEIGHTS]):
        with storage_errors(path):
            sync_directory(checkpoints_dir)
        return path
    require_free_space(path, sum(map(len, files.values())))
    write_directory(path, files)
    return path


def _serialize(weights: Mapping[str, Tensor], trainer_state: Mapping[str, Any] | None) -> dict[str, bytes]:
    from safetensors.torch import save

    metadata = {"format": "pt"}
    files = {WEIGHTS: save({name: owned_tensor(tensor) for name, tensor in weights.items()}, metadata)}
    if trainer_state is not None:
        nesting, tensors = encode_state(trainer_state)
        files[STATE_TENSORS] = save(tensors, metadata)
        files[STATE_JSON] = json.dumps(nesting, allow_nan=False).encode()
    return files


def _is_same(path: Path, weights: FileDigest) -> bool:
    """Whether the checkpoint that is already there holds these weights; a damaged one makes room."""
    try:
        existing = verify_checkpoint(path)
    except (CheckpointError, NotFoundError) as error:
        damaged = path.with_name(f".damaged-{path.name}")
        if damaged.exists():
            remove_directory(damaged)
        with storage_errors(path):
            os.rename(path, damaged)
        logger.warning("set aside as %s: %s", damaged.name, error.message)
        return False
    if existing.files[WEIGHTS] == weights:
        return True
    raise StorageError(
        f"{path} already exists, with other weights",
        "checkpoints are never overwritten; train under another run name",
    )


def list_checkpoints(checkpoints_dir: Path, run: str | None = None) -> list[CheckpointInfo]:
    """Return the complete checkpoints of a directory, the oldest epoch first.

    Args:
        checkpoints_dir: where they are; a directory that does not exist holds none.
        run: only those of this run.
    """
    return [info for info in _candidates(checkpoints_dir, run) if (info.path / COMPLETE).is_file()]


def _candidates(checkpoints_dir: Path, run: str | None) -> list[CheckpointInfo]:
    if not checkpoints_dir.is_dir():
        return []
    found = []
    with storage_errors(checkpoints_dir):
        names = os.listdir(checkpoints_dir)
    for name in names:
        match = _NAME.fullmatch(name)
        path = checkpoints_dir / name
        if match is None or name.startswith(".") or run not in (None, match["run"]) or not path.is_dir():
            continue
        found.append(CheckpointInfo(path, match["run"], int(match["epoch"])))
    return sorted(found, key=lambda info: (info.epoch, info.run))


def read_manifest(path: Path) -> CheckpointManifest:
    """Read what a checkpoint says about itself, without its tensors.

    Raises:
        NotFoundError: there is no such directory.
        CheckpointError: it is incomplete, damaged, or of a newer format.
    """
    if not path.is_dir():
        raise NotFoundError(f"there is no checkpoint directory {path}", _ANOTHER)
    if not (path / COMPLETE).is_file():
        raise CheckpointError(f"checkpoint {path} is incomplete: it has no {COMPLETE} file", _ANOTHER)
    data = _read_file(path, MANIFEST)
    if hashlib.sha256(data).hexdigest().encode() != _read_file(path, COMPLETE).strip():
        raise _damaged(path, f"{MANIFEST} is not what was written")
    try:
        content = json.loads(data)
        version = content["format_version"]
        if version == FORMAT_VERSION:
            return CheckpointManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))} in {MANIFEST}: {first['msg']}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} cannot be understood: {error}") from error
    raise CheckpointError(
        f"checkpoint {path} has format {version}, this metta reads format {FORMAT_VERSION}",
        "upgrade with `pip install -U metta-cli`",
    )


def verify_checkpoint(path: Path) -> CheckpointManifest:
    """Compare every file of a checkpoint with its digest, without decoding it.

    Raises:
        NotFoundError: there is no such directory.
        CheckpointError: it is incomplete, damaged, or of a newer format.
    """
    manifest = read_manifest(path)
    for name in manifest.files:
        _read_verified(path, name, manifest)
    return manifest


def read_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint whose every byte is the one that was written.

    Args:
        path: the checkpoint directory.
        device: where the weights go. Trainer state stays on the CPU, where random generators want it.

    Raises:
        NotFoundError: there is no such directory.
        CheckpointError: it is incomplete, damaged, or of a newer format.
    """
    manifest = read_manifest(path)
    weights = {name: tensor.to(device) for name, tensor in _read_tensors(path, WEIGHTS, manifest).items()}
    if STATE_JSON not in manifest.files:
        return Checkpoint(manifest, weights)
    try:
        nesting = json.loads(_read_verified(path, STATE_JSON, manifest))
        state = decode_state(nesting, _read_tensors(path, STATE_TENSORS, manifest))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{STATE_JSON} cannot be understood: {error}") from error
    return Checkpoint(manifest, weights, state)


def latest_valid_checkpoint(
    checkpoints_dir: Path, *, run: str | None = None, device: str = "cpu"
) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest checkpoint that verifies.

    Args:
        checkpoints_dir: where they are; a directory that does not exist holds none.
        run: only those of this run.
        device: where the weights go.

    Returns:
        The checkpoint, or None if there is none at all; and one line for every newer one that was skipped,
        which says why.

    Raises:
        CheckpointError: there are checkpoints and all of them are damaged. Starting over without a word
            would throw the run away.
    """
    skipped: list[str] = []
    for info in reversed(_candidates(checkpoints_dir, run)):
        try:
            return read_checkpoint(info.path, device), skipped
        except CheckpointError as error:
            skipped.append(error.message)
    if skipped:
        raise CheckpointError(
            f"none of the {len(skipped)} checkpoints in {checkpoints_dir} can be used: {'; '.join(skipped)}",
            "restore one from a copy, or train under another run name",
        )
    return None, skipped


def prune_checkpoints(checkpoints_dir: Path, keep: int, protect: Iterable[Path] = ()) -> list[Path]:
    """Delete all but the newest checkpoints.

    Only checkpoints that verify count as kept, so the last good one is never deleted; damaged ones that
    are newer than the oldest kept one stay where they are.

    Args:
        checkpoints_dir: where they are.
        keep: how many to keep, at least 1.
        protect: checkpoints to keep besides, such as the best one.

    Returns:
        What was deleted.

    Raises:
        ValueError: `keep` is less than 1.
        StorageError: one cannot be deleted.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    protected = {path.resolve() for path in protect}
    num_kept, deleted = 0, []
    for info in reversed(_candidates(checkpoints_dir, None)):
        if num_kept < keep:
            num_kept += _is_valid(info.path)
        elif info.path.resolve() not in protected:
            remove_directory(info.path)
            deleted.append(info.path)
    return deleted


def _is_valid(path: Path) -> bool:
    try:
        verify_checkpoint(path)
    except CheckpointError as error:
        logger.warning("not counted as kept: %s", error.message)
        return False
    return True


def _read_tensors(path: Path, name: str, manifest: CheckpointManifest) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(_read_verified(path, name, manifest))
    except (SafetensorError, KeyError) as error:
        raise _damaged(path, f"{name} cannot be understood: {error}") from error


def _read_verified(path: Path, name: str, manifest: CheckpointManifest) -> bytes:
    expected = manifest.files.get(name)
    if expected is None or Path(name).name != name:
        raise _damaged(path, f"{MANIFEST} does not list {name} as a file beside it")
    data = _read_file(path, name)
    if len(data) != expected.bytes:
        raise _damaged(path, f"{name} has {len(data)} of {expected.bytes} bytes")
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise _damaged(path, f"{name} has {expected.bytes} bytes, but not the ones that were written")
    return data


def _read_file(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise _damaged(path, f"{name} cannot be read: {error.strerror}") from error


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {path} is damaged: {reason}", _ANOTHER)
