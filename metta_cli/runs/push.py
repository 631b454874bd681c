"""`metta push`: store a checkpoint on S3 or Weights & Biases, and see that it is there.

On S3 a run looks as it does in a data directory, so that `aws s3 sync` and `metta push` make the same:

    s3://BUCKET/FOLDER/RUN/checkpoints/RUN:v12/    the files of a checkpoint

`COMPLETE` is stored last, when everything else has been compared with what is on this disk.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from metta_cli.artifacts.checkpoints import COMPLETE, MANIFEST, list_checkpoints, verify_checkpoint
from metta_cli.artifacts.downloads import Digest, hash_file
from metta_cli.artifacts.manifest import CheckpointManifest
from metta_cli.artifacts.s3 import S3, split_location
from metta_cli.artifacts.uris import DEFAULT_SCHEME, parse_uri
from metta_cli.errors import (
    CheckpointError,
    NotFoundError,
    StorageError,
    UnknownNameError,
    UsageError,
    suggestion,
)
from metta_cli.runs.directory import list_runs

CHECKPOINTS = "checkpoints"
TARGETS = ("s3", "wandb")
ATTEMPTS = 2

logger = logging.getLogger(__name__)


def push(target: str, source: str, *, data_dir: Path) -> str:
    """Upload a checkpoint.

    Args:
        target: `s3://BUCKET/FOLDER`, a folder of runs or of this run; or `wandb://ENTITY/PROJECT[/NAME]`,
            `wandb://run/NAME`.
        source: a run (its newest checkpoint), `RUN:vN`, or the path of a checkpoint or of a file of weights.
        data_dir: where runs are looked for by name.

    Returns:
        The address that it can be loaded from.

    Raises:
        NotFoundError: there is no such run, checkpoint, bucket or project.
        CheckpointError: the checkpoint is damaged, or does not arrive whole.
        StorageError: another checkpoint of that name is there already.
        MettaError: the service refuses, fails, or is too slow.
    """
    scheme = parse_uri(target).scheme
    if scheme not in TARGETS:
        raise UnknownNameError("place to push to:", f"{scheme}://", [f"{name}://" for name in TARGETS])
    path = find_local(source, data_dir)
    return _push_to_s3(target, path) if scheme == "s3" else _push_to_wandb(target, path)


def find_local(source: str, data_dir: Path) -> Path:
    """Return the checkpoint, or file of weights, on this machine that is meant.

    Raises:
        UsageError: that is not the address of anything on this machine.
        NotFoundError: there is nothing there.
    """
    uri = parse_uri(source)
    if uri.scheme != DEFAULT_SCHEME:
        raise UsageError(f"only what is on this machine can be pushed, not {source}", "give a run or a path")
    path = Path(uri.path).expanduser()
    for place in dict.fromkeys((path, data_dir / path)):
        exact = place if uri.version is None else place.with_name(f"{place.name}:{uri.version}")
        if (exact / MANIFEST).is_file() or exact.is_file():
            return exact
        for directory in (place / CHECKPOINTS, place):
            found = [info for info in list_checkpoints(directory) if uri.epoch in (None, info.epoch)]
            if found:
                return found[-1].path
            if uri.epoch is not None and list_checkpoints(directory):
                known = ", ".join(f"v{info.epoch}" for info in list_checkpoints(directory)[-8:])
                raise NotFoundError(f"there is no {uri.version} in {directory}", f"there is {known}")
    runs = [info.run for info in list_runs(data_dir) if info.epoch is not None]
    raise NotFoundError(f"there is no run or checkpoint '{source}'", suggestion(path.name, runs))


def _push_to_wandb(target: str, path: Path) -> str:
    from metta_cli.artifacts.wandb_client import push_to_wandb
    from metta_cli.artifacts.wandb_references import parse_reference

    reference = parse_reference(target)
    if reference.name:
        return push_to_wandb(path, target)
    name = verify_checkpoint(path).run if path.is_dir() else path.stem
    return push_to_wandb(path, f"wandb://{reference.entity}/{reference.project}/model/{name}")


def _push_to_s3(target: str, path: Path) -> str:
    uri = parse_uri(target)
    bucket, folder = split_location(uri.path)
    if uri.version is not None:
        raise UsageError(
            f"the checkpoint itself says its version, not {target}", f"leave out ':{uri.version}'"
        )
    if path.is_file():
        return _push_file(bucket, folder, path)
    manifest = verify_checkpoint(path)
    if folder.rpartition("/")[2] != manifest.run:
        folder = f"{folder}/{manifest.run}".lstrip("/")
    prefix = f"{folder}/{CHECKPOINTS}/{manifest.name}"
    s3 = S3()
    if not _is_there(s3, bucket, prefix, path):
        _upload_checkpoint(s3, bucket, prefix, path, manifest)
    return f"s3://{bucket}/{folder}:v{manifest.epoch}"


def _push_file(bucket: str, key: str, path: Path) -> str:
    if not key:
        raise UsageError(f"s3://{bucket} names no file", f"give its whole address, s3://{bucket}/{path.name}")
    _upload(S3(), bucket, key, path)
    return f"s3://{bucket}/{key}"


def _is_there(s3: S3, bucket: str, prefix: str, path: Path) -> bool:
    """Whether this very checkpoint is stored there already, whole.

    Raises:
        StorageError: another one of that name is.
    """
    if s3.stat(bucket, f"{prefix}/{COMPLETE}") is None:
        return False
    if s3.read(bucket, f"{prefix}/{COMPLETE}").strip() != (path / COMPLETE).read_bytes().strip():
        raise StorageError(
            f"s3://{bucket}/{prefix} already exists, with other weights",
            "checkpoints are never overwritten; push it into another folder",
        )
    changed = [
        file.name
        for file in sorted(path.iterdir())
        if not _is_same(s3, bucket, f"{prefix}/{file.name}", file)
    ]
    if changed:
        logger.warning("s3://%s/%s is damaged (%s) and is uploaded again", bucket, prefix, ", ".join(changed))
        return False
    logger.info("s3://%s/%s is there already", bucket, prefix)
    return True


def _upload_checkpoint(s3: S3, bucket: str, prefix: str, path: Path, manifest: CheckpointManifest) -> None:
    """Upload the files of a checkpoint, its mark when all the others are there."""
    for name in [*manifest.files, MANIFEST, COMPLETE]:
        _upload(s3, bucket, f"{prefix}/{name}", path / name)


def _upload(s3: S3, bucket: str, key: str, file: Path) -> None:
    """Upload a file, and compare what is stored then with it.

    Raises:
        CheckpointError: it is something else, twice.
    """
    for _ in range(ATTEMPTS):
        s3.upload(bucket, key, file)
        if _is_same(s3, bucket, key, file):
            return
        logger.warning("s3://%s/%s did not arrive whole and is uploaded again", bucket, key)
    raise CheckpointError(f"s3://{bucket}/{key} is not what was uploaded", "look at the server, or try again")


def _is_same(s3: S3, bucket: str, key: str, file: Path) -> bool:
    """Whether an object has the content of a file: by its MD5, or by reading it where there is none."""
    stored = s3.stat(bucket, key)
    if stored is None or stored.bytes != file.stat().st_size:
        return False
    if stored.md5 is not None:
        return stored.md5 == hash_file(file, "md5")
    wanted = Digest(stored.bytes, sha256=hash_file(file, "sha256"))
    with tempfile.TemporaryDirectory() as directory:
        try:
            s3.download(bucket, key, Path(directory) / "copy", wanted, stored.etag)
        except CheckpointError:
            return False
    return True
