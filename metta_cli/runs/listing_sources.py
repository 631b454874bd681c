"""Where runs are listed from: the data directory, W&B, and buckets; without torch, and without waiting."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import math
import netrc
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_cli.artifacts.checkpoints import COMPLETE, MANIFEST
from metta_cli.artifacts.wandb_child import SCORES
from metta_cli.errors import MettaError, UsageError
from metta_cli.runs.directory import RunDirectory, RunInfo
from metta_cli.runs.directory import list_runs as list_run_directories

if TYPE_CHECKING:
    from metta_cli.artifacts.s3 import S3, S3Object

LOCAL, WANDB, S3_SOURCE = "local", "wandb", "s3"
OFFLINE = "wandb offline"
"""Where a run is that W&B's client wrote to this disk, for a later `wandb sync`."""

_STORED = re.compile(r"(?P<run>[^/]+)/checkpoints/(?P<name>[^/]+:v(?P<epoch>[0-9]{1,12}))/(?P<file>[^/]+)")


@dataclass
class ListedRun:
    """A run, wherever it is.

    Attributes:
        name: of the run.
        created_at: when it began, as far as that is known.
        state: `running`, `finished`, `stopped`, or what W&B calls it.
        score: of its newest checkpoint, or what W&B has last seen.
        uris: place -> address that a policy can be loaded from; None where there is none yet.
        agent_steps: that it has been trained for.
        environment: that it is trained in.
        tags: of W&B.
        sweep: of W&B, that it belongs to.
    """

    name: str
    created_at: datetime | None = None
    state: str | None = None
    score: float | None = None
    uris: dict[str, str | None] = field(default_factory=dict)
    agent_steps: int | None = None
    environment: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None

    @property
    def uri(self) -> str | None:
        """Address that a policy can be loaded from, the nearest if there are several."""
        return next((uri for uri in self.uris.values() if uri is not None), None)


def local_runs(data_dir: Path) -> list[ListedRun]:
    """Return the runs in a data directory."""
    return [_local_run(info) for info in list_run_directories(data_dir)]


def _local_run(info: RunInfo) -> ListedRun:
    directory = RunDirectory(info.path.parent, info.run)
    run = ListedRun(info.run, uris={LOCAL: None})
    if info.epoch is not None:
        run.uris[LOCAL] = f"{info.path}:latest"
        manifest = directory.checkpoints / f"{info.run}:v{info.epoch}" / MANIFEST
        _describe(run, _read(manifest))
    run.created_at = _began(directory.metrics) or run.created_at or _modified(info.path)
    run.state = "running" if _is_locked(directory.lock_file) else run.state or "stopped"
    for pattern, place in (("run-*", WANDB), ("offline-run-*", OFFLINE)):
        if any((info.path / "wandb").glob(pattern)):
            run.uris[place] = None
    return run


def _describe(run: ListedRun, manifest: Mapping[str, Any]) -> None:
    """Fill in what a manifest says; one that cannot be read says nothing."""
    scores = manifest.get("scores")
    if isinstance(scores, dict):
        known = (_number(scores.get(name)) for name in SCORES)
        run.score = next((score for score in known if score is not None), None)
    steps, environment = manifest.get("agent_steps"), manifest.get("environment")
    run.agent_steps = steps if isinstance(steps, int) else None
    if isinstance(environment, dict) and isinstance(environment.get("name"), str):
        run.environment = environment["name"]
    run.created_at = parse_time(manifest.get("created_at"))
    try:
        wanted = manifest["config"]["trainer"]["total_timesteps"]
        run.state = "finished" if run.agent_steps is not None and run.agent_steps >= wanted else "stopped"
    except (KeyError, TypeError):  # of a checkpoint that no run of ours saved
        run.state = None


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parse(path.read_bytes())
    except OSError:
        return {}


