"""What a W&B server knows, and its answers to the GraphQL requests of the real client.

Only what `metta` makes the client ask for. The answers have the fields that the client of version 0.31 reads;
no server features are announced, so that it takes its simplest ways.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

VIEWER = "tester"
Answer = dict[str, Any]


def opaque_id(*parts: str) -> str:
    return base64.b64encode(":".join(parts).encode()).decode()


def md5_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


@dataclass
class Run:
    entity: str
    project: str
    id: str
    number: int
    created_at: str
    display_name: str = ""
    state: str = "running"
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """Return what a filter or an order means by a key."""
        if key.startswith("summary_metrics."):
            return self.summary.get(key.removeprefix("summary_metrics."))
        if key.startswith("config."):
            entry = self.config.get(key.removeprefix("config.").removesuffix(".value"))
            return entry.get("value") if isinstance(entry, dict) else entry
        names = {"created_at": "created_at", "createdAt": "created_at", "displayName": "display_name"}
        return getattr(self, names.get(key, key), None)


@dataclass
class Artifact:
    entity: str
    project: str
    name: str
    type: str
    id: str
    digest: str
    metadata: dict[str, Any] = field(default_factory=dict)
    version: int | None = None
    aliases: list[str] = field(default_factory=list)
    wanted_aliases: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    manifest_blob: str = ""
    run_id: str | None = None

    @property
    def is_committed(self) -> bool:
        return self.version is not None


class Backend:
    """Runs, artifacts and blobs in memory."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.url = ""
        self.runs: dict[tuple[str, str, str], Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, str] = {}
        self._count = itertools.count(1)

    # What tests put in and look at.

    def add_run(self, entity: str, project: str, name: str, *, id: str = "", **fields: Any) -> Run:
        """Add a finished run; each is a minute younger than the one before."""
        with self.lock:
            run = self._create_run(entity, project, id or name)
            run.display_name, run.state = name, "finished"
            vars(run).update(fields)
            return run

    def add_artifact(
        self,
        entity: str,
        project: str,
        name: str,
        files: Mapping[str, bytes],
        *,
        type: str = "model",
        aliases: Sequence[str] = (),
        manifest: Callable[[dict[str, Any]], None] = lambda contents: None,
    ) -> Artifact:
        """Add a version of an artifact; `manifest` may change the entries of its manifest."""
        with self.lock:
            artifact = self._create_artifact(
                entity, project, name, type, digest=f"digest-{next(self._count)}"
            )
            contents: dict[str, Any] = {}
            for path, data in files.items():
                blob = self._blob_of(artifact, path)
                artifact.files[path], self.blobs[blob] = blob, data
                contents[path] = {"digest": md5_base64(data), "size": len(data)}
            manifest(contents)
            artifact.manifest_blob = f"manifest/{artifact.id}"
            self.blobs[artifact.manifest_blob] = manifest_json(contents)
            artifact.wanted_aliases = list(aliases)
            self._commit(artifact)
            return artifact

    def run(self, name: str) -> Run:
        """Return the only run of a displayed name."""
        [found] = [run for run in self.runs.values() if run.display_name == name]
        return found

    def versions(self, name: str) -> list[Artifact]:
        """Return the committed versions of an artifact, the oldest first."""
        found = [a for a in self.artifacts.values() if a.name == name and a.is_committed]
        return sorted(found, key=lambda artifact: artifact.version or 0)

    # Requests.

    def answer(self, operation: str, variables: Answer) -> Answer:
        """Return the data for a GraphQL operation.

        Raises:
            KeyError: it is not known.
        """
        resolver = RESOLVERS[operation]
        with self.lock:
            return resolver(self, _Variables(variables))

    def _create_run(self, entity: str, project: str, id: str) -> Run:
        number = next(self._count)
        created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        run = Run(entity, project, id, number, created.strftime("%Y-%m-%dT%H:%M:%SZ"), display_name=id)
        self.runs[entity, project, id] = run
        return run

    def _create_artifact(self, entity: str, project: str, name: str, type: str, *, digest: str) -> Artifact:
        artifact = Artifact(
            entity, project, name, type, opaque_id("Artifact", str(next(self._count))), digest
        )
        self.artifacts[artifact.id] = artifact
        return artifact

    def _blob_of(self, artifact: Artifact, path: str) -> str:
        return f"artifact/{artifact.id.rstrip('=')}/{hashlib.sha256(path.encode()).hexdigest()}"

    def _commit(self, artifact: Artifact) -> None:
        earlier = [other for other in self.versions(artifact.name) if _same_collection(other, artifact)]
        artifact.version = len(earlier)
        artifact.aliases = list(dict.fromkeys([*artifact.wanted_aliases, "latest"]))
        for other in earlier:
            other.aliases = [alias for alias in other.aliases if alias not in artifact.aliases]

    def _find_artifact(self, entity: str, project: str, name: str) -> Artifact | None:
        name, _, version = name.partition(":")
        for artifact in self.versions(name):
            is_there = (artifact.entity, artifact.project) == (entity, project)
            if is_there and version in (*artifact.aliases, f"v{artifact.version}", artifact.digest):
                return artifact
        return None

    def _projects(self) -> set[tuple[str, str]]:
        owned: Iterable[Run | Artifact] = [*self.runs.values(), *self.artifacts.values()]
        return {(thing.entity, thing.project) for thing in owned}

    def project(self, entity: str, project: str) -> Answer | None:
        if (entity, project) not in self._projects():
            return None
        return {
            "__typename": "Project",
            "id": opaque_id("Project", project, entity),
            "internalId": opaque_id("ProjectInternalId", "7"),
            "name": project,
            "entityName": entity,
            "createdAt": "2026-01-01T00:00:00Z",
            "isBenchmark": False,
            "entity": {"id": opaque_id("Entity", entity), "name": entity},
        }

    def within_project(self, variables: _Variables, **fields: Any) -> Answer:
        """Return fields of the project that the variables name; None if there is no such project."""
        project = self.project(variables.entity, variables.project)
        return {"project": project and project | fields}

    def run_node(self, run: Run) -> Answer:
        steps = [row.get("_step", 0) for row in run.history]
        return {
            "id": opaque_id("Run", "v1", run.id, run.project, run.entity),
            "projectId": "7",
            "name": run.id,
            "displayName": run.display_name,
            "state": run.state,
            "tags": run.tags,
            "createdAt": run.created_at,
            "heartbeatAt": run.created_at,
            "user": {"name": "Tester", "username": VIEWER},
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(run.history),
            "historyKeys": {"step": 0, "lastStep": max(steps, default=-1), "keys": {}},
            "project": self.project(run.entity, run.project),
            "jobType": run.settings.get("jobType"),
            **dict.fromkeys(("sweepName", "group", "commit", "description", "notes")),
            "readOnly": False,
            "stopped": False,
        }

    def collection_node(self, artifact: Artifact) -> Answer:
        return {
            "__typename": "ArtifactSequence",
            "id": opaque_id("ArtifactCollection", artifact.name),
            "name": artifact.name,
            "description": None,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
            "project": self.project(artifact.entity, artifact.project),
            "type": {"name": artifact.type},
            "tags": {"edges": []},
        }

    def artifact_node(self, artifact: Artifact) -> Answer:
        collection = self.collection_node(artifact)
        contents = json.loads(self.blobs.get(artifact.manifest_blob, b"{}")).get("contents", {})
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": collection,
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": None,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED" if artifact.is_committed else "PENDING",
            "size": sum(entry.get("size", 0) for entry in contents.values()),
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": artifact.id[:20],
            "fileCount": len(artifact.files),
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
            "aliases": [alias_node(alias) | {"artifactCollection": collection} for alias in artifact.aliases],
        }

    def upload_target(self, blob: str) -> Answer:
        return {"uploadUrl": f"{self.url}/storage/{blob}", "uploadHeaders": []}


