"""Which of several stored policies is meant: the newest, the best, any, all."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metta_cli.artifacts.checkpoints import (
    COMPLETE,
    CheckpointInfo,
    list_checkpoints,
    read_manifest,
)
from metta_cli.artifacts.uris import DEFAULT_SCHEME, Uri, parse_uri
from metta_cli.config.trainer import InitialPolicyConfig
from metta_cli.errors import CheckpointError, NotFoundError, UsageError
from metta_cli.runs.directory import list_runs
from metta_cli.runs.records import PolicyMetadata, metadata_of

SelectorType = Literal["latest", "top", "rand", "all"]
WANDB = "wandb"
SELECTORS = ("latest", "top", "rand", "all")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A stored policy that is not loaded.

    Attributes:
        uri: where exactly it is.
        name: such as `RUN:v12`.
        metadata: what is known of it without loading it.
    """

    uri: str
    name: str
    metadata: PolicyMetadata


def candidates(address: str, data_dir: Path) -> list[Candidate] | None:
    """Return the policies that an address stands for, the oldest first.

    Args:
        address: of a run, of a directory of checkpoints, of a directory of runs, of a project on W&B
            (`wandb://ENTITY/PROJECT`), or of a single policy.
        data_dir: where runs are looked for by name.

    Returns:
        None if the address is that of a single policy, which has to be loaded to know it.

    Raises:
        NotFoundError: if a directory holds none.
        MettaError: if W&B cannot be asked.
    """
    uri = parse_uri(address)
    if uri.scheme == WANDB and uri.version is None and _is_project(uri):
        return _of_project(uri)
    if uri.scheme != DEFAULT_SCHEME or uri.version is not None:
        return None
    path = Path(uri.path).expanduser()
    for place in dict.fromkeys((path, data_dir / path)):
        if not place.is_dir() or (place / COMPLETE).is_file():
            continue
        found = _readable(_checkpoints_in(place))
        if found:
            return found
        raise NotFoundError(f"there is no checkpoint in {place}", "wait for its run to save one")
    return None


def _checkpoints_in(place: Path) -> list[CheckpointInfo]:
    found = list_checkpoints(place / "checkpoints") or list_checkpoints(place)
    if found:
        return found
    return [info for run in list_runs(place) for info in list_checkpoints(run.path / "checkpoints")]


def _readable(checkpoints: Sequence[CheckpointInfo]) -> list[Candidate]:
    found = []
    for info in checkpoints:
        try:
            manifest = read_manifest(info.path)
        except CheckpointError as error:
            logger.warning("left out: %s", error.message)
            continue
        candidate = Candidate(f"file://{info.path}", info.path.name, metadata_of(manifest))
        found.append((manifest, candidate))
    if len({manifest.run for manifest, _ in found}) > 1:  # epochs of different runs cannot be compared
        found.sort(key=lambda pair: pair[0].created_at)
    return [candidate for _, candidate in found]


def _is_project(uri: Uri) -> bool:
    parts = uri.path.split("/")
    return len(parts) == 2 and parts[0] not in ("run", "sweep")


def _of_project(uri: Uri) -> list[Candidate]:
    from metta_cli.artifacts.wandb_client import list_runs as list_wandb_runs

    entity, project = uri.path.split("/")
    runs = list_wandb_runs(entity, project)
    if not runs:
        raise NotFoundError(f"there is no run in {uri}", "log one with wandb=online")
    entries = (
        run["metrics"]
        | {"run": run["name"], "created_at": run["created_at"], "scores": run["metrics"]}
        | ({} if run["score"] is None else {"score": run["score"]})
        for run in runs
    )
    found = [
        Candidate(run["uri"], run["name"], PolicyMetadata(entry))
        for run, entry in zip(runs, entries, strict=True)
    ]
    return sorted(found, key=lambda candidate: str(candidate.metadata["created_at"]))


