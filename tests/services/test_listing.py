"""`metta list-runs` over this machine, the real W&B client and the real s3fs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from metta_cli.artifacts.checkpoints import save_checkpoint
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.errors import AccessError, MettaError, NotFoundError, UsageError
from metta_cli.runs import listing
from metta_cli.runs.listing import Query, list_runs
from metta_cli.runs.listing_sources import ListedRun
from metta_cli.runs.push import push
from metta_cli.testing.loaders import example_checkpoint

from .s3_server import BUCKET, S3Fault, S3Server
from .wandb_server import Fault, WandbServer

FOLDER = f"s3://{BUCKET}/runs"


def no_project() -> str:
    raise AssertionError("nobody should be asked for the project")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A run `walker` of this machine."""
    checkpoint = example_checkpoint("walker", 3)
    manifest = checkpoint.manifest.model_copy(update={"scores": {"avg_simulation_score": 0.5}})
    save_checkpoint(tmp_path / "train_dir/walker/checkpoints", manifest, checkpoint.weights)
    return tmp_path / "train_dir"


def test_runs_of_a_bucket_have_their_newest_complete_checkpoint(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.put_run("walker", [3, 12], tmp_path)
    s3_server.put_run("runner", [4], tmp_path)
    s3_server.put("runs/half/checkpoints/half:v1/weights.safetensors", b"no mark yet")
    s3_server.put("runs/notes.txt", b"something else")
    found = list_runs(Query(tmp_path / "none", source="s3", buckets=[FOLDER], sort="name"), no_project)
    assert [(run.name, run.uri, run.agent_steps) for run in found.runs] == [
        ("runner", f"{FOLDER}/runner:latest", 4000),
        ("walker", f"{FOLDER}/walker:latest", 12_000),
    ]
    assert load_checkpoint(str(found.runs[1].uri)).manifest.epoch == 12


def test_a_whole_bucket_can_be_listed(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.put_run("walker", [3], tmp_path, root="")
    found = list_runs(Query(tmp_path / "none", source="s3", buckets=[f"s3://{BUCKET}"]), no_project)
    assert [run.uri for run in found.runs] == [f"s3://{BUCKET}/walker:latest"]


def test_a_run_that_is_here_and_in_a_bucket_is_listed_once(s3_server: S3Server, data_dir: Path) -> None:
    push(FOLDER, "walker", data_dir=data_dir)
    (run,) = list_runs(Query(data_dir, buckets=[FOLDER]), no_project).runs
    assert run.uris == {"local": f"{data_dir}/walker:latest", "s3": f"{FOLDER}/walker:latest"}
    assert (run.uri, run.score) == (run.uris["local"], 0.5)
    (run,) = list_runs(Query(data_dir, source="s3", buckets=[FOLDER]), no_project).runs
    assert run.uri == f"{FOLDER}/walker:latest"


def test_a_run_that_is_here_and_on_wandb_is_listed_once(wandb_server: WandbServer, data_dir: Path) -> None:
    for name in ("walker", "elsewhere"):
        wandb_server.backend.add_run("team", "maze", name, summary={"score": 7.0}, tags=["good"])
    found = list_runs(Query(data_dir, entity="team", project="maze", sort="name"), no_project)
    assert found.remarks == []
    elsewhere, walker = found.runs
    assert elsewhere.uris == {"wandb": "wandb://team/maze/model/elsewhere:latest"}
    assert walker.uris == {
        "local": f"{data_dir}/walker:latest",
        "wandb": "wandb://team/maze/model/walker:latest",
    }
    assert (walker.score, walker.tags) == (0.5, ["good"])
    assert walker.created_at is not None
    assert walker.created_at.year == 2026  # when it was made there, which is before this test began


def test_wandb_and_a_bucket_are_asked_in_one_call(
    wandb_server: WandbServer, s3_server: S3Server, data_dir: Path, tmp_path: Path
) -> None:
    wandb_server.backend.add_run("team", "maze", "runner")
    s3_server.put_run("jumper", [4], tmp_path)
    query = Query(data_dir, entity="team", project="maze", buckets=[FOLDER], sort="name")
    assert [run.name for run in list_runs(query, no_project).runs] == ["jumper", "runner", "walker"]


def test_runs_of_wandb_are_filtered_and_sorted_as_all_others(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    for number in range(6):
        state = "crashed" if number == 5 else "finished"
        wandb_server.backend.add_run(
            "team", "maze", f"run{number}", state=state, summary={"score": float(number)}
        )
    query = Query(
        tmp_path, "wandb", "team", "maze", state="finished", filters=["score>1"], sort="-score", limit=2
    )
    found = list_runs(query, no_project)
    assert [run.name for run in found.runs] == ["run2", "run3"]
    assert found.num_found == 3


def test_more_runs_on_wandb_than_are_shown_are_announced(wandb_server: WandbServer, tmp_path: Path) -> None:
    for number in range(5):
        wandb_server.backend.add_run("team", "maze", f"run{number}")
    found = list_runs(Query(tmp_path, "wandb", "team", "maze", limit=3), no_project)
    assert [run.name for run in found.runs] == ["run4", "run3", "run2"]
    assert found.num_found > 3


def test_the_project_is_asked_for_where_no_settings_name_one(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wandb_server.backend.add_run("team", "maze", "walker")
    found = list_runs(Query(tmp_path, "wandb", "team"), lambda: "maze")
    assert [run.name for run in found.runs] == ["walker"]
    monkeypatch.setenv("WANDB_PROJECT", "maze")
    found = list_runs(Query(tmp_path, "wandb", "team"), no_project)
    assert [run.name for run in found.runs] == ["walker"]


@pytest.mark.parametrize("source", ["all", "wandb"])
def test_where_wandb_does_not_answer_the_other_runs_are_listed(
    wandb_server: WandbServer, data_dir: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "DEADLINE_SECONDS", 4.0)
    wandb_server.faults.append(Fault("", delay_seconds=60.0))
    query = Query(data_dir, source, "team", "maze")
    if source == "wandb":
        with pytest.raises(MettaError, match="W&B"):
            list_runs(query, no_project)
        return
    found = list_runs(query, no_project)
    assert [run.name for run in found.runs] == ["walker"]
    assert found.remarks[0].startswith("without W&B: ")


@pytest.mark.parametrize(
    ("fault", "remark"),
    [(S3Fault("/bucket", 403, "InvalidAccessKeyId"), "access key"), (S3Fault("/bucket", 500), "fails at")],
)
def test_where_s3_refuses_or_fails_the_other_runs_are_listed(
    s3_server: S3Server, data_dir: Path, fault: S3Fault, remark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "why_no_wandb", lambda: "not today")
    s3_server.faults.append(fault)
    found = list_runs(Query(data_dir, buckets=[FOLDER]), no_project)
    assert [run.name for run in found.runs] == ["walker"]
    assert found.remarks[0] == "without W&B: not today"
    assert found.remarks[1].startswith("without S3: ")
    assert remark in found.remarks[1]
    with pytest.raises(MettaError, match=remark):
        list_runs(Query(data_dir, "s3", buckets=[FOLDER]), no_project)


def test_no_network_is_known_at_once(
    s3_server: S3Server, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    query = Query(data_dir, entity="team", project="maze", buckets=[FOLDER])
    found = list_runs(query, no_project)
    assert [run.name for run in found.runs] == ["walker"]
    assert [remark.split(":")[0] for remark in found.remarks] == ["without W&B", "without S3"]


def test_a_missing_bucket_is_not_found(s3_server: S3Server, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no bucket 'buckett'.*did you mean"):
        list_runs(Query(tmp_path, "s3", buckets=["s3://buckett/runs"]), no_project)


def test_a_folder_that_is_none_is_a_mistake_even_among_all(s3_server: S3Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder on S3"):
        list_runs(Query(tmp_path, buckets=["bucket/runs"]), no_project)


def test_wandb_without_an_account_is_an_access_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(AccessError, match="no account"):
        list_runs(Query(tmp_path, "wandb"), no_project)
    (tmp_path / "none").write_text("machine api.wandb.ai login user password " + "k" * 40)
    assert listing.why_no_wandb() is None


def test_two_runs_of_one_name_in_one_place_stay_two() -> None:
    one, other = (ListedRun("walker", uris={"s3": f"s3://{name}/walker:latest"}) for name in ("a", "b"))
    assert listing.merge([one, other]) == [one, other]


def test_the_earliest_time_is_when_a_run_began() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    here, there = (
        ListedRun("x", late, uris={"local": "x"}),
        ListedRun("x", early, "crashed", uris={"wandb": "w"}),
    )
    (run,) = listing.merge([here, there])
    assert (run.created_at, run.state) == (early, "crashed")
