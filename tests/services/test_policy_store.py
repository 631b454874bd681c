"""The policy store over runs on W&B."""

from __future__ import annotations

import pytest

from metta_cli.api import Agent, Environment, PolicyStore
from metta_cli.errors import NotFoundError

from .wandb_server import WandbServer


@pytest.fixture
def project(wandb_server: WandbServer, tmp_path) -> WandbServer:
    """Two runs, each with a model and a score, and one that has neither."""
    store = PolicyStore({"trainer": {"checkpoint": {"checkpoint_dir": tmp_path / "made" / "checkpoints"}}})
    with Environment(env_config="navigation/simple") as env:
        for number, (name, score) in enumerate((("good", 0.9), ("newer", 0.2)), start=1):
            record = store.create_empty_policy_record(store.make_model_name(number))
            record.metadata = {"epoch": number, "note": name}
            record.policy = Agent(env, {"agent": {"hidden_size": 16}})
            path = store.save(record).file_path
            files = {file.name: file.read_bytes() for file in path.iterdir()}
            wandb_server.backend.add_run(
                "team", "maze", name, summary={"avg_simulation_score": score, "memory": 1 - score}
            )
            wandb_server.backend.add_artifact("team", "maze", name, files)
    return wandb_server


def test_the_runs_of_a_project_are_selected_without_loading_them(project: WandbServer, tmp_path) -> None:
    store = PolicyStore({"data_dir": str(tmp_path)})
    names = {
        selector: [each.run_name for each in store.policy_records("wandb://team/maze", selector, n=5)]
        for selector in ("latest", "top", "all")
    }
    assert names == {"latest": ["newer", "good"], "top": ["good", "newer"], "all": ["good", "newer"]}
    assert store.policy_record("wandb://team/maze", "top", metric="memory").run_name == "newer"
    assert not [request for request in project.requests if "files" in request]


def test_the_chosen_one_is_loaded_when_it_is_asked_for(project: WandbServer, tmp_path) -> None:
    record = PolicyStore({"data_dir": str(tmp_path)}).policy_record("wandb://team/maze", "top")
    assert record.metadata.score == 0.9
    assert record.policy.description["checkpoint"] == "made:v1"


def test_a_single_artifact_comes_with_the_metadata_that_it_was_saved_with(
    project: WandbServer, tmp_path
) -> None:
    record = PolicyStore({"data_dir": str(tmp_path)}).policy_record("wandb://team/maze/model/newer:latest")
    assert (record.metadata.epoch, record.metadata.note) == (2, "newer")


def test_an_empty_project_is_said(wandb_server: WandbServer) -> None:
    wandb_server.backend.add_run("team", "maze", "one", summary={})
    with pytest.raises(NotFoundError, match="has the metric 'score'"):
        PolicyStore().policy_record("wandb://team/maze", "top")