def _parse(content: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else: a list shows what it can."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    """Return a finite number as it is, and None for everything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None  # type: ignore[return-value]


def parse_time(text: object) -> datetime | None:
    """Return the time that ISO 8601 text says, in UTC where it names no zone; None if it says none."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _began(metrics: Path) -> datetime | None:
    """Return when the first metrics were logged."""
    try:
        with open(metrics, "rb") as file:
            first = _parse(file.readline(1 << 20))
    except OSError:
        return None
    timestamp = _number(first.get("timestamp"))
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _is_locked(lock_file: Path) -> bool:
    """Whether a process is training the run."""
    try:
        descriptor = os.open(lock_file, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def why_no_wandb() -> str | None:
    """Return why W&B cannot be asked at all, as far as that can be seen without asking; None if it can."""
    if importlib.util.find_spec("wandb") is None:
        return "it is not installed (pip install 'metta-cli[wandb]')"
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return None
    server = re.sub(r"^https?://", "", os.environ.get("WANDB_BASE_URL", "")).strip("/")
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        hosts = {}
    if any(host == server or "wandb" in host or "coreweave" in host for host in hosts):
        return None
    return "there is no account (`wandb login`, or WANDB_API_KEY)"


def wandb_runs(
    entity: str | None, project: str | None, *, limit: int, state: str | None, deadline_seconds: float
) -> list[ListedRun]:
    """Return the newest runs of a project on W&B.

    Raises:
        MettaError: see `metta_cli.artifacts.wandb_client.list_runs`.
    """
    from metta_cli.artifacts.wandb_client import list_runs

    found = list_runs(entity, project, limit=limit, state=state, deadline_seconds=deadline_seconds)
    return [
        ListedRun(
            run["name"],
            parse_time(run["created_at"]),
            run["state"],
            run["score"],
            {WANDB: run["uri"]},
            run["metrics"].get("agent_steps"),
            tags=list(run["tags"]),
            sweep=run["sweep"],
        )
        for run in found
    ]


@dataclass(frozen=True)
class _Stored:
    """A complete checkpoint in a bucket."""

    run: str
    epoch: int
    mark: S3Object


def s3_runs(buckets: Sequence[str], *, deadline_seconds: float) -> tuple[list[ListedRun], list[str]]:
    """Return the runs in folders of buckets.

    Args:
        buckets: `s3://BUCKET/FOLDER`, as `metta push` writes to.
        deadline_seconds: for all requests together.

    Returns:
        The runs, and a line for each folder that has more names than are read.

    Raises:
        MettaError: see `metta_cli.artifacts.s3.S3`.
    """
    from metta_cli.artifacts.s3 import S3, split_location
    from metta_cli.artifacts.uris import parse_uri

    places = {}
    for address in buckets:
        uri = parse_uri(address)
        if uri.scheme != "s3":
            raise UsageError(f"{address!r} is no folder on S3", "give s3://BUCKET/FOLDER")
        places[address] = split_location(uri.path)
    s3 = S3(deadline_seconds=deadline_seconds, total_seconds=deadline_seconds)
    runs: list[ListedRun] = []
    warnings: list[str] = []
    for address, (bucket, folder) in places.items():
        prefix = f"{folder}/" if folder else ""
        listing = s3.find(bucket, prefix)
        if not listing.is_complete:
            warnings.append(f"{address} holds more than {len(listing.objects)} objects: runs are missing")
        newest, oldest = _by_run(listing.objects, prefix)
        with ThreadPoolExecutor(8) as pool:
            manifests = pool.map(lambda stored: _manifest(s3, stored), newest.values())
        for name, manifest in zip(newest, manifests, strict=True):
            run = ListedRun(name, uris={S3_SOURCE: f"s3://{bucket}/{prefix}{name}:latest"})
            _describe(run, manifest)
            run.created_at = oldest[name].mark.modified_at
            runs.append(run)
    return runs, warnings


def _by_run(objects: Sequence[S3Object], prefix: str) -> tuple[dict[str, _Stored], dict[str, _Stored]]:
    """Return the newest and the oldest complete checkpoint of every run."""
    newest: dict[str, _Stored] = {}
    oldest: dict[str, _Stored] = {}
    for found in objects:
        match = _STORED.fullmatch(found.key[len(prefix) :])
        if match is None or match["file"] != COMPLETE:
            continue
        stored = _Stored(match["run"], int(match["epoch"]), found)
        if stored.run not in newest or stored.epoch > newest[stored.run].epoch:
            newest[stored.run] = stored
        if stored.run not in oldest or stored.epoch < oldest[stored.run].epoch:
            oldest[stored.run] = stored
    return newest, oldest


def _manifest(s3: S3, stored: _Stored) -> dict[str, Any]:
    try:
        return _parse(s3.read(stored.mark.bucket, f"{stored.mark.key.removesuffix(COMPLETE)}{MANIFEST}"))
    except MettaError:  # removed since the listing: the list shows what it can
        return {}
