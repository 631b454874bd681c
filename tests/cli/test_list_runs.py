from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from metta_cli.artifacts.checkpoints import save_checkpoint
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.testing.loaders import example_checkpoint

RUNS = ["young", "middle", "old"]


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs; the best is the oldest, the one of middle age has no score."""
    data_dir = tmp_path_factory.mktemp("runs")
    save(data_dir, "old", 1_000_000, {"avg_simulation_score": 0.9, "episode/recent_return_mean": 5.0}, [1, 2])
    save(data_dir, "middle", 2_000_000, {}, [4])
    save(data_dir, "young", 3_000_000, {"episode/recent_return_mean": 0.25}, [10])
    return data_dir


@pytest.fixture
def data_dir(template: Path, empty_working_directory: Path) -> Path:
    return shutil.copytree(template, empty_working_directory / "train_dir")


def save(data_dir: Path, run: str, began: float, scores: dict[str, float], epochs: list[int]) -> None:
    for epoch in epochs:
        checkpoint = example_checkpoint(run, epoch)
        config = {"trainer": {"total_timesteps": 3000}}
        manifest = checkpoint.manifest.model_copy(update={"scores": scores, "config": config})
        save_checkpoint(data_dir / run / "checkpoints", manifest, checkpoint.weights, None)
    (data_dir / run / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "timestamp": began}) + "\n")


def names(outcome) -> list[str]:
    return [row["name"] for row in json.loads(outcome.out)]


def test_the_table_has_the_columns_of_the_guide_and_the_newest_run_first(metta, data_dir):
    outcome = metta("list-runs")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0][:4] == ["RUN", "NAME", "SCORE", "CREATED"]
    assert lines[0][-1] == "URI"
    assert [line[:3] for line in lines[1:]] == [
        ["young", "0.25", "1970-02-04"],
        ["middle", "N/A", "1970-01-24"],
        ["old", "0.9", "1970-01-12"],
    ]
    assert [line[-1] for line in lines[1:]] == [f"train_dir/{run}:latest" for run in RUNS]


def test_uris_are_addresses_and_nothing_else(metta, data_dir):
    (data_dir / "empty" / "checkpoints").mkdir(parents=True)
    (data_dir / "empty" / "config.yaml").write_text("run: empty\n")
    outcome = metta("list-runs", "--format", "uris", "--limit", "3", "--sort", "name")
    assert outcome.out.splitlines() == ["train_dir/middle:latest", "train_dir/old:latest"]


def test_uris_can_be_loaded_as_they_are(metta, data_dir):
    uri = metta("list-runs", "--format", "uris", "--limit", "1").out.strip()
    assert load_checkpoint(uri).manifest.name == "young:v10"


def test_json_yaml_and_csv_have_the_same_runs(metta, data_dir):
    rows = json.loads(metta("list-runs", "--format", "json").out)
    assert [row["name"] for row in rows] == RUNS
    assert rows == yaml.safe_load(metta("list-runs", "--format", "yaml").out)
    lines = metta("list-runs", "--format", "csv").out.splitlines()
    assert lines[0].split(",")[:3] == ["name", "score", "created_at"]
    assert [line.split(",")[0] for line in lines[1:]] == RUNS
    assert rows[0] == {
        "name": "young",
        "score": 0.25,
        "created_at": "1970-02-04T17:20:00+00:00",
        "state": "finished",
        "sources": ["local"],
        "uri": "train_dir/young:latest",
        "uris": {"local": "train_dir/young:latest"},
        "agent_steps": 10_000,
        "environment": "example",
        "tags": [],
        "sweep": None,
    }


def test_without_an_account_it_says_so_on_stderr(metta, data_dir):
    outcome = metta("list-runs", "--format", "json")
    assert outcome.code == 0
    assert "without W&B: there is no account" in outcome.err


def test_what_is_cut_off_is_announced(metta, data_dir):
    outcome = metta("list-runs", "--limit", "2", "--format", "json")
    assert names(outcome) == RUNS[:2]
    assert "the first 2; there are more" in outcome.err
    everything = metta("list-runs", "--limit", "0", "--format", "json")
    assert names(everything) == RUNS
    assert "there are more" not in everything.err


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created", ["young", "middle", "old"]),
        ("-created", ["old", "middle", "young"]),
        ("score", ["old", "young", "middle"]),
        ("-score", ["young", "old", "middle"]),
        ("agent_steps", ["young", "middle", "old"]),
        ("name", ["middle", "old", "young"]),
        ("-name", ["young", "old", "middle"]),
    ],
)
def test_runs_can_be_sorted(metta, data_dir, sort, expected):
    assert names(metta("list-runs", "--sort", sort, "--format", "json")) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("name=*d*", ["middle", "old"]),
        ("name!=*d*", ["young"]),
        ("score>0.25", ["old"]),
        ("score>=0.25", ["young", "old"]),
        ("score<0.5", ["young"]),
        ("agent_steps<=4000", ["middle", "old"]),
        ("state=finished", ["young", "middle"]),
        ("source=local", ["young", "middle", "old"]),
        ("created>1970-01-20", ["young", "middle"]),
        ("environment=exam*", ["young", "middle", "old"]),
        ("tag=x", []),
    ],
)
def test_runs_can_be_filtered(metta, data_dir, expression, expected):
    assert names(metta("list-runs", "--filter", expression, "--format", "json")) == expected


def test_all_filters_must_hold(metta, data_dir):
    words = ("--filter", "score>0", "--filter", "name=y*", "--state", "finished")
    assert names(metta("list-runs", *words, "--format", "json")) == ["young"]


@pytest.mark.parametrize(
    "words",
    [
        ("--filter", "score"),
        ("--filter", "size>1"),
        ("--filter", "score>much"),
        ("--sort", "size"),
        ("--source", "ftp"),
        ("--source", "s3"),
        ("--format", "xml"),
        ("--limit", "-1"),
        ("--source", "s3", "--bucket", "ftp://bucket"),
    ],
)
def test_mistakes_end_with_2(metta, data_dir, words):
    outcome = metta("list-runs", *words)
    assert (outcome.code, outcome.out) == (2, "")


def test_no_runs_is_an_answer(metta):
    assert metta("list-runs", "--format", "json").out == "[]\n"
    for form in ("table", "uris"):
        outcome = metta("list-runs", "--format", form)
        assert (outcome.code, outcome.out) == (0, "")
        assert "no run" in outcome.err


def test_wandb_alone_needs_an_account(metta, data_dir):
    outcome = metta("list-runs", "--source", "wandb")
    assert outcome.code == 4
    assert "wandb login" in outcome.err


def test_a_run_that_is_being_trained_is_running(metta, data_dir):
    with open(data_dir / "old" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        rows = json.loads(metta("list-runs", "--format", "json").out)
    assert {row["name"]: row["state"] for row in rows} == {
        "young": "finished",
        "middle": "finished",
        "old": "running",
    }
    rows = json.loads(metta("list-runs", "--filter", "name=old", "--format", "json").out)
    assert rows[0]["state"] == "stopped"


@pytest.mark.parametrize(
    ("folder", "place"),
    [("run-20261121_000000-x", "wandb"), ("offline-run-20261121_000000-x", "wandb offline")],
)
def test_folders_of_wandb_name_a_place_of_a_run(metta, data_dir, folder, place):
    (data_dir / "old" / "wandb" / folder).mkdir(parents=True)
    (row,) = json.loads(metta("list-runs", "--filter", "name=old", "--format", "json").out)
    assert row["sources"] == ["local", place]
    assert row["uri"] == "train_dir/old:latest"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"scores": 3, "agent_steps": "x", "environment": []}'])
def test_a_manifest_that_makes_no_sense_does_not_hide_the_others(metta, data_dir, content):
    (data_dir / "old/checkpoints/old:v2/manifest.json").write_text(content)
    assert names(metta("list-runs", "--format", "json")) == RUNS


def test_the_data_directory_can_be_another(metta, data_dir, monkeypatch):
    os.rename(data_dir, data_dir.with_name("elsewhere"))
    assert names(metta("list-runs", "--format", "json")) == []
    assert names(metta("list-runs", "--data-dir", "elsewhere", "--format", "json")) == RUNS
    monkeypatch.setenv("METTA_DATA_DIR", "elsewhere")
    assert names(metta("list-runs", "--format", "json")) == RUNS


def test_it_is_quick_because_it_imports_nothing_heavy(data_dir):
    source = """
import sys
from metta_cli.cli.main import main
try:
    main(["list-runs"])
except SystemExit:
    pass
print(sorted({"torch", "mettagrid", "wandb", "s3fs", "boto3", "numpy"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_times_are_those_of_the_first_metrics(metta, data_dir):
    (data_dir / "old" / "metrics.jsonl").unlink()
    rows = json.loads(metta("list-runs", "--format", "json").out)
    created = {row["name"]: datetime.fromisoformat(row["created_at"]) for row in rows}
    assert rows[0]["name"] == "old"  # its newest checkpoint says when it was saved: just now
    assert created["young"] == datetime.fromtimestamp(3_000_000, UTC)
