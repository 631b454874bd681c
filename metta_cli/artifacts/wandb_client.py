"""Runs and artifacts on Weights & Biases, each asked for with a deadline that holds.

W&B's client runs in a child process (`wandb_process`). It does not compare what it downloads with the
digests of the manifest; here that is always done, and entries that lead anywhere else are refused.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metta_cli.artifacts.checkpoints import MANIFEST, CheckpointManifest, verify_checkpoint
from metta_cli.artifacts.downloads import Digest, file_digests, require_digests, safe_path
from metta_cli.artifacts.wandb_process import RETRIES, TemporaryError, ask
from metta_cli.artifacts.wandb_references import (
    LATEST,
    MODEL,
    SCHEME,
    ArtifactReference,
    is_alias,
    is_artifact_name,
    parse_reference,
    require_name,
)
from metta_cli.errors import CheckpointError, MettaError, UsageError

LIST_SECONDS = 20.0
RESOLVE_SECONDS = 30.0
TRANSFER_SECONDS = 60.0
"""How long a transfer may take, beside what its bytes take."""
BYTES_PER_SECOND = 100_000
"""The slowest transfer that is waited for."""
STALL_SECONDS = 60.0
"""How long a download may go on without a new byte."""

MAX_FILES = 10_000

Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedArtifact:
    """One version of an artifact, as W&B described it a moment ago.

    Attributes:
        qualified_name: `ENTITY/PROJECT/NAME:vN`.
        digest: of its manifest.
        files: path with `/` -> size, and md5 where the manifest has one.
        type: such as `model`.
        aliases: such as `latest`.
        metadata: what was stored with it.
    """

    qualified_name: str
    digest: str
    files: dict[str, Digest]
    type: str = MODEL
    aliases: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The address of just this version."""
        entity, project, name = self.qualified_name.split("/")
        return f"{SCHEME}://{entity}/{project}/{self.type}/{name}"

    @property
    def num_bytes(self) -> int:
        """How much there is to download."""
        return sum(digest.bytes or 0 for digest in self.files.values())


def list_runs(
    entity: str | None = None,
    project: str | None = None,
    *,
    limit: int = 50,
    state: str | None = None,
    filters: Mapping[str, Any] | None = None,
    order: str = "-created_at",
    deadline_seconds: float = LIST_SECONDS,
) -> list[dict[str, Any]]:
    """Return the runs of a project, the newest first.

    Args:
        entity: team or user; None is the one of W&B's settings or the default of the account.
        project: None is the one of W&B's settings.
        limit: how many at most.
        state: only runs in this state, such as `finished`.
        filters: further conditions, in W&B's language.
        order: `created_at` or `summary_metrics.NAME`, after `-` from the largest down.
        deadline_seconds: when to give up.

    Returns:
        For each run `name`, `id`, `state`, `score` (None if it has none), `created_at`, `uri`, `tags`,
        `sweep`, and `metrics` (the numbers of its summary).

    Raises:
        UsageError: no project is given, or wandb is not installed.
        AccessError: credentials are missing or refused.
        NotFoundError: there is no such project.
        MettaError: W&B cannot be reached, fails, or gives no answer in time.
    """
    conditions: list[Mapping[str, Any]] = [filters] if filters else []
    if state is not None:
        conditions.append({"state": state})
    found = ask(
        "list_runs",
        {
            "entity": entity,
            "project": project,
            "limit": limit,
            "filters": {"$and": conditions} if conditions else {},
            "order": order,
        },
        subject="project " + "/".join(part for part in (entity, project or "of W&B's settings") if part),
        deadline_seconds=deadline_seconds,
    )
    place = f"{SCHEME}://{found['entity']}/{found['project']}/{MODEL}"
    return [run | {"uri": f"{place}/{run['name']}:latest"} for run in found["runs"]]


