"""Policies of other tools through the commands: evaluated, configured, trained on, in every container."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from metta_cli import api
from metta_cli.artifacts.checkpoints import Checkpoint, latest_valid_checkpoint
from metta_cli.config.layers import load_config
from metta_cli.errors import CheckpointError
from metta_cli.runs.evaluate import evaluate
from metta_cli.runs.policies import NO_TRUST, load_policy, read_weights
from metta_cli.runs.train import train
from metta_cli.tracking.jsonl import read_metrics
from tests.unit.policies import puffer_reference as reference

TRAINING = (
    "env=navigation/simple",
    "env.args.max_steps=20",
    "device=cpu",
    "trainer.batch_size=256",
    "trainer.minibatch_size=256",
    "trainer.bptt_horizon=16",
    "trainer.forward_pass_minibatch_target_size=16",
    "trainer.num_workers=0",
    "trainer.checkpoint.checkpoint_interval=1",
    "trainer.simulation.evaluate_interval=5",
)
CLASS_OF_A_USER = """
import pufferlib.models
import torch
from torch import nn


class Policy(nn.Module):
    is_continuous = False

    def __init__(self, env, hidden_size=8):
        super().__init__()
        self.hidden_size = hidden_size
        self.network = nn.Sequential(nn.Linear(3, hidden_size), nn.ReLU())
        self.actor = nn.ModuleList([nn.Linear(hidden_size, n) for n in env.single_action_space.nvec])
        self.value = nn.Linear(hidden_size, 1)

    def encode_observations(self, observations, state=None):
        return self.network(observations.float() / 255).mean(dim=1)

    def decode_actions(self, hidden):
        return [head(hidden) for head in self.actor], self.value(hidden)


class Recurrent(pufferlib.models.LSTMWrapper):
    def __init__(self, env, policy=None, input_size=8, hidden_size=8):
        super().__init__(env, policy or Policy(env, hidden_size=hidden_size), input_size, hidden_size)
"""
VERBS_AND_ARGUMENTS = (2, 4)  # of navigation: noop and move, in four directions


class NoProgress:
    def start(self, total_agent_steps, run):
        pass

    def update(self, metrics):
        pass

    def close(self):
        pass


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights():
    """The state dict of PufferLib's recurrent Metta policy, with weights that prefer some actions."""
    torch.manual_seed(3)
    tensors = reference.Recurrent(reference.Spaces()).state_dict()
    return {name: 3 * tensor if "actor" in name else tensor for name, tensor in tensors.items()}


def resolved(*words):
    return load_config(files=[], words=list(words), options={}, environ={})


def episodes_of(uri, *words):
    result = evaluate(
        resolved("env=navigation/simple", "env.args.max_steps=20", *words),
        uri=uri,
        episodes=3,
        baselines=False,
    )
    return [episode.to_json() for episode in result.simulations[0].episodes]


def metta(*words):
    return subprocess.run(
        [sys.executable, "-m", "metta_cli", *words], capture_output=True, text=True, check=False
    )


def test_the_same_weights_play_the_same_in_every_container(weights):
    torch.save(weights, "plain.pt")
    torch.save({"model": {f"module.{key}": value for key, value in weights.items()}, "epoch": 3}, "ddp.pt")
    torch.save({"policy_state_dict": {f"_orig_mod.{key}": weights[key] for key in weights}}, "compiled.pt")
    safetensors.torch.save_file({key: value.clone() for key, value in weights.items()}, "x.safetensors")
    first, *others = [
        episodes_of(uri)
        for uri in ("plain.pt", "file://plain.pt", "pytorch://ddp.pt", "compiled.pt", "x.safetensors")
    ]
    assert all(other == first for other in others)


def test_training_goes_on_from_external_weights_where_they_stand(weights, tmp_path):
    torch.save(weights, "metta.pt")
    config = resolved(*TRAINING, "run=hybrid", "policy_uri=pytorch://metta.pt", "trainer.total_timesteps=512")
    result = train(config, resume=False, progress=NoProgress())
    first = json.loads((result.run_dir / "evals/v0/evaluation_results.json").read_text())
    played = first["simulations"]["navigation/simple"]["episodes"]
    assert played[:3] == episodes_of("pytorch://metta.pt")[:3]

    checkpoint, skipped = latest_valid_checkpoint(result.run_dir / "checkpoints")
    assert (checkpoint.manifest.epoch, skipped) == (2, [])
    assert checkpoint.manifest.architecture.name == "external"
    saved = load_policy("train_dir/hybrid:v2").module.state_dict()
    changed = [name for name in weights if not torch.equal(weights[name], saved[name])]
    assert "policy.actor.0.weight" in changed
    assert "policy.max_vec" not in changed


