"""The loader `s3`: checkpoints, and files of other tools, on S3 and servers that speak like it."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from metta_cli.artifacts.cache import Cache, Digest
from metta_cli.artifacts.checkpoints import (
    COMPLETE,
    MANIFEST,
    Checkpoint,
    read_checkpoint,
)
from metta_cli.artifacts.downloads import safe_path
from metta_cli.artifacts.loaders import ForeignFile
from metta_cli.artifacts.s3 import S3, S3Object, split_location
from metta_cli.artifacts.uris import Uri
from metta_cli.errors import CheckpointError, NotFoundError, suggestion

CHECKPOINTS = "checkpoints"
MAX_NAMES = 200
"""How many neighbours of a missing name are looked at for the nearest one."""

_NAME = re.compile(r"(?P<run>[^/]+):v(?P<epoch>[0-9]{1,12})")
_SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Folder:
    """A folder that is named like a checkpoint.

    Attributes:
        key: its name in the bucket, ending in `/`.
        epoch: the epoch that its name gives.
    """

    key: str
    epoch: int


class S3Loader:
    """Finds in a bucket what `FileLoader` finds in a directory, and keeps it in the cache.

    `s3://BUCKET/PATH` is a file of weights, a checkpoint `RUN:v12`, a run directory or its `checkpoints`
    (the newest complete checkpoint); the last two also with `:v12` or `:latest`. What is behind an address
    is asked of the server every time, so `:latest` is never stale; what was downloaded once is not
    downloaded again.
    """

    def load(self, uri: Uri, *, device: str, data_dir: Path) -> Checkpoint | ForeignFile:
        """Return the checkpoint at `uri`; see `metta_cli.artifacts.loaders.Loader`."""
        bucket, key = split_location(uri.path)
        s3, cache = S3(), Cache()
        exact = key if uri.version is None else f"{key}:{uri.version}"
        found = s3.stat(bucket, exact) if exact else None
        if found is not None:
            return ForeignFile(_fetch_file(s3, cache, found))
        folder = _find_checkpoint(s3, bucket, key, uri)
        return read_checkpoint(_fetch_checkpoint(s3, cache, bucket, folder), device)


def _find_checkpoint(s3: S3, bucket: str, key: str, uri: Uri) -> str:
    """Return the folder of the checkpoint that an address means, ending in `/`."""
    prefix = f"{key}/" if key else ""
    exact = prefix if uri.version is None else f"{key}:{uri.version}/"
    inside = s3.find(bucket, exact, folders=True)
    names = {found.key.rpartition("/")[2] for found in inside.objects}
    if exact and names & {MANIFEST, COMPLETE}:
        if COMPLETE not in names:
            raise CheckpointError(
                f"checkpoint s3://{bucket}/{exact} is incomplete: it has no {COMPLETE} file",
                "wait until it is uploaded, or push it again",
            )
        return exact
    folders = inside.folders if uri.version is None else s3.find(bucket, prefix, folders=True).folders
    if CHECKPOINTS in folders:
        prefix = f"{prefix}{CHECKPOINTS}/"
        folders = s3.find(bucket, prefix, folders=True).folders
    found = _checkpoints(prefix, folders)
    if not found and key:  # RUN of .../RUN:v3
        parent = key[: -len(key.rpartition("/")[2])]
        siblings = s3.find(bucket, f"{key}:v", folders=True).folders
        found = _checkpoints(parent, [f"{key.rpartition('/')[2]}:v{rest}" for rest in siblings])
    if not found:
        raise _nothing_at(s3, bucket, key, uri)
    return _choose(s3, bucket, found, uri)


def _checkpoints(prefix: str, folders: list[str]) -> list[_Folder]:
    """Return the folders that are named like checkpoints, the oldest epoch first."""
    matches = [match for match in map(_NAME.fullmatch, folders) if match is not None]
    found = [_Folder(f"{prefix}{match[0]}/", int(match["epoch"])) for match in matches]
    return sorted(found, key=lambda folder: (folder.epoch, folder.key))


def _choose(s3: S3, bucket: str, found: list[_Folder], uri: Uri) -> str:
    """Return the checkpoint of the wanted epoch, or the newest complete one."""
    if uri.epoch is not None:
        wanted = [folder.key for folder in found if folder.epoch == uri.epoch]
        if wanted:
            return wanted[0]
        known = [f"v{folder.epoch}" for folder in found]
        shown = known if len(known) <= 8 else [*known[:4], "...", *known[-3:]]
        raise NotFoundError(f"there is no {uri.version} of s3://{uri.path}", f"there is {', '.join(shown)}")
    for folder in reversed(found):
        if s3.stat(bucket, f"{folder.key}{COMPLETE}") is not None:
            return folder.key
        logger.warning("skipped: s3://%s/%s is incomplete, it has no %s file", bucket, folder.key, COMPLETE)
    raise NotFoundError(f"no checkpoint of s3://{uri.path} is complete", "wait until one is uploaded")


def _nothing_at(s3: S3, bucket: str, key: str, uri: Uri) -> NotFoundError:
    """Return an error that names what is nearest."""
    inside = _neighbours(s3, bucket, f"{key}/") if key else []
    parent = key[: -len(key.rpartition("/")[2])] if key else ""
    around = [name for name in _neighbours(s3, bucket, parent) if name != f"s3://{bucket}/{key}"]
    cure = suggestion(f"s3://{bucket}/{key}", around[:MAX_NAMES]) if key and not inside else ""
    if not cure.startswith("did you mean"):
        there = inside or around
        shown = [*there[:6], *(["..."] if len(there) > 6 else [])]
        cure = f"there is {', '.join(shown)}" if there else f"s3://{bucket}/{parent} is empty"
    return NotFoundError(f"there is no checkpoint and no file at {uri}", cure)


def _neighbours(s3: S3, bucket: str, folder: str) -> list[str]:
    """Return the addresses of what is directly in a folder."""
    listing = s3.find(bucket, folder, folders=True, max_pages=1)
    keys = [found.key for found in listing.objects] + [f"{folder}{name}" for name in listing.folders]
    return [f"s3://{bucket}/{key}" for key in keys]


def _fetch_file(s3: S3, cache: Cache, found: S3Object) -> Path:
    """Return the local copy of an object."""
    name = found.key.rpartition("/")[2]
    expected = Digest(found.bytes, md5=found.md5)

    def fill(directory: Path) -> None:
        s3.download(found.bucket, found.key, safe_path(directory, name), expected, found.etag)

    key = f"{found} on {s3.endpoint}, etag {found.etag}, {found.bytes} bytes"
    return cache.fetch(key, fill, expected={name: expected}) / name


def _fetch_checkpoint(s3: S3, cache: Cache, bucket: str, folder: str) -> Path:
    """Return the local copy of a checkpoint, whose mark holds the digest of everything else."""
    address = f"s3://{bucket}/{folder.rstrip('/')}"
    name = folder.rstrip("/").rpartition("/")[2]
    mark = s3.read(bucket, f"{folder}{COMPLETE}")
    digest = mark.decode(errors="replace").strip()
    if not _SHA256.fullmatch(digest):
        raise CheckpointError(f"checkpoint {address} is damaged: {COMPLETE} holds no digest", "push it again")

    def fill(directory: Path) -> None:
        checkpoint = safe_path(directory, name)
        checkpoint.mkdir()
        manifest = checkpoint / MANIFEST
        size = s3.stat(bucket, f"{folder}{MANIFEST}")
        known = Digest(None if size is None else size.bytes, sha256=digest)
        s3.download(bucket, f"{folder}{MANIFEST}", manifest, known)
        for file_name, file_digest in _files_of(manifest, address).items():
            s3.download(bucket, f"{folder}{file_name}", safe_path(checkpoint, file_name), file_digest)
        (checkpoint / COMPLETE).write_bytes(mark)

    return cache.fetch(f"{address}, sha256 {digest}", fill) / name


def _files_of(manifest: Path, address: str) -> dict[str, Digest]:
    """Return the other files of a checkpoint.

    Raises:
        CheckpointError: the manifest makes no sense, or names a file that is not beside it.
    """
    try:
        files = json.loads(manifest.read_bytes())["files"]
        found = {name: Digest(int(file["bytes"]), str(file["sha256"])) for name, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {address} is damaged: {MANIFEST} makes no sense ({error})", "push it again"
        ) from error
    for name in found:
        if "/" in name or name in (MANIFEST, COMPLETE):
            raise CheckpointError(
                f"checkpoint {address} is refused: {MANIFEST} names the file {name[:80]!r}", "push it again"
            )
    return found
