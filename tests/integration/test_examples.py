"""The scripts of `examples/` run to the end, and what they leave behind is what `metta` takes."""

import os
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from metta_cli.artifacts.checkpoints import latest_valid_checkpoint
from metta_cli.config.layers import load_config
from metta_cli.runs.evaluate import evaluate
from metta_cli.runs.train import train
from metta_cli.tracking.jsonl import read_metrics

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ["--batch-size=512", "--minibatch-size=256", "--num-envs=2"]
COMPLETE = [*SMALL, "--hidden-size=16", "--episodes=1", "--episode-steps=8", "--device=cpu"]


class Silence:
    def start(self, total_agent_steps, run):
        pass

    def update(self, metrics):
        pass

    def close(self):
        pass


def run_example(name, data_dir, *arguments):
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    main([f"--data-dir={data_dir}", "--run=example", *arguments])
    return data_dir / "example"


def test_the_quick_start_trains_and_saves(tmp_path, capsys):
    run = run_example("quick_start", tmp_path, *SMALL, "--total-timesteps=1024")
    assert "saved example:v2 after 1024 agent steps" in capsys.readouterr().out
    checkpoint, _ = latest_valid_checkpoint(run / "checkpoints")
    assert checkpoint.manifest.architecture.args == {"hidden_size": 512, "num_layers": 1}
    config = load_config(files=[str(run / "config.yaml")]).config
    assert (config.run, config.trainer.batch_size) == ("example", 512)
    result = evaluate(
        load_config(options={"data_dir": str(tmp_path)}),
        uri="example",
        environment="navigation/simple",
        episodes=1,
        baselines=False,
    )
    assert result.policy_uri == "example"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("complete")
    options = ["--checkpoint-interval=1", "--evaluate-interval=1"]
    return run_example("run", data_dir, *COMPLETE, *options, "--total-timesteps=1024")


def test_the_complete_run_leaves_what_a_run_leaves(finished):
    assert [path.name for path in sorted((finished / "checkpoints").iterdir())] == [
        "example:v1",
        "example:v2",
    ]
    assert {path.name for path in (finished / "evals").iterdir()} == {"v1", "v2"}
    assert list((finished / "replays" / "v2").glob("*.html"))
    lines = read_metrics(finished / "metrics.jsonl")
    assert [line["agent_steps"] for line in lines] == [512, 1024]
    expected = {
        "losses/policy_loss",
        "curriculum/effective_tasks",
        "system/memory_mb",
        "memory/experience_mb",
    }
    assert expected <= lines[-1].keys()


def test_its_checkpoints_carry_their_score(finished):
    checkpoint, _ = latest_valid_checkpoint(finished / "checkpoints")
    assert checkpoint.manifest.metadata["score"] >= 0
    assert checkpoint.manifest.agent_steps == 1024


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "example")


def test_it_goes_on_where_it_was_and_learns_from_a_teacher(copied, capsys):
    run_example(
        "run",
        copied.parent,
        *COMPLETE,
        "--total-timesteps=1536",
        "--teacher=example:v1",
        "--checkpoint-interval=1",
    )
    out = capsys.readouterr().out
    assert "going on from" in out
    assert "epoch 3: 1536 agent steps" in out
    assert "losses/ks_action_loss" in read_metrics(copied / "metrics.jsonl")[-1]


def test_metta_train_goes_on_with_it(copied, tmp_path):
    checkpoint, _ = latest_valid_checkpoint(copied / "checkpoints")
    before = checkpoint.manifest
    resolved = load_config(
        files=[str(copied / "config.yaml")],
        words=[
            f"data_dir={tmp_path}",
            "trainer.curriculum=navigation/bucketed",
            f"trainer.total_timesteps={before.agent_steps + 512}",
            "trainer.num_workers=0",
            "trainer.simulation.evaluate_interval=0",
            "trainer.kickstart.teacher_uri=null",
            "trainer.forward_pass_minibatch_target_size=8",
        ],
    )
    result = train(resolved, resume=True, progress=Silence())
    assert (result.epoch, result.agent_steps) == (before.epoch + 1, before.agent_steps + 512)


WORKER = """
import os, runpy, sys
from pathlib import Path
agent = runpy.run_path(sys.argv[1])["main"](sys.argv[3:])
total = sum(float(weight.double().sum()) for weight in agent.state_dict().values())
Path(sys.argv[2], os.environ["RANK"]).write_text(repr(total))
"""


def test_two_processes_train_one_policy_and_write_one_run(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(EXAMPLES / "run.py"),
        str(tmp_path),
        f"--data-dir={tmp_path}",
    ]
    command += [*COMPLETE, "--total-timesteps=1024", "--run=both", "--minibatch-size=512"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(command, env=os.environ | shared | {"RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    errors = [process.communicate(timeout=400)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text()
    lines = read_metrics(tmp_path / "both" / "metrics.jsonl")
    assert [(line["epoch"], line["agent_steps"]) for line in lines] == [(1, 1024)]
    assert [path.name for path in (tmp_path / "both" / "checkpoints").iterdir()] == ["both:v1"]