class _Variables(dict):
    """Variables of a request, with the names that say where it looks."""

    @property
    def entity(self) -> str:
        return str(self.get("entity") or self.get("entityName") or VIEWER)

    @property
    def project(self) -> str:
        return str(self.get("project") or self.get("projectName") or "uncategorized")


def manifest_json(contents: Mapping[str, Any]) -> bytes:
    layout = {"storagePolicy": "wandb-storage-policy-v1", "storagePolicyConfig": {"storageLayout": "V2"}}
    return json.dumps({"version": 1, **layout, "contents": contents}).encode()


def alias_node(alias: str) -> Answer:
    return {"__typename": "ArtifactAlias", "id": opaque_id("Alias", alias), "alias": alias}


def page(items: Sequence[Any], variables: _Variables, node: Callable[[Any], Answer]) -> Answer:
    """Return one page of a list; the cursor is the number of items before it."""
    start, count = int(variables.get("cursor") or 0), variables.get("perPage") or 50
    shown = items[start : start + count]
    edges = [{"node": node(item), "cursor": str(start + i + 1)} for i, item in enumerate(shown)]
    info = {"endCursor": str(start + len(shown)), "hasNextPage": start + len(shown) < len(items)}
    return {"totalCount": len(items), "edges": edges, "pageInfo": {"__typename": "PageInfo"} | info}


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: value == wanted,
    "$ne": lambda value, wanted: value != wanted,
    "$gt": lambda value, wanted: value is not None and value > wanted,
    "$gte": lambda value, wanted: value is not None and value >= wanted,
    "$lt": lambda value, wanted: value is not None and value < wanted,
    "$lte": lambda value, wanted: value is not None and value <= wanted,
    "$in": lambda value, wanted: bool(set(value if isinstance(value, list) else [value]) & set(wanted)),
    "$regex": lambda value, wanted: re.search(wanted, value or "") is not None,
}