def resolve_artifact(
    reference: ArtifactReference | str, deadline_seconds: float = RESOLVE_SECONDS
) -> ResolvedArtifact:
    """Return which version an address means now, and what is in it.

    Args:
        reference: a `wandb://` address, or what `parse_reference` makes of one.
        deadline_seconds: when to give up.

    Raises:
        UsageError: the address makes no sense, or wandb is not installed.
        AccessError: credentials are missing or refused.
        NotFoundError: there is no such project, artifact or version.
        CheckpointError: it has files that lie elsewhere, or under names that lead elsewhere.
        MettaError: W&B cannot be reached, fails, or gives no answer in time.
    """
    if isinstance(reference, str):
        reference = parse_reference(reference)
    require_name(reference)
    found = ask(
        "resolve_artifact",
        {
            "entity": reference.entity,
            "project": reference.project,
            "name": f"{reference.name}:{reference.version}",
            "type": reference.type,
        },
        subject=str(reference),
        deadline_seconds=deadline_seconds,
    )
    return ResolvedArtifact(
        qualified_name=f"{found['entity']}/{found['project']}/{found['name']}",
        digest=found["digest"],
        files=_checked_files(found["files"], str(reference)),
        type=found["type"],
        aliases=tuple(found["aliases"]),
        metadata=found["metadata"],
    )


def _checked_files(entries: Mapping[str, Mapping[str, Any]], subject: str) -> dict[str, Digest]:
    """Return what is known of each file of a manifest, once every entry is known to be harmless."""
    if not 0 < len(entries) <= MAX_FILES:
        raise CheckpointError(f"{subject} has {len(entries)} files", "give the address of a checkpoint")
    files = {}
    for path, entry in entries.items():
        safe_path(Path(), path)
        if entry["reference"] is not None:
            raise CheckpointError(
                f"{subject} only refers to its file {path!r}, which lies elsewhere",
                "download it from there, or log an artifact that holds the file itself",
            )
        md5 = _hexadecimal(entry["digest"]) if entry["algorithm"] == "MANIFEST_MD5" else None
        files[path] = Digest(bytes=entry["bytes"], md5=md5)
    return files


def _hexadecimal(digest: str) -> str | None:
    try:
        return base64.b64decode(digest, validate=True).hex()
    except binascii.Error:
        return digest  # no file has it


def download_artifact(
    resolved: ResolvedArtifact,
    into: Path,
    deadline_seconds: float | None = None,
    progress: Progress = lambda num_bytes, total_bytes: None,
) -> None:
    """Download a version of an artifact, and compare every file with its digest.

    A transfer that breaks off or is damaged is begun again, twice, within the deadline.

    Args:
        resolved: which.
        into: an empty directory; after an error what is in it is worthless.
        deadline_seconds: when to give up; None allows a minute and what a slow network takes.
        progress: called several times a second with the bytes that are here, and all of them.

    Raises:
        AccessError: credentials are missing or refused.
        NotFoundError: it has been deleted meanwhile.
        CheckpointError: what came is not what was stored.
        MettaError: W&B cannot be reached, fails, stalls, or does not end in time.
    """
    if deadline_seconds is None:
        deadline_seconds = transfer_seconds(resolved.num_bytes)
    deadline = time.monotonic() + deadline_seconds
    entity, project, name = resolved.qualified_name.split("/")
    arguments = {"entity": entity, "project": project, "name": name, "digest": resolved.digest}
    for attempt in range(RETRIES + 1):
        try:
            ask(
                "download_artifact",
                arguments | {"into": str(into.absolute())},
                subject=resolved.uri,
                deadline_seconds=deadline - time.monotonic(),
                watch=_Watch(into, resolved, progress),
                directory=into.absolute().parent,
            )
            require_digests(into, file_digests(into), resolved.files, resolved.uri)
            break
        except TemporaryError as error:
            if attempt == RETRIES or time.monotonic() >= deadline:
                raise
            logger.info("%s; once more", error.message)
            _empty(into)
    progress(resolved.num_bytes, resolved.num_bytes)


