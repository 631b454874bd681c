"""One question to W&B, asked in a process of its own: `python -m metta_cli.artifacts.wandb_child`.

`wandb_process` starts it, writes {"operation": ..., "arguments": {...}} to its stdin, and reads one JSON
object from its stdout: {"result": ...} or {"error": {...}}. It ends without W&B's exit hooks, which can
wait for ever. Whatever W&B itself prints is thrown away; secrets come through the environment only.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

PUSH = "metta-push"
"""The job type of a run that only uploads."""
CONNECT_SECONDS = 3.0
DNS_SECONDS = 4.0

# Where a run says how good it was; the first of these that it has counts.
SCORES = (
    "score",
    "avg_simulation_score",
    "avg_category_score",
    "overview/reward",
    "reward",
    "episode/recent_return_mean",
    "episode/return_mean",
)


class RefusedError(Exception):
    """A failure that is recognised here and not by an exception of W&B.

    Args:
        kind: what `wandb_process` makes an error of.
        text: one line.
        wanted: the name that there is not.
        known: names that would have worked instead.
    """

    def __init__(self, kind: str, text: str, wanted: str = "", known: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.kind, self.wanted, self.known = kind, wanted, list(known)


def import_wandb() -> Any:
    """Return the package, whose types nothing here depends on."""
    return importlib.import_module("wandb")


def require_server(url: str) -> None:
    """See within seconds whether a server is there at all; W&B's client would try for much longer."""
    if urllib.request.getproxies():
        return  # only the proxy knows
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443))
    reasons: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection(address, CONNECT_SECONDS).close()
            reasons.append("")
        except OSError as error:
            reasons.append(error.strerror or str(error))

    thread = threading.Thread(target=connect, daemon=True)  # a name that is looked up has no time limit
    thread.start()
    thread.join(CONNECT_SECONDS + DNS_SECONDS)
    reason = reasons[0] if reasons else "no answer"
    if reason:
        raise RefusedError("unreachable", reason)


def open_api(entity: str | None, timeout_seconds: float) -> tuple[Any, str]:
    """Return W&B's client, and the entity that is meant."""
    wandb = import_wandb()
    settings = wandb.setup().settings
    require_server(settings.base_url)
    api = wandb.Api(timeout=max(1, int(timeout_seconds)))
    entity = entity or settings.entity or api.default_entity
    if not entity:
        raise RefusedError("usage", "no entity is given, and the account has no default")
    return api, str(entity)


def list_runs(
    entity: str | None,
    project: str | None,
    limit: int,
    filters: Mapping[str, Any],
    order: str,
    timeout_seconds: float,
) -> dict[str, Any]:
    """Return the runs of a project with what a list shows of them."""
    wandb = import_wandb()
    project = project or wandb.setup().settings.project
    if not project:
        raise RefusedError("usage", "no project is given")
    api, entity = open_api(entity, timeout_seconds)
    options = {"filters": dict(filters), "order": order, "per_page": min(limit, 100), "lazy": False}
    runs: list[dict[str, Any]] = []
    pushes: list[dict[str, Any]] = []
    try:
        for run in api.runs(f"{entity}/{project}", **options):
            if len(runs) >= limit:
                break
            runs.append(describe_run(run))
            if run.job_type == PUSH:
                pushes.append(runs[-1])
    except ValueError as error:
        if not str(error).startswith("Could not find project"):
            raise
        wanted, known = known_projects(api, entity, project)
        raise RefusedError("not_found", "there is no such project", wanted, known) from error
    return {"entity": entity, "project": project, "runs": without_pushes(runs, pushes)}


