"""A CUDA device computes what the CPU computes, and a run on it learns and resumes."""

import subprocess
import sys

import pytest
import torch
from tensordict import TensorDict

from metta_cli.algorithms.advantages import compute_advantage
from metta_cli.config.catalogue import find_environment
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.policies.registry import create_policy
from metta_cli.testing.contracts import random_observations

pytestmark = pytest.mark.gpu

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def test_fast_judges_the_same_on_cpu_and_cuda():
    interface = interface_of(build(find_environment("navigation/simple")))
    torch.manual_seed(0)
    policy = create_policy("fast", interface, {})
    observations = random_observations(interface, 4, 8)
    dones = torch.rand(4, 8) < 0.2
    action = torch.randint(0, interface.num_actions, (4, 8))
    results = {}
    for device in ("cpu", "cuda"):
        inputs = {"env_obs": observations.to(device), "dones": dones.to(device)}
        td = TensorDict(inputs, batch_size=[4, 8])
        state = policy.to(device).initial_state(4, device)
        with torch.no_grad():
            td = policy(td, state, action.to(device))
        results[device] = {name: td[name].cpu() for name in ("act_log_prob", "entropy", "value")}
    for name, expected in results["cpu"].items():
        torch.testing.assert_close(results["cuda"][name], expected, **TOLERANCE)


def test_advantages_are_the_same_on_cpu_and_cuda():
    torch.manual_seed(0)
    values, rewards, ratio = torch.randn(16, 33), torch.randn(16, 33), torch.rand(16, 33) * 2
    dones = (torch.rand(16, 33) < 0.1).float()
    expected, computed = (
        compute_advantage(
            values, rewards, dones, ratio, torch.zeros(16, 33, device=device), 0.98, 0.9, 1.0, 1.0, device
        ).cpu()
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(computed, expected, **TOLERANCE)


def test_a_run_trains_and_goes_on(tmp_path):
    for agent_steps in (2048, 4096):
        words = ["env=navigation/simple", "hardware=local_debug", "run=r", "device=cuda"]
        options = ["--total-timesteps", str(agent_steps), "--progress", "none"]
        done = subprocess.run(
            [sys.executable, "-m", "metta_cli", "train", *words, *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "train_dir" / "r" / "checkpoints" / "r:v4").is_dir()
