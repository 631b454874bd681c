"""`metta_cli.api`: quick to import, and what its policies are."""

import subprocess
import sys

import pytest
import torch
from tensordict import TensorDict

from metta_cli import api
from metta_cli.artifacts.checkpoints import Architecture, CheckpointManifest, save_checkpoint
from metta_cli.config.catalogue import find_environment
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.policies.registry import create_policy


def save_policy(data_dir, environment="navigation/simple"):
    spec = find_environment(environment)
    passport = interface_of(build(spec))
    torch.manual_seed(0)
    policy = create_policy("fast", passport, {"hidden_size": 16})
    manifest = CheckpointManifest(
        run="walker",
        epoch=3,
        agent_steps=1000,
        architecture=Architecture(name="fast", args={"hidden_size": 16}),
        passport=passport,
        environment=spec,
    )
    save_checkpoint(data_dir / "walker" / "checkpoints", manifest, policy.state_dict(), None)
    return policy, passport


def act(policy, interface, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 255, (4, 20, 3), generator=generator, dtype=torch.uint8)
    tokens[..., 1] %= len(interface.feature_names)
    td = TensorDict({"env_obs": tokens, "dones": torch.zeros(4, dtype=torch.bool)}, batch_size=[4])
    with torch.no_grad():
        return policy(td, policy.initial_state(4, "cpu"))["full_log_probs"]


def test_importing_the_names_imports_no_torch_until_one_is_used():
    code = """
import sys
from metta_cli import api
assert "torch" not in sys.modules and "mettagrid" not in sys.modules
assert "load_policy_from_checkpoint" in dir(api)
from metta_cli.api import SimulationSuiteConfig
assert "torch" not in sys.modules
api.load_policy_from_checkpoint
assert "torch" in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute nonsense"):
        _ = api.nonsense


def test_a_loaded_policy_acts_as_the_one_that_was_saved(tmp_path):
    policy, passport = save_policy(tmp_path)
    loaded = api.load_policy_from_checkpoint("walker", data_dir=tmp_path)
    assert torch.equal(act(loaded, passport), act(policy, passport))


def test_a_loaded_policy_is_matched_by_name_to_another_environment(tmp_path):
    save_policy(tmp_path)
    interface = interface_of(build(find_environment("laser_tag")))
    loaded = api.load_policy_from_checkpoint("walker", data_dir=tmp_path, env="laser_tag")
    assert act(loaded, interface).shape == (4, interface.num_actions)


def test_the_module_inside_a_record_has_the_weights_by_their_own_names(tmp_path):
    policy, _ = save_policy(tmp_path)
    store = api.PolicyStore({"device": "cpu", "data_dir": str(tmp_path)}, wandb_run=None)
    record = store.load_from_uri("file://walker")
    weights = record.policy.policy.state_dict()
    assert weights.keys() == policy.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in policy.state_dict().items())
    assert record.metadata["checkpoint"] == "walker:v3"
