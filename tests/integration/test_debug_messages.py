"""What is said at DEBUG: how a policy was found, read and recognised."""

import logging

import pytest
import torch

from metta_cli.api import Agent, Environment, PolicyStore, load_policy_from_checkpoint


@pytest.fixture
def saved(tmp_path):
    store = PolicyStore({"trainer": {"checkpoint": {"checkpoint_dir": tmp_path / "walker" / "checkpoints"}}})
    record = store.create_empty_policy_record("walker:v3")
    record.metadata = {"epoch": 3, "agent_step": 70}
    with Environment(num_agents=1, width=6, height=6) as env:
        record.policy = Agent(env, {"agent": {"hidden_size": 16}})
        return store.save(record)


def test_a_checkpoint_of_ours_is_told_with_loader_and_architecture(saved, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, logger="metta_cli"):
        load_policy_from_checkpoint("walker", data_dir=tmp_path)
    assert "file://walker: loader metta_plugins.loaders.file.FileLoader" in caplog.text
    assert "file://walker: found walker:v3 in" in caplog.text
    assert "walker:v3: policy fast {'hidden_size': 16, 'num_layers': 1}" in caplog.text


def test_a_foreign_file_is_told_with_what_recognised_it(saved, tmp_path, caplog):
    path = tmp_path / "weights.pt"
    torch.save({"network.0.weight": torch.zeros(2, 2)}, path)
    with caplog.at_level(logging.DEBUG, logger="metta_cli"), pytest.raises(Exception, match="not recognised"):
        load_policy_from_checkpoint(str(path))
    assert "weights.pt: " in caplog.text
    assert "1 tensors" in caplog.text
    assert "puffer: no" in caplog.text