def matches(run: Run, filters: Mapping[str, Any]) -> bool:
    """Whether a run passes a filter in the manner of MongoDB."""
    for key, wanted in filters.items():
        if key == "$and":
            passes = all(matches(run, each) for each in wanted)
        elif key == "$or":
            passes = any(matches(run, each) for each in wanted)
        elif isinstance(wanted, dict):
            passes = all(_TESTS[test](run.value(key), argument) for test, argument in wanted.items())
        else:
            passes = run.value(key) == wanted
        if not passes:
            return False
    return True


def _same_collection(one: Artifact, other: Artifact) -> bool:
    return (one.entity, one.project, one.name) == (other.entity, other.project, other.name)


def _viewer(backend: Backend, variables: _Variables) -> Answer:
    nobody: Answer = {"edges": []}
    viewer = {"id": opaque_id("User", VIEWER), "entity": VIEWER, "username": VIEWER, "name": "Tester"}
    viewer |= {"__typename": "User", "email": "tester@example.org", "admin": False, "flags": "{}"}
    return {"viewer": viewer | {"teams": nobody, "apiKeys": nobody, "organizations": [], "deletedAt": None}}


def _runs(backend: Backend, variables: _Variables) -> Answer:
    place = (variables.entity, variables.project)
    runs = [run for run in backend.runs.values() if (run.entity, run.project) == place]
    runs = [run for run in runs if matches(run, json.loads(variables.get("filters") or "{}"))]
    order = variables.get("order") or "+created_at"
    key = order.lstrip("+-")

    def rank(run: Run) -> tuple[bool, Any, int]:
        value = run.value(key)
        return (value is not None, 0 if value is None else value, run.number)

    runs.sort(key=rank, reverse=order.startswith("-"))
    listed = page(runs, variables, backend.run_node)
    return backend.within_project(variables, runCount=len(runs), runs=listed)


def _run(backend: Backend, variables: _Variables) -> Answer:
    run = backend.runs.get((variables.entity, variables.project, variables.get("name", "")))
    return backend.within_project(variables, run=run and backend.run_node(run))


def _resume_status(backend: Backend, variables: _Variables) -> Answer:
    run = backend.runs.get((variables.entity, variables.project, variables["name"]))
    bucket = None
    if run is not None:
        tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
        counts = {"logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "historyTail": tail}
        bucket = backend.run_node(run) | counts | {"wandbConfig": json.dumps({"t": 1})}
    return {"model": {"id": "model", "name": variables.project, "entity": {"name": "e"}, "bucket": bucket}}


def _upsert_run(backend: Backend, variables: _Variables) -> Answer:
    key = (variables.entity, variables.project, variables["name"])
    is_new = key not in backend.runs
    run = backend._create_run(*key) if is_new else backend.runs[key]
    run.display_name = variables.get("displayName") or run.display_name
    run.tags = variables.get("tags") or run.tags
    run.settings |= {
        name: variables[name] for name in ("groupName", "notes", "jobType") if variables.get(name)
    }
    for name, text in (("config", variables.get("config")), ("summary", variables.get("summaryMetrics"))):
        if text:
            setattr(run, name, json.loads(text))
    if is_new or run.state != "running":
        run.state = variables.get("state") or "running"
    return {"upsertBucket": {"bucket": backend.run_node(run), "inserted": is_new}}


def _create_run_files(backend: Backend, variables: _Variables) -> Answer:
    files = [{"name": name} | backend.upload_target(f"run/{name}") for name in variables["files"]]
    return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}