class _Watch:
    """Tells how far a download is, and stops one that stands still."""

    def __init__(self, into: Path, resolved: ResolvedArtifact, progress: Progress) -> None:
        self.into, self.resolved, self.progress = into, resolved, progress
        self.num_bytes, self.since = -1, time.monotonic()

    def __call__(self) -> None:
        # W&B writes to its own cache first, which is a directory beside this one.
        num_bytes = sum(_size(path) for place in self._places() for path in place.rglob("*"))
        if num_bytes != self.num_bytes:
            self.num_bytes, self.since = num_bytes, time.monotonic()
            self.progress(min(num_bytes, self.resolved.num_bytes), self.resolved.num_bytes)
        elif time.monotonic() - self.since > STALL_SECONDS:
            raise MettaError(
                f"the download of {self.resolved.uri} stands still: no byte for {STALL_SECONDS:g} s",
                "look at the network and try again",
            )

    def _places(self) -> list[Path]:
        return [self.into, *self.into.absolute().parent.glob(".wandb-*")]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # it was a temporary file
        return 0


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def upload_artifact(
    path: Path,
    *,
    entity: str | None,
    project: str | None,
    name: str,
    type: str = MODEL,
    aliases: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    deadline_seconds: float | None = None,
) -> str:
    """Store a file or a directory as a new version of an artifact.

    The same content again is no new version: W&B gives the one that there is.

    Args:
        path: a file, or a directory whose files become those of the artifact.
        entity: team or user; None is the default of the account.
        project: None is the one of W&B's settings, or `metta`. W&B creates it if need be.
        name: of the artifact.
        type: of the artifact.
        aliases: what the version is called besides `latest`.
        metadata: what is stored with it, for people and programs to look at.
        deadline_seconds: when to give up; None allows a minute and what a slow network takes.

    Returns:
        `wandb://ENTITY/PROJECT/TYPE/NAME:vN`.

    Raises:
        UsageError: wandb is not installed, or the artifact cannot be called that.
        AccessError: credentials are missing or refused.
        MettaError: W&B cannot be reached, fails, or does not end in time.
    """
    if not is_artifact_name(name) or not all(map(is_alias, aliases)):
        raise UsageError(
            f"a W&B artifact cannot be called {':'.join([name, *aliases])!r}",
            "use letters, digits, '.', '_' and '-'",
        )
    num_bytes = sum(_size(each) for each in ([path] if path.is_file() else path.rglob("*")))
    stored = ask(
        "upload_artifact",
        {
            "path": str(path.absolute()),
            "entity": entity,
            "project": project,
            "name": name,
            "type": type,
            "aliases": list(aliases),
            "metadata": dict(metadata or {}),
        },
        subject=f"{type} {name}",
        deadline_seconds=transfer_seconds(num_bytes) if deadline_seconds is None else deadline_seconds,
    )
    return f"{SCHEME}://{stored['entity']}/{stored['project']}/{type}/{name}:{stored['version']}"


def push_to_wandb(checkpoint: Path, uri: str, *, deadline_seconds: float | None = None) -> str:
    """Store a checkpoint as a new version of an artifact.

    Args:
        checkpoint: directory of a checkpoint, which is verified first; or a file of weights.
        uri: where to; `:ALIAS` gives the version that alias besides `latest`.
        deadline_seconds: when to give up; see `upload_artifact`.

    Returns:
        The address of the new version.

    Raises:
        UsageError: the address makes no sense, or wants to choose the number of the version.
        CheckpointError: the checkpoint is damaged.
        MettaError: see `upload_artifact`.
    """
    target = parse_reference(uri)
    require_name(target)
    if re.fullmatch(r"v[0-9]+", target.version):
        raise UsageError(
            f"W&B counts versions itself, so nothing can be pushed to {target}",
            f"leave ':{target.version}' out, or give an alias",
        )
    is_ours = (checkpoint / MANIFEST).is_file()
    metadata = checkpoint_metadata(verify_checkpoint(checkpoint)) if is_ours else {}
    return upload_artifact(
        checkpoint,
        entity=target.entity,
        project=target.project,
        name=target.name,
        type=target.type or MODEL,
        aliases=[] if target.version == LATEST else [target.version],
        metadata=metadata,
        deadline_seconds=deadline_seconds,
    )


def checkpoint_metadata(manifest: CheckpointManifest) -> dict[str, Any]:
    """Return what W&B shows of a checkpoint."""
    return {
        "run": manifest.run,
        "epoch": manifest.epoch,
        "agent_steps": manifest.agent_steps,
        "environment": manifest.environment.name,
        "architecture": manifest.architecture.name,
        "scores": {name: score for name, score in manifest.scores.items() if math.isfinite(score)},
    }


def transfer_seconds(num_bytes: int) -> float:
    """Return how long a transfer may take before it counts as failed."""
    return TRANSFER_SECONDS + num_bytes / BYTES_PER_SECOND
