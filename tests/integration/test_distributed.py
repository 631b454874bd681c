"""Several processes train one policy as one process would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metta_cli.config.catalogue import find_environment
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import ConfigError
from metta_cli.training.distributed import World, join_world, rank_device
from tests.integration import distributed_worker

WORKER = Path(__file__).with_name("distributed_worker.py")
REPOSITORY = Path(__file__).parents[2]


def environment_of(rank, size, port):
    variables = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_PORT": port}
    return os.environ | {name: str(value) for name, value in variables.items()} | {"MASTER_ADDR": "127.0.0.1"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_in_two(tmp_path, *words):
    """Run the worker in two processes, as torchrun would; return what the first found."""
    result, port = tmp_path / "result.json", free_port()
    command = [sys.executable, str(WORKER), *words, str(result)]
    processes = [
        subprocess.Popen(
            command, env=environment_of(rank, 2, port), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return json.loads(result.read_text())


def test_two_processes_agree(tmp_path):
    found = run_in_two(tmp_path, "agree")
    assert found == {
        "total": [2.0, 10.0],
        "mean": 0.5,
        "any": [True, False],
        "gathered": [{"rank": 0}, {"rank": 1}],
        "gradients": [[[1.5, 3.0]], [-0.5]],
    }


def test_a_process_that_is_gone_is_no_riddle_to_the_other(tmp_path):
    message = run_in_two(tmp_path, "lose_one")["message"]
    assert message.startswith("another process of this run has ended or does not answer: ")


def test_two_processes_train_the_policy_that_one_would(tmp_path):
    alone = distributed_worker.train(World())
    found = run_in_two(tmp_path, "train")
    assert found["same_weights"]
    assert found["agent_steps"] == alone["agent_steps"] == 1024
    for name, weights in alone["weights"].items():
        assert found["weights"][name] == pytest.approx(weights, abs=1e-5), name
    assert found["metrics"].keys() == alone["metrics"].keys()
    for name, value in alone["metrics"].items():
        if name != "steps_per_second":
            assert found["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("num_workers", [0, 2])
def test_parts_of_an_environment_play_the_episodes_of_the_whole(num_workers):
    spec = find_environment("navigation/simple")
    options = {"seed": 5, "stagger_episodes": True}
    with (
        VectorEnvironment(spec, num_environments=4, **options) as whole,
        VectorEnvironment(
            spec, num_environments=2, shard=(0, 2), num_workers=num_workers, **options
        ) as first,
        VectorEnvironment(spec, num_environments=2, shard=(1, 2), **options) as second,
    ):
        for environment in (whole, first, second):
            environment.reset()
        actions = np.random.default_rng(0).integers(0, whole.interface.num_actions, (100, whole.num_agents))
        episodes = []
        for step in actions:
            *_, finished = whole.step(step)
            first.step(step[: first.num_agents])
            second.step(step[first.num_agents :])
            both = np.concatenate([first.observations, second.observations])
            assert np.array_equal(whole.observations, both)
            assert np.array_equal(whole.rewards, np.concatenate([first.rewards, second.rewards]))
            assert np.array_equal(whole.truncations, np.concatenate([first.truncations, second.truncations]))
            episodes += [episode.episode for episode in finished]
        assert max(episodes) >= 8  # the third episode of some environment ended


def test_a_process_alone_needs_no_other():
    world = join_world(torch.device("cpu"), {})
    assert (world.rank, world.size, world.is_first) == (0, 1, True)
    assert world.total(torch.tensor(3.0)).item() == world.mean(torch.tensor(3.0)).item() == 3.0
    assert world.gather("x") == ["x"]
    assert world.any(True)
    assert not world.any(False)


def test_half_of_the_variables_of_torchrun_are_refused():
    with pytest.raises(ConfigError, match="WORLD_SIZE is set"):
        join_world(torch.device("cpu"), {"WORLD_SIZE": "2"})


def test_each_process_takes_the_cuda_device_of_its_number():
    assert rank_device(torch.device("cuda"), {"LOCAL_RANK": "3"}) == torch.device("cuda", 3)
    assert rank_device(torch.device("cuda", 1), {"LOCAL_RANK": "3"}) == torch.device("cuda", 1)
    assert rank_device(torch.device("cpu"), {"LOCAL_RANK": "3"}) == torch.device("cpu")
    assert World().is_first