def _create_artifact(backend: Backend, variables: _Variables) -> Answer:
    wanted = variables["input"]
    names = wanted.get("artifactCollectionNames") or [wanted.get("artifactCollectionName")]
    place = (wanted["entityName"], wanted["projectName"], names[0])
    collection = [a for a in backend.versions(names[0]) if (a.entity, a.project, a.name) == place]
    same = [artifact for artifact in collection if artifact.digest == wanted["digest"]]
    if same:
        artifact = same[-1]
    else:
        artifact = backend._create_artifact(*place, wanted["artifactTypeName"], digest=wanted["digest"])
        artifact.metadata = json.loads(wanted.get("metadata") or "{}")
        artifact.run_id = wanted.get("runName")
        artifact.wanted_aliases = [entry["alias"] for entry in wanted.get("aliases") or []]
    latest = {"id": collection[-1].id} if collection else None
    state = "COMMITTED" if artifact.is_committed else "PENDING"
    node = {"id": artifact.id, "state": state, "artifactSequence": {"latestArtifact": latest}}
    return {"createArtifact": {"artifact": node}}


def _create_manifest(backend: Backend, variables: _Variables) -> Answer:
    id = opaque_id("ArtifactManifest", str(next(backend._count)))
    blob = f"manifest/{id}"
    backend.manifests[id] = variables["artifactID"]
    if variables.get("includeUpload"):
        backend.artifacts[variables["artifactID"]].manifest_blob = blob
    file = {"id": id} | backend.upload_target(blob)
    return {"createArtifactManifest": {"artifactManifest": {"id": id, "file": file}}}


def _update_manifest(backend: Backend, variables: _Variables) -> Answer:
    id = variables["artifactManifestID"]
    blob = f"manifest/{id}"
    backend.artifacts[backend.manifests[id]].manifest_blob = blob
    file = {"id": id} | backend.upload_target(blob)
    return {"updateArtifactManifest": {"artifactManifest": {"id": id, "file": file}}}


def _create_artifact_files(backend: Backend, variables: _Variables) -> Answer:
    edges = []
    for wanted in variables["input"]["artifactFiles"] if "input" in variables else variables["artifactFiles"]:
        artifact, name = backend.artifacts[wanted["artifactID"]], wanted["name"]
        blob = artifact.files[name] = backend._blob_of(artifact, name)
        node = {"name": name, "displayName": name, "storagePath": blob, "uploadMultipartUrls": None}
        edges.append({"node": node | {"artifact": {"id": artifact.id}} | backend.upload_target(blob)})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def _commit_artifact(backend: Backend, variables: _Variables) -> Answer:
    artifact = backend.artifacts[variables["artifactID"]]
    if not artifact.is_committed:
        backend._commit(artifact)
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}


def _add_aliases(backend: Backend, variables: _Variables) -> Answer:
    artifact = backend.artifacts[variables["input"]["artifactID"]]
    for wanted in variables["input"]["aliases"]:
        for other in backend.versions(artifact.name):
            other.aliases = [alias for alias in other.aliases if alias != wanted["alias"]]
        artifact.aliases.append(wanted["alias"])
    return {"result": {"success": True}}


def _update_artifact(backend: Backend, variables: _Variables) -> Answer:
    return {
        "result": {"artifact": backend.artifact_node(backend.artifacts[variables["input"]["artifactID"]])}
    }


def _membership(backend: Backend, variables: _Variables) -> Answer:
    artifact = backend._find_artifact(variables.entity, variables.project, variables["name"])
    membership = artifact and {
        "__typename": "ArtifactCollectionMembership",
        "id": opaque_id("Membership", artifact.id),
        "versionIndex": artifact.version,
        "createdAt": "2026-01-01T00:00:00Z",
        "aliases": [alias_node(alias) for alias in artifact.aliases],
        "artifactCollection": backend.collection_node(artifact),
        "artifact": backend.artifact_node(artifact),
    }
    return backend.within_project(variables, artifactCollectionMembership=membership)


def _manifest_url(backend: Backend, variables: _Variables) -> Answer:
    artifact = backend.artifacts[variables["id"]]
    url = f"{backend.url}/storage/{artifact.manifest_blob}"
    return {"artifact": {"currentManifest": {"id": "manifest", "file": {"directUrl": url}}}}