def initial_policy_uri(config: InitialPolicyConfig, data_dir: Path, seed: int) -> str | None:
    """Return the exact address of the policy that a run begins with; None if it begins with none.

    Args:
        config: section `trainer.initial_policy`.
        data_dir: where runs are looked for by name.
        seed: of the choice among the best, if `range` is more than 1.

    Raises:
        UsageError: if there are filters, but only one policy at the address.
        NotFoundError: if nothing is there, nothing passes the filters, or nothing has the metric.
    """
    is_newest = config.type == "latest" or (config.metric == "epoch" and config.range <= 1)
    if config.uri is None or config.type == "specific" or (is_newest and not config.filters):
        return config.uri  # the loader takes the newest that is not damaged
    found = candidates(config.uri, data_dir)
    if found is None:
        if config.filters:
            raise UsageError(
                f"trainer.initial_policy.uri={config.uri} is one policy, and there is nothing to filter",
                "name a run or a directory of runs, or leave out trainer.initial_policy.filters",
            )
        return config.uri
    best = select(
        found,
        config.type,
        n=max(config.range, 1) if config.type == "top" else 1,
        metric=config.metric,
        filters=config.filters,
    )
    chosen = random.Random(seed).choice(best)
    logger.info("begins with %s, of %d policies at %s", chosen.name, len(found), config.uri)
    return chosen.uri


def select(
    found: Sequence[Candidate],
    selector_type: str,
    *,
    n: int = 1,
    metric: str = "score",
    filters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> list[Candidate]:
    """Choose among candidates.

    Args:
        found: the oldest first.
        selector_type: `latest`: the newest, the newest first; `top`: the highest metric first, the newer
            first where two are equal; `rand`: any, all equally likely; `all`: as they are.
        n: how many; `all` does not count.
        metric: see `PolicyMetadata.metric`.
        filters: entry of the metadata -> the value that it must have, a list of values, or `{min:, max:}`.
        seed: for `rand`; None is different every time.

    Raises:
        UsageError: if there is no such selector, or `n` is less than 1.
        NotFoundError: if nothing passes the filters, or nothing has the metric.
    """
    if selector_type not in SELECTORS:
        raise UsageError(f"there is no selector '{selector_type}'", f"use one of: {', '.join(SELECTORS)}")
    if n < 1:
        raise UsageError(f"cannot select {n} policies", "select at least 1")
    passing = [each for each in found if _passes(each.metadata, filters or {})]
    if not passing:
        raise NotFoundError(f"none of {len(found)} policies has {dict(filters or {})}", "loosen the filters")
    if selector_type == "all":
        return passing
    if selector_type == "rand":
        return random.Random(seed).sample(passing, min(n, len(passing)))
    if selector_type == "top":
        passing = _by_metric(passing, metric)
    return passing[::-1][:n]


def _by_metric(found: Sequence[Candidate], metric: str) -> list[Candidate]:
    """Return those that have a metric, the highest last."""
    values = [(each.metadata.metric(metric), each) for each in found]
    measured = [(value, each) for value, each in values if value is not None]
    if not measured:
        known = sorted({name for each in found for name in each.metadata.metric_names()})
        raise NotFoundError(
            f"none of {len(found)} policies has the metric '{metric}'",
            f"evaluate them first, or select by one of: {', '.join(known)}",
        )
    if len(measured) < len(found):
        logger.warning(
            "%d of %d policies have no metric '%s' and are left out",
            len(found) - len(measured),
            len(found),
            metric,
        )
    return [each for _, each in sorted(measured, key=lambda pair: pair[0])]


def _passes(metadata: PolicyMetadata, filters: Mapping[str, Any]) -> bool:
    return all(_matches(metadata, name, wanted) for name, wanted in filters.items())


def _matches(metadata: PolicyMetadata, name: str, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        value = metadata.metric(name)
        if value is None or not set(wanted) <= {"min", "max"}:
            return False
        return bool(wanted.get("min", value) <= value <= wanted.get("max", value))
    value = metadata.get(name, metadata.metric(name))
    return value in wanted if isinstance(wanted, list | tuple) else bool(value == wanted)
