"""The adapter to W&B, with the real client, against a server on this machine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metta_cli.artifacts.wandb_client import (
    download_artifact,
    list_runs,
    resolve_artifact,
    upload_artifact,
)
from metta_cli.errors import AccessError, CheckpointError, MettaError, NotFoundError, UsageError

from .wandb_server import DROP, TAMPER, TRUNCATE, Fault, WandbServer

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def walker(wandb_server: WandbServer) -> WandbServer:
    """A server with two versions of one artifact; the first of them is called `best`."""
    backend = wandb_server.backend
    backend.add_artifact("team", "maze", "walker", {"model.pt": b"old"}, aliases=["best"])
    backend.add_artifact("team", "maze", "walker", {"model.pt": WEIGHTS, "notes/a.json": b"{}"})
    return wandb_server


def fetch(directory: Path, uri: str = "wandb://team/maze/model/walker:latest") -> dict[str, bytes]:
    into = directory / "files"
    into.mkdir()
    download_artifact(resolve_artifact(uri), into)
    assert [path.name for path in directory.iterdir() if path.name.startswith(".")] == []
    return {
        path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()
    }


def test_runs_come_newest_first_with_score_and_address(wandb_server: WandbServer) -> None:
    for number in range(7):
        summary = {"avg_simulation_score": number / 2, "_step": 3, "text": "x"}
        tags = ["even"] if number % 2 == 0 else []
        wandb_server.backend.add_run(
            "team", "maze", f"run{number}", id=f"id{number}", summary=summary, tags=tags
        )
    wandb_server.backend.add_run("team", "maze", "broken", state="crashed", summary={"losses": {"a": 1.0}})
    runs = list_runs("team", "maze", limit=3)
    assert [run["name"] for run in runs] == ["broken", "run6", "run5"]
    assert runs[1] == {
        "name": "run6",
        "id": "id6",
        "state": "finished",
        "score": 3.0,
        "created_at": "2026-01-01T00:07:00Z",
        "uri": "wandb://team/maze/model/run6:latest",
        "tags": ["even"],
        "sweep": None,
        "metrics": {"avg_simulation_score": 3.0},
    }
    assert runs[0]["score"] is None
    found = list_runs(
        "team",
        "maze",
        state="finished",
        filters={"summary_metrics.avg_simulation_score": {"$gte": 1.0}},
        order="+summary_metrics.avg_simulation_score",
    )
    assert [run["name"] for run in found] == ["run2", "run3", "run4", "run5", "run6"]


def test_a_hundred_and_more_runs_come_in_pages(
    wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(130):
        wandb_server.backend.add_run("tester", "maze", f"run{number}")
    monkeypatch.setenv("WANDB_PROJECT", "maze")
    assert len(list_runs(limit=120)) == 120
    assert wandb_server.requests.count("graphql:Runs") == 2


def test_a_version_is_found_by_number_alias_and_latest(walker: WandbServer) -> None:
    latest = resolve_artifact("wandb://team/maze/model/walker:latest")
    assert latest.qualified_name == "team/maze/walker:v1"
    assert latest.uri == "wandb://team/maze/model/walker:v1"
    assert {path: digest.bytes for path, digest in latest.files.items()} == {
        "model.pt": len(WEIGHTS),
        "notes/a.json": 2,
    }
    assert resolve_artifact("wandb://team/maze/walker:best").qualified_name == "team/maze/walker:v0"


def test_the_files_of_a_version_are_downloaded(walker: WandbServer, tmp_path: Path) -> None:
    assert fetch(tmp_path) == {"model.pt": WEIGHTS, "notes/a.json": b"{}"}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("wandb://team/maze/model/walkers", r"there is no such artifact \(did you mean 'walker'\?\)"),
        ("wandb://team/maze/walker:v9", r"there is no such version \(known: best, latest, v0, v1\)"),
        ("wandb://team/mazes/model/walker", r"there is no such project \(did you mean 'team/maze'\?\)"),
        (
            "wandb://team/maze/dataset/walker",
            r"it is of type 'model' \(.*'team/maze/model/walker:latest'\?\)",
        ),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(walker: WandbServer, uri: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message) as caught:
        resolve_artifact(uri)
    assert "\n" not in str(caught.value)


def test_a_project_that_there_is_not_is_told_with_those_that_there_are(walker: WandbServer) -> None:
    with pytest.raises(NotFoundError, match=r"no project team/mace.*did you mean 'team/maze'"):
        list_runs("team", "mace")


def test_a_project_that_nobody_named_is_told_so(wandb_server: WandbServer) -> None:
    with pytest.raises(UsageError, match=r"no project is given .*WANDB_ENTITY and WANDB_PROJECT"):
        list_runs("team")
    wandb_server.backend.add_run("team", "maze", "only")
    with pytest.raises(NotFoundError, match=r"W&B has no project maze: .*look at the entity"):
        list_runs(None, "maze")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, AccessError, r"wants an API key.*`wandb login`, or set WANDB_API_KEY"),
        (403, AccessError, r"refuses access to wandb://team/maze/walker:latest.*ask its owner"),
        (404, NotFoundError, "W&B has no wandb://team/maze/walker"),
    ],
)
def test_a_refusal_is_told_at_once(walker: WandbServer, status: int, kind: type, message: str) -> None:
    walker.faults = [Fault("graphql:ArtifactMembershipByName", status)]
    with pytest.raises(kind, match=message):
        resolve_artifact("wandb://team/maze/walker")


@pytest.mark.parametrize("key", ["", "short", "f" * 40])
def test_without_a_key_that_works_the_error_says_how_to_log_in(
    walker: WandbServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.raises(AccessError, match=rf"W&B \({walker.url}\) wants an API key: .*wandb login"):
        list_runs("team", "maze")


@pytest.mark.parametrize("effect", [500, 429, DROP])
def test_a_server_that_goes_on_failing_is_given_up_at_the_deadline(walker: WandbServer, effect: Any) -> None:
    walker.faults = [Fault("graphql:Runs", effect)]
    started = time.monotonic()
    with pytest.raises(MettaError, match=r"gave no answer about project team/maze within 4 s"):
        list_runs("team", "maze", deadline_seconds=4.0)
    assert time.monotonic() - started < 60.0


def test_a_server_that_never_answers_is_given_up_at_the_deadline(walker: WandbServer) -> None:
    walker.faults = [Fault("graphql", delay_seconds=600.0)]
    with pytest.raises(MettaError, match=r"gave no answer about project team/maze within 2 s"):
        list_runs("team", "maze", deadline_seconds=2.0)


def test_a_server_that_is_not_there_is_told_so(walker: WandbServer) -> None:
    walker.stop()
    with pytest.raises(MettaError, match=rf"W&B \({walker.url}\) cannot be reached: Connection refused"):
        list_runs("team", "maze")


def test_a_server_error_that_passes_is_survived(walker: WandbServer) -> None:
    walker.backend.add_run("team", "maze", "only")
    walker.faults = [Fault("graphql:Runs", 503, count=1)]
    assert [run["name"] for run in list_runs("team", "maze")] == ["only"]


@pytest.mark.parametrize("effect", [TAMPER, TRUNCATE])
def test_a_transfer_that_is_damaged_once_is_begun_again(
    walker: WandbServer, effect: Any, tmp_path: Path
) -> None:
    walker.faults = [Fault("/storage/artifact", effect, count=1)]
    assert fetch(tmp_path)["model.pt"] == WEIGHTS


@pytest.mark.parametrize("effect", [TAMPER, TRUNCATE])
def test_a_transfer_that_is_damaged_every_time_is_refused(
    walker: WandbServer, effect: Any, tmp_path: Path
) -> None:
    walker.faults = [Fault("/storage/artifact", effect)]
    with pytest.raises(MettaError, match=r"walker:v1 is damaged|broke off while sending .*walker:v1"):
        fetch(tmp_path)


def test_a_download_that_takes_too_long_is_stopped(walker: WandbServer, tmp_path: Path) -> None:
    resolved = resolve_artifact("wandb://team/maze/walker")
    walker.faults = [Fault("/storage/artifact", delay_seconds=600.0)]
    with pytest.raises(MettaError, match="no answer about wandb://team/maze/model/walker:v1 within 3 s"):
        download_artifact(resolved, tmp_path, 3.0)


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a\\b", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(wandb_server: WandbServer, path: str) -> None:
    wandb_server.backend.add_artifact("team", "maze", "evil", {path: b"x"})
    with pytest.raises(CheckpointError, match="is refused: a download must stay in its directory"):
        resolve_artifact("wandb://team/maze/evil")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "s3://bucket/model.pt", "http://127.0.0.1/x"])
def test_an_entry_that_refers_elsewhere_is_refused(wandb_server: WandbServer, target: str) -> None:
    def refer(contents: dict[str, Any]) -> None:
        contents["model.pt"]["ref"] = target

    wandb_server.backend.add_artifact("team", "maze", "evil", {"model.pt": b"x"}, manifest=refer)
    with pytest.raises(CheckpointError, match=r"only refers to its file 'model\.pt', which lies elsewhere"):
        resolve_artifact("wandb://team/maze/evil")


def test_what_is_uploaded_can_be_downloaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "notes").mkdir(parents=True)
    (source / "model.pt").write_bytes(WEIGHTS)
    (source / "notes/a.json").write_bytes(b"{}")
    uris = [
        upload_artifact(
            source, entity="team", project="maze", name="walker", aliases=["best"], metadata={"epoch": 3}
        )
        for _ in range(2)  # the same content again is no new version
    ]
    assert uris == ["wandb://team/maze/model/walker:v0"] * 2
    assert fetch(tmp_path, "wandb://team/maze/walker:best") == {"model.pt": WEIGHTS, "notes/a.json": b"{}"}
    [stored] = wandb_server.backend.versions("walker")
    assert set(stored.aliases) == {"latest", "best"}
    assert stored.metadata == {"epoch": 3}


def test_a_directory_of_old_runs_is_not_taken_for_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'metta-cli\[wandb\]'"):
        list_runs("team", "maze")


def test_no_secret_is_on_a_command_line(walker: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda words, **rest: started.append(words) or popen(words, **rest)
    )
    list_runs("team", "maze")
    assert started == [[sys.executable, "-P", "-m", "metta_cli.artifacts.wandb_child"]]
