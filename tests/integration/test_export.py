"""`metta export`: every form is read back by the program it is for, and acts as the policy does."""

import json
import logging

import pytest
import safetensors.torch
import torch
from mettagrid.policy.loader import initialize_or_load_policy
from mettagrid.policy.policy_env_interface import PolicyEnvInterface
from mettagrid.policy.prepare_policy_spec import load_policy_spec_from_path
from mettagrid.simulator.rollout import Rollout
from tensordict import TensorDict

from metta_cli.artifacts.checkpoints import Architecture, CheckpointManifest, save_checkpoint
from metta_cli.config.catalogue import find_environment
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import IncompatibleError, UsageError
from metta_cli.policies.registry import create_policy
from metta_cli.runs import export as export_module
from metta_cli.runs.export import export_policy
from metta_cli.runs.mettagrid_policy import interface_from
from tests.unit.policies import puffer_reference as reference


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def walker(tmp_path):
    """A policy of navigation/simple with actions that it prefers, saved as the run `walker`."""
    spec = find_environment("navigation/simple")
    passport = interface_of(build(spec))
    torch.manual_seed(0)
    policy = create_policy("fast", passport, {"hidden_size": 16})
    with torch.no_grad():
        policy.policy.actor_weight.mul_(50)
    manifest = CheckpointManifest(
        run="walker",
        epoch=3,
        agent_steps=1000,
        architecture=Architecture(name="fast", args={"hidden_size": 16}),
        passport=passport,
        environment=spec,
    )
    save_checkpoint(tmp_path / "train_dir/walker/checkpoints", manifest, policy.state_dict(), None)
    return policy


def export(uri, form, path, environment="navigation/simple"):
    return export_policy(
        uri,
        form,
        path,
        data_dir=path.parent / "train_dir",
        environment=find_environment(environment),
        architecture={},
    )


def test_tensors_are_written_exactly(walker, tmp_path):
    export("walker", "state-dict", tmp_path / "w.pt")
    export("walker", "safetensors", tmp_path / "w.safetensors")
    expected = walker.state_dict()
    for read in (
        torch.load(tmp_path / "w.pt", weights_only=True),
        safetensors.torch.load_file(tmp_path / "w.safetensors"),
    ):
        assert read.keys() == expected.keys()
        assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_weights_of_another_tool_keep_their_names(tmp_path):
    torch.manual_seed(0)
    weights = reference.Recurrent(reference.Spaces()).state_dict()
    torch.save({"agent": {f"module.{name}": weights[name] for name in weights}}, "metta.pt")
    export("metta.pt", "state-dict", tmp_path / "again.pt")
    read = torch.load("again.pt", weights_only=True)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
def test_torchscript_acts_as_the_policy_without_any_of_its_code(walker, tmp_path):
    export("walker", "torchscript", tmp_path / "w.ts")
    module = torch.jit.load("w.ts")
    passport = interface_of(build(find_environment("navigation/simple")))
    num_agents = passport.agents_per_environment
    tokens = torch.full((num_agents, passport.num_tokens, 3), 255, dtype=torch.uint8)
    tokens[:, 0] = torch.tensor([0x34, passport.feature_names.index("tag"), 1])
    starts = torch.ones(num_agents, dtype=torch.bool)
    state = walker.initial_state(num_agents, "cpu")
    for _ in range(2):
        log_probs, _, state_c, state_h = module(tokens, starts, state["lstm_c"], state["lstm_h"])
        td = walker(TensorDict({"env_obs": tokens, "dones": starts}, batch_size=[num_agents]), state)
        assert torch.allclose(log_probs, td["full_log_probs"], atol=1e-5)
        assert torch.allclose(state_h, state["lstm_h"], atol=1e-5)
        assert torch.allclose(state_c, state["lstm_c"], atol=1e-5)
        starts = torch.zeros_like(starts)


def test_torchscript_of_another_tools_policy_acts_in_the_environment_that_is_named(tmp_path):
    torch.manual_seed(0)
    torch.save(reference.Recurrent(reference.Spaces()).state_dict(), "metta.pt")
    exported = export("metta.pt", "torchscript", tmp_path / "x.ts", "laser_tag")
    assert (exported.environment, exported.largest_difference < 1e-5) == ("laser_tag", True)


def test_a_bundle_is_played_by_the_runner_of_mettagrid(walker, tmp_path):
    export("walker", "mettagrid", tmp_path / "bundle")
    config = build(find_environment("navigation/simple"))
    config.game.max_steps = 30
    info = PolicyEnvInterface.from_mg_cfg(config)
    spec = load_policy_spec_from_path(tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle/policy_spec.json").read_text())["data_path"] == "walker:v3"
    policy = initialize_or_load_policy(info, spec)
    weights = policy.network().state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in walker.state_dict().items())
    assert interface_from(info) == interface_of(config)
    agents = [policy.agent_policy(number) for number in range(config.game.num_agents)]
    rollout = Rollout(config, agents, seed=1)
    rollout.run_until_done()
    steps = rollout._sim.current_step
    assert steps == 30


def test_what_acts_differently_when_it_is_read_back_is_not_kept(walker, tmp_path, monkeypatch):
    def spoiled(content, **options):
        name = "policy.actor_bias" if "policy.actor_bias" in content else next(iter(content))
        return save({**content, name: content[name] + 1 + torch.rand_like(content[name])}, **options)

    save = safetensors.torch.save
    monkeypatch.setattr(export_module.safetensors.torch, "save", spoiled)
    with pytest.raises(IncompatibleError, match="would act differently"):
        export("walker", "safetensors", tmp_path / "w.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train_dir"]


def test_a_bundle_is_never_written_over_something(walker, tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        export("walker", "mettagrid", tmp_path / "bundle")
    assert list((tmp_path / "bundle").iterdir()) == []


def test_exporting_leaves_the_log_handlers_alone(walker, tmp_path):
    before = list(logging.root.handlers)
    export("walker", "mettagrid", tmp_path / "bundle")
    assert logging.root.handlers == before