def without_pushes(runs: list[dict[str, Any]], pushes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the runs that only pushed a version of what another run is listed for already."""
    names = {run["name"] for run in runs if run not in pushes}
    kept = []
    for run in runs:
        if run in pushes and run["name"] in names:
            continue
        names.add(run["name"])
        kept.append(run)
    return kept


def describe_run(run: Any) -> dict[str, Any]:
    """Return what a list shows of a run."""
    metrics = {
        name: value
        for name, value in dict(run.summary).items()
        if not name.startswith("_") and is_number(value)
    }
    return {
        "name": run.name,
        "id": run.id,
        "state": run.state,
        "score": next((metrics[name] for name in SCORES if name in metrics), None),
        "created_at": run.created_at,
        "tags": list(run.tags),
        "sweep": run.sweep_name,
        "metrics": metrics,
    }


def is_number(value: object) -> bool:
    """Whether a summary holds a number that can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def find_artifact(
    entity: str | None, project: str | None, name: str, type: str | None, timeout_seconds: float
) -> tuple[Any, dict[str, Any]]:
    """Return an artifact, and where it was found."""
    wandb = import_wandb()
    project = project or wandb.setup().settings.project or "metta"
    api, entity = open_api(entity, timeout_seconds)
    place = {"entity": entity, "project": project}
    try:
        return api.artifact(f"{entity}/{project}/{name}", type=type), place
    except wandb.errors.CommError as error:
        refused = why_not_found(api, str(error), f"{entity}/{project}", name, type or "model")
        if refused is None:
            raise
        raise refused from error


def why_not_found(api: Any, text: str, place: str, name: str, type: str) -> RefusedError | None:
    """Return what W&B means when it says that there is no artifact; None if it says something else."""
    if other := re.search(r"this artifact is of type '([^']*)'", text):
        wanted, known = (f"{place}/{each}/{name}" for each in (type, other[1]))
        return RefusedError("not_found", f"it is of type '{other[1]}'", wanted, [known])
    if re.match("project .* not found", text):
        entity, _, project = place.partition("/")
        return RefusedError("not_found", "there is no such project", *known_projects(api, entity, project))
    if "not found" in text:
        return RefusedError("not_found", *known_artifacts(api, place, name, type))
    return None


def known_artifacts(api: Any, place: str, name: str, type: str) -> tuple[str, str, list[str]]:
    """Return what there is not, its name, and what there is instead: versions of it, or other artifacts."""
    name, _, version = name.partition(":")
    names: list[str] = []
    with suppress(Exception):  # it would be the second failure; the first one is told
        names = [each.name for each in api.artifact_type(type, place).collections()]
        if name in names:
            versions = [alias for each in api.artifacts(type, f"{place}/{name}") for alias in all_names(each)]
            return "there is no such version", version, versions
    return "there is no such artifact", name, names


def all_names(artifact: Any) -> list[str]:
    """Return the version of an artifact and its aliases."""
    return [str(artifact.version), *map(str, artifact.aliases)]


def known_projects(api: Any, entity: str, project: str) -> tuple[str, list[str]]:
    """Return the name of a project that there is not, and those that there are."""
    with suppress(Exception):  # it would be the second failure; the first one is told
        return f"{entity}/{project}", [f"{entity}/{each.name}" for each in api.projects(entity)]
    return f"{entity}/{project}", []


def resolve_artifact(
    entity: str | None, project: str | None, name: str, type: str | None, timeout_seconds: float
) -> dict[str, Any]:
    """Return which version of an artifact is meant now, and what is in it."""
    artifact, place = find_artifact(entity, project, name, type, timeout_seconds)
    files = {
        str(path): {
            "bytes": entry.size,
            "digest": str(entry.digest),
            "algorithm": str(entry.extra.get("digestAlgorithm") or "MANIFEST_MD5"),
            "reference": None if entry.ref is None else str(entry.ref),
        }
        for path, entry in artifact.manifest.entries.items()
    }
    name = f"{name.partition(':')[0]}:{artifact.version}"
    return place | {
        "name": name,
        "type": artifact.type,
        "digest": artifact.manifest.digest(),  # of what is listed, and not of what the server says of it
        "aliases": list(artifact.aliases),
        "metadata": dict(artifact.metadata or {}),
        "files": files,
    }


def download_artifact(
    entity: str, project: str, name: str, digest: str, into: str, timeout_seconds: float
) -> None:
    """Write the files of a version into a directory, and compare them with their digests."""
    artifact, _ = find_artifact(entity, project, name, None, timeout_seconds)
    if artifact.manifest.digest() != digest:
        raise RefusedError("damaged", f"{name} is not what it was a moment ago")
    artifact.download(root=into)
    try:
        artifact.verify(into)
    except ValueError as error:
        raise RefusedError("damaged", str(error)) from error


def upload_artifact(
    path: str,
    entity: str | None,
    project: str | None,
    name: str,
    type: str,
    aliases: list[str],
    metadata: dict[str, Any],
    directory: str,
    timeout_seconds: float,
) -> dict[str, Any]:
    """Store a file or a directory as a new version of an artifact, in a short run of its own."""
    wandb = import_wandb()
    project = project or wandb.setup().settings.project or "metta"
    _, entity = open_api(entity, timeout_seconds)
    settings = wandb.Settings(
        console="off",
        init_timeout=timeout_seconds,
        finish_timeout=timeout_seconds,
        x_disable_stats=True,
        x_disable_meta=True,
        disable_git=True,
    )
    run = wandb.init(
        entity=entity,
        project=project,
        job_type=PUSH,
        name=name,
        mode="online",
        dir=directory,
        settings=settings,
    )
    artifact = wandb.Artifact(name, type=type, metadata=metadata)
    if os.path.isdir(path):
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    run.log_artifact(artifact, aliases=["latest", *aliases]).wait(timeout=max(1, int(timeout_seconds)))
    version = artifact.version
    missing = [alias for alias in aliases if alias not in artifact.aliases]
    if missing:  # the same content was there before, under other aliases
        artifact.aliases = [*artifact.aliases, *missing]
        artifact.save()
    run.summary.update({"agent_steps": metadata.get("agent_steps"), **metadata.get("scores", {})})
    run.finish()
    return {"entity": entity, "project": project, "type": type, "name": name, "version": version}


OPERATIONS: dict[str, Callable[..., Any]] = {
    "list_runs": list_runs,
    "resolve_artifact": resolve_artifact,
    "download_artifact": download_artifact,
    "upload_artifact": upload_artifact,
}


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return what is known of a failure, without W&B's classes."""
    if isinstance(error, RefusedError):
        return {"kind": error.kind, "text": str(error), "wanted": error.wanted, "known": error.known}
    types: list[str] = []
    status, cause = None, error
    while cause is not None and len(types) < 8:
        types.append(type(cause).__name__)
        response = getattr(cause, "response", None)
        found = getattr(response, "http_status", None) or getattr(response, "status_code", None)
        status = status or found or None
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    text = next(iter(str(error).strip().splitlines()), "")
    return {"kind": None, "text": text, "types": types, "status": status}


def main() -> None:
    """Answer one request and end at once."""
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # W&B's service process inherits this one, and must not keep the answer open
    server = None
    try:
        request = json.load(sys.stdin)
        wandb = import_wandb()
        server = wandb.setup().settings.base_url
        reply = {"result": OPERATIONS[request["operation"]](**request["arguments"]), "server": server}
    except BaseException as error:  # it is told to the other process, which decides
        reply = {"error": describe_error(error), "server": server}
    with os.fdopen(answer, "w") as file:
        json.dump(reply, file)
    os._exit(0)


if __name__ == "__main__":
    main()