def test_a_hybrid_run_goes_on_without_being_told_its_architecture(weights):
    torch.save(weights, "metta.pt")
    start = resolved(*TRAINING, "run=hybrid", "policy_uri=pytorch://metta.pt", "trainer.total_timesteps=256")
    train(start, resume=False, progress=NoProgress())
    Path("metta.pt").unlink()
    result = train(
        resolved(*TRAINING, "run=hybrid", "trainer.total_timesteps=768"), resume=True, progress=NoProgress()
    )
    records = read_metrics(result.run_dir / "metrics.jsonl")
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]


def test_a_user_file_says_policy_architecture_and_suite(tmp_path):
    Path("my_policy.py").write_text(CLASS_OF_A_USER)
    save_policy_of_user("mine.pt")
    Path("configs/user").mkdir(parents=True)
    description = {"_target_": "my_policy.Recurrent", "hidden_size": 8}
    mine = {"policy_uri": "pytorch://mine.pt", "pytorch": description, "sim": "navigation_single"}
    Path("configs/user/relh.yaml").write_text(yaml.safe_dump(mine))
    quiet = ["sim.episodes=1", "--no-baselines", "--format", "json", "--progress", "none"]
    outcome = metta("eval", "cmd=sim", "user=relh", *quiet)
    assert outcome.returncode == 0, outcome.stderr
    data = json.loads(outcome.stdout)
    assert (data["policy_uri"], data["suite"]) == ("pytorch://mine.pt", "navigation_single")
    architecture = data["provenance"]["policy"]["architecture"]
    assert architecture == {"name": "my_policy.Recurrent", "args": {"hidden_size": 8}}

    words = ["user=relh", "sim_job.simulation_suite.name=memory"]
    other = metta("eval", *words, *quiet)
    assert json.loads(other.stdout)["suite"] == "memory", other.stderr

    Path("mine.yaml").write_text(yaml.safe_dump(description))
    options = ["--policy-path", "mine.pt", "--pytorch-config", "mine.yaml", "--num-episodes", "1"]
    external = metta("eval-external", *options, "--no-baselines", "--format", "json", "--progress", "none")
    assert external.returncode == 0, external.stderr
    assert json.loads(external.stdout)["simulations"] == data["simulations"]


def save_policy_of_user(path):
    code = f"""
import torch, my_policy, gymnasium
class Spaces:
    single_action_space = gymnasium.spaces.MultiDiscrete({VERBS_AND_ARGUMENTS})
    class single_observation_space:
        shape = (97, 3)
torch.manual_seed(0)
torch.save(my_policy.Recurrent(Spaces()).state_dict(), {path!r})
"""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_description_that_does_not_fit_the_file_is_refused_with_the_tensors(weights):
    torch.save(weights, "metta.pt")
    with pytest.raises(CheckpointError, match=r"Failed to load policy|hidden_size") as caught:
        episodes_of(
            "metta.pt", "pytorch._target_=metta.agent.external.example.Recurrent", "pytorch.hidden_size=64"
        )
    assert "hidden_size" in str(caught.value)


def test_a_program_gets_the_module_with_the_names_of_the_file(weights):
    torch.save({"state_dict": weights}, "metta.pt")
    record = api.PolicyStore({"device": "cpu"}).load_from_uri("pytorch://metta.pt")
    inner = record.policy.policy.state_dict()
    assert inner.keys() == weights.keys()
    assert all(torch.equal(inner[name], weights[name]) for name in weights)
    assert record.metadata["architecture"]["name"] == "puffer_recurrent"


def test_what_is_trusted_is_asked_for_and_never_configured(weights):
    torch.save(weights, "metta.pt")
    found = read_weights("metta.pt", Path("train_dir"), NO_TRUST)
    assert not isinstance(found, Checkpoint)
    with pytest.raises(CheckpointError, match="is not the file that was asked for"):
        read_weights("metta.pt", Path("train_dir"), api.Trust(sha256="0" * 64))


def test_training_never_unpickles_and_proposes_no_option_that_it_lacks():
    torch.save(torch.nn.Linear(2, 2), "module.pt")
    config = resolved(*TRAINING, "run=hybrid", "policy_uri=module.pt")
    with pytest.raises(
        CheckpointError, match=r"Failed to load policy: module\.pt is more than weights"
    ) as caught:
        train(config, resume=False, progress=NoProgress())
    assert caught.value.cure.startswith("training reads plain weights only")
    assert not Path("train_dir").exists()


def test_a_policy_that_the_user_chose_is_not_replaced_by_that_of_the_weights(weights):
    torch.save(weights, "metta.pt")
    config = resolved(*TRAINING, "run=hybrid", "policy_uri=metta.pt", "policy=fast")
    with pytest.raises(CheckpointError, match="is policy external, the configuration asks for fast"):
        train(config, resume=False, progress=NoProgress())
    assert not Path("train_dir").exists()
