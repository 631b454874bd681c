"""`metta inspect`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metta_cli.artifacts.checkpoints import Architecture, CheckpointManifest, save_checkpoint
from metta_cli.config.catalogue import find_environment, suite_names
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.policies.registry import create_policy
from tests.unit.policies import puffer_reference as reference


@pytest.fixture
def walker():
    """A checkpoint of navigation/simple in the data directory."""
    spec = find_environment("navigation/simple")
    passport = interface_of(build(spec))
    policy = create_policy("fast", passport, {"hidden_size": 16})

    def save(**changes):
        manifest = CheckpointManifest(
            run="walker",
            epoch=3,
            agent_steps=1000,
            architecture=Architecture(name="fast", args={"hidden_size": 16}),
            passport=replace(passport, **changes),
            environment=spec,
        )
        save_checkpoint(Path("train_dir/walker/checkpoints"), manifest, policy.state_dict(), None)
        return policy

    return save


def test_a_checkpoint_is_described_as_data(metta, walker):
    policy = walker()
    data = json.loads(metta("inspect", "walker", "--format", "json").out)
    assert data["format"] == "metta checkpoint"
    assert data["architecture"] == {"name": "fast", "args": {"hidden_size": 16}}
    assert data["num_parameters"] == sum(tensor.numel() for tensor in policy.state_dict().values())
    assert {tensor["name"] for tensor in data["tensors"]} == set(policy.state_dict())
    assert data["passport"]["action_names"][0] == "noop"
    assert data["provenance"]["agent_steps"] == 1000
    assert data["provenance"]["can_resume"] is False
    assert set(data["suites"]) == set(suite_names())
    assert data["suites"]["navigation_single"]["navigation/simple"] == {"fit": "compatible", "notes": []}
    laser_tag = data["suites"]["laser_tag"]["laser_tag/simple"]
    assert laser_tag["fit"] == "remapped"
    assert any("actions that are new to the policy" in note for note in laser_tag["notes"])


def test_a_checkpoint_that_can_play_nothing_says_why(metta, walker):
    count = interface_of(build(find_environment("navigation/simple"))).num_actions
    walker(action_names=tuple(f"jump_{number}" for number in range(count)))
    data = json.loads(metta("inspect", "walker", "--format", "json").out)
    fits = [fit for simulations in data["suites"].values() for fit in simulations.values()]
    assert {fit["fit"] for fit in fits} == {"incompatible"}
    assert all("none of the actions" in fit["notes"][0] for fit in fits)


def test_the_text_has_the_tensors_and_the_suites(metta, walker):
    walker()
    lines = metta("inspect", "walker").out.splitlines()
    assert lines[0] == "walker: metta checkpoint"
    assert "architecture: fast hidden_size=16" in lines
    assert any(line.startswith("navigation_single") and "compatible" in line for line in lines)
    assert metta("inspect", "walker", "--format", "csv").out.splitlines()[0] == "suite,simulation,fit,notes"


def test_weights_of_another_tool_are_recognised_and_say_how(metta):
    torch.save(reference.Recurrent(reference.Spaces()).state_dict(), "metta.pt")
    data = json.loads(metta("inspect", "metta.pt", "--format", "json").out)
    assert data["architecture"] == {
        "name": "puffer_recurrent",
        "args": {"hidden_size": 16, "cnn_channels": 8},
    }
    assert any("22 channels" in reason for reason in data["recognised_by"])
    fits = [fit for simulations in data["suites"].values() for fit in simulations.values()]
    assert {fit["fit"] for fit in fits} == {"remapped"}
    assert data["passport"]["feature_names"][:3] == ["type_id", "agent:group", "hp"]
    assert "rotate_0" in data["passport"]["action_names"]


def test_weights_of_an_unknown_architecture_are_described_with_the_reason(metta):
    torch.save({"model": {"module.odd": torch.zeros(3, 2)}, "optimizer": {"lr": 0.1}}, "odd.pt")
    outcome = metta("inspect", "odd.pt", "--format", "json")
    data = json.loads(outcome.out)
    assert outcome.code == 0
    assert (data["format"], data["architecture"], data["suites"]) == ("state_dict", None, {})
    assert data["tensors"] == [{"name": "odd", "shape": [3, 2], "dtype": "float32"}]
    assert data["obstacle"]["reason"]
    assert data["provenance"]["left_aside"] == {"optimizer.lr": 0.1} or "optimizer" in str(
        data["provenance"]["left_aside"]
    )
    assert "cannot be played: " in metta("inspect", "odd.pt").out


def test_nothing_there_is_an_error(metta):
    outcome = metta("inspect", "pytorch://nothing.pt")
    assert outcome.code == 5
    assert outcome.err.startswith("error: there is no file 'nothing.pt'")