def _artifact(backend: Backend, variables: _Variables) -> Answer:
    return {"artifact": backend.artifact_node(backend.artifacts[variables["id"]])}


def _file_urls(backend: Backend, variables: _Variables) -> Answer:
    name = f"{variables['collection']}:{variables['alias']}"
    artifact = backend._find_artifact(variables.entity, variables.project, name)
    assert artifact is not None

    def node(file: tuple[str, str]) -> Answer:
        return {"__typename": "File", "name": file[0], "directUrl": f"{backend.url}/storage/{file[1]}"}

    membership = {"files": page(list(artifact.files.items()), variables, node)}
    collection = {"__typename": "ArtifactSequence", "artifactMembership": membership}
    return backend.within_project(variables, artifactCollection=collection)


def _artifact_versions(backend: Backend, variables: _Variables) -> Answer:
    versions = [
        artifact
        for artifact in reversed(backend.versions(variables["collection"]))
        if (artifact.entity, artifact.project) == (variables.entity, variables.project)
    ]
    listed = page(versions, variables, backend.artifact_node)
    for edge, artifact in zip(listed["edges"], versions, strict=False):
        edge["version"] = f"v{artifact.version}"
    collection = {"__typename": "ArtifactSequence", "artifacts": listed} if versions else None
    return backend.within_project(variables, artifactType={"artifactCollection": collection})


def _collections(backend: Backend, variables: _Variables) -> Answer:
    newest = {
        artifact.name: artifact
        for artifact in backend.artifacts.values()
        if (artifact.entity, artifact.project) == (variables.entity, variables.project)
        and artifact.type == variables.get("type", artifact.type)
    }
    listed = page(list(newest.values()), variables, backend.collection_node)
    by_type = {"artifactCollections": listed}
    return backend.within_project(variables, artifactCollections=listed, artifactType=by_type)


def _artifact_type(backend: Backend, variables: _Variables) -> Answer:
    name = str(variables.get("name") or "").partition(":")[0]
    type = next((a.type for a in backend.artifacts.values() if a.name == name), None)
    return backend.within_project(variables, artifact=type and {"artifactType": {"name": type}})


def _type(backend: Backend, variables: _Variables) -> Answer:
    node = {
        "__typename": "ArtifactType",
        "id": opaque_id("Type", variables["type"]),
        "name": variables["type"],
    }
    node |= {"description": None, "createdAt": "2026-01-01T00:00:00Z"}
    return backend.within_project(variables, artifactType=node)


def _projects(backend: Backend, variables: _Variables) -> Answer:
    places = sorted(place for place in backend._projects() if place[0] == variables.entity)

    def node(place: tuple[str, str]) -> Answer:
        return (backend.project(*place) or {}) | {"user": None}

    return {"models": page(places, variables, node)}


RESOLVERS: dict[str, Callable[[Backend, _Variables], Answer]] = {
    "Viewer": _viewer,
    "GetViewer": _viewer,
    "GetDefaultEntity": _viewer,
    "ServerFeaturesQuery": lambda backend, variables: {"serverInfo": {"features": []}},
    "OrganizationCoreWeaveOrganizationID": lambda backend, variables: {"entity": {"organization": None}},
    "Runs": _runs,
    "LightweightRuns": _runs,
    "Run": _run,
    "RunStoppedStatus": _run,
    "RunResumeStatus": _resume_status,
    "UpsertBucket": _upsert_run,
    "CreateRunFiles": _create_run_files,
    "CreateArtifact": _create_artifact,
    "CreateArtifactManifest": _create_manifest,
    "UpdateArtifactManifest": _update_manifest,
    "CreateArtifactFiles": _create_artifact_files,
    "CommitArtifact": _commit_artifact,
    "AddAliases": _add_aliases,
    "UpdateArtifact": _update_artifact,
    "ArtifactMembershipByName": _membership,
    "FetchArtifactManifest": _manifest_url,
    "ArtifactByID": _artifact,
    "GetArtifactMembershipFileUrls": _file_urls,
    "ProjectArtifacts": _artifact_versions,
    "ProjectArtifactCollections": _collections,
    "ArtifactTypeArtifactCollections": _collections,
    "ArtifactType": _artifact_type,
    "ProjectArtifactType": _type,
    "GetProjects": _projects,
}
