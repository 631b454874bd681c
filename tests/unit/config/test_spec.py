"""The words and files of the specification's documents work as they are written there."""

import pytest

from metta_cli.config.layers import load_config
from metta_cli.config.trainer import unsupported_settings


def value_of(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("run=my_experiment", "run", "my_experiment"),
        ("cmd=sim", "cmd", "sim"),
        ("device=cpu", "device", "cpu"),
        ("env=navigation/simple", "env.name", "navigation/simple"),
        ("env=/env/mettagrid/laser_tag", "env.name", "laser_tag"),
        (
            "env.mettagrid.curriculum.test=mettagrid/memory/memory_one_apple",
            "env.name",
            "memory/memory_one_apple",
        ),
        ("policy=fast", "policy.name", "fast"),
        ("agent=fast", "policy.name", "fast"),
        ("py_agent=lstm_transformer", "policy.name", "lstm_transformer"),
        ("trainer.total_timesteps=10_000_000", "trainer.total_timesteps", 10_000_000),
        ("trainer.total_timesteps=10000000000", "trainer.total_timesteps", 10_000_000_000),
        ("trainer.num_workers=4", "trainer.num_workers", 4),
        (
            "policy_uri=pytorch://train_dir/metta_7-23/metta.pt",
            "policy_uri",
            "pytorch://train_dir/metta_7-23/metta.pt",
        ),
        ("wandb=off", "wandb.mode", "off"),
        ("sim_job.simulation_suite.name=laser_tag", "sim.suite.name", "laser_tag"),
        ("sim.episodes=100", "sim.episodes", 100),
        ("sim.render=true", "sim.render", True),
        ("hardware=local_debug", "trainer.num_workers", 0),
        ("+user=example", "user", "example"),
        (
            'trainer.dual_policy.checkpoint_npc.checkpoint_path="./train_dir/a/checkpoints/model_0000.pt"',
            "trainer.dual_policy.checkpoint_npc.checkpoint_path",
            "./train_dir/a/checkpoints/model_0000.pt",
        ),
        (
            "trainer.dual_policy.checkpoint_npc.checkpoint_path=wandb://metta-research/metta/model/a.b-24-00-18:latest",
            "trainer.dual_policy.checkpoint_npc.checkpoint_path",
            "wandb://metta-research/metta/model/a.b-24-00-18:latest",
        ),
    ],
)
def test_word_works_on_the_command_line(word, key, value):
    assert value_of(load_config(words=[word]).config, key) == value


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("run: my_experiment", "run", "my_experiment"),
        ("env: navigation/terrain_large", "env.name", "navigation/terrain_large"),
        ("env: {mettagrid: {curriculum: {test: mettagrid/laser_tag}}}", "env.name", "laser_tag"),
        ("sim_job: {simulation_suite: {name: laser_tag}}", "sim.suite.name", "laser_tag"),
        ("sim_job: {simulation_suite: {name: laser_tag, num_episodes: 4}}", "sim.suite.num_episodes", 4),
        ("sim: memory", "sim.suite.name", "memory"),
        ("wandb: off", "wandb.mode", "off"),
        ("trainer: {evaluation: {evaluate_interval: 60}}", "trainer.simulation.evaluate_interval", 60),
        ("trainer: {rollout_workers: 3}", "trainer.num_workers", 3),
        ("trainer: {env: laser_tag}", "env.name", "laser_tag"),
        ("hardware: local_debug", "trainer.batch_size", 1024),
        ("hydra: {run: {dir: runs/external_policy}}", "run", "external_policy"),
    ],
)
def test_the_same_works_inside_files(write, text, key, value):
    write(text)
    assert value_of(load_config(files=["mine.yaml"]).config, key) == value


def test_the_run_directory_of_older_commands_is_taken_apart():
    config = load_config(words=["hydra.run.dir=runs/eval/external_policy"]).config
    assert (config.data_dir, config.run) == ("runs/eval", "external_policy")


def test_the_dual_policy_example_is_read_and_none_of_it_is_lost(write):
    write(
        """\
# configs/user/my_dual_policy_checkpoint.yaml
defaults:
  - /common
  - /agent/fast
  - /trainer/trainer
  - /sim/all@evals
  - _self_

run: my_dual_policy_experiment
cmd: train

trainer:
  dual_policy:
    enabled: true
    policy_a_percentage: 0.75  # 75% main policy, 25% NPC

    npc_type: "checkpoint"
    checkpoint_npc:
      checkpoint_path: "wandb://metta-research/metta/model/your_old_policy_run:latest"
""",
        "configs/user/my_dual_policy_checkpoint.yaml",
    )
    config = load_config(words=["+user=my_dual_policy_checkpoint", "run=other", "wandb=off"]).config
    opponent = config.trainer.dual_policy
    assert (opponent.enabled, opponent.policy_a_percentage, opponent.npc_type) == (True, 0.75, "checkpoint")
    assert opponent.checkpoint_npc.checkpoint_path.endswith("your_old_policy_run:latest")
    assert (config.run, config.evals.name) == ("other", "all")
    assert unsupported_settings(config.trainer) == []


def test_the_external_policy_example_is_read(write):
    write(
        """\
policy_uri: pytorch://train_dir/metta_7-23/metta.pt
pytorch:
  _target_: metta.agent.external.example.Recurrent
  input_size: 512
  policy:
    _target_: metta.agent.external.example.Policy
    cnn_channels: 128
""",
        "configs/user/relh.yaml",
    )
    config = load_config(words=["cmd=sim", "user=relh"]).config
    assert config.policy_uri == "pytorch://train_dir/metta_7-23/metta.pt"
    assert config.pytorch["_target_"] == "metta.agent.external.example.Recurrent"
    assert config.pytorch["policy"]["cnn_channels"] == 128
