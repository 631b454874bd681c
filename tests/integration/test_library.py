"""The parts of a training run as a program holds them."""

import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensordict import TensorDict

from metta_cli import api
from metta_cli.api import (
    Agent,
    Environment,
    EnvironmentSpec,
    Experience,
    Losses,
    LSTMWrapper,
    Optimizer,
    PolicyStore,
    PPOConfig,
    PyTorchAgentMixin,
    SimulationSuiteConfig,
    SingleEnvSimulationConfig,
    Trainer,
    TrainerConfig,
    cleanup_distributed,
    compute_advantage,
    create_evaluation_config_suite,
    create_replay_config,
    evaluate_policy,
    load_checkpoint,
    perform_rollout_step,
    process_minibatch_update,
    record_replay,
    register_policy,
    save_checkpoint,
    save_experiment_config,
    setup_device_and_distributed,
    setup_run_directories,
)
from metta_cli.config.layers import load_config
from metta_cli.errors import CheckpointError, ConfigError, UnknownNameError, UsageError
from metta_cli.policies.registry import _registered

SMALL = {"agent": {"hidden_size": 16, "num_layers": 1}}
CONFIG = TrainerConfig(
    total_timesteps=512, batch_size=128, minibatch_size=64, bptt_horizon=16, ppo=PPOConfig(target_kl=None)
)


def make_environment(**settings):
    return Environment(**{"num_agents": 2, "width": 8, "height": 8, "num_envs": 2, "seed": 3} | settings)


def make_experience(env, config=CONFIG, hidden_size=16):
    return Experience(
        total_agents=env.num_agents,
        batch_size=config.batch_size,
        bptt_horizon=config.bptt_horizon,
        minibatch_size=config.minibatch_size,
        obs_space=env.single_observation_space,
        atn_space=env.single_action_space,
        device="cpu",
        hidden_size=hidden_size,
        num_lstm_layers=1,
        truncation_discount=config.ppo.gamma,
    )


def train_by_hand(agent, env, experience, optimizer, config=CONFIG):
    experience.reset_for_rollout()
    while not experience.ready_for_training:
        perform_rollout_step(agent, env, experience, "cpu", None)
    advantages = compute_advantage(
        experience.values,
        experience.rewards,
        experience.dones,
        torch.ones_like(experience.values),
        torch.zeros(experience.values.shape),
        config.ppo.gamma,
        config.ppo.gae_lambda,
        config.vtrace.vtrace_rho_clip,
        config.vtrace.vtrace_c_clip,
        "cpu",
    )
    losses = Losses()
    for _ in range(config.update_epochs):
        for minibatch in experience.iter_minibatches(advantages, sampling="prioritized", beta=0.6):
            loss = process_minibatch_update(
                agent, experience, minibatch, advantages, config, None, 0, losses, "cpu"
            )
            optimizer.step(loss)
    return losses


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_can_be_imported(name):
    assert getattr(api, name) is not None
    assert name in dir(api)


def test_a_loop_by_hand_does_what_the_trainer_does():
    weights = []
    for by_hand in (True, False):
        torch.manual_seed(0)
        with make_environment() as env:
            agent = Agent(env, SMALL)
            optimizer = Optimizer("adam", agent, CONFIG.optimizer.learning_rate, eps=CONFIG.optimizer.eps)
            if by_hand:
                env.reset()  # as the trainer does
                train_by_hand(agent, env, make_experience(env), optimizer)
            else:
                trainer = Trainer(
                    CONFIG, environment=env, policy=agent, optimizer=optimizer, device=torch.device("cpu")
                )
                trainer.update(trainer.collect()[0])
        weights.append(agent.state_dict())
    by_hand, by_trainer = weights
    for name, weight in by_hand.items():
        torch.testing.assert_close(by_trainer[name], weight, atol=0, rtol=0)


class MyAgent(PyTorchAgentMixin, LSTMWrapper):
    def __init__(self, env, policy=None, input_size=128, hidden_size=128, num_layers=2, **kwargs):
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__(env, policy, input_size, hidden_size, num_layers=num_layers)
        self.init_mixin(**mixin_params)

    @torch._dynamo.disable
    def forward(self, td: TensorDict, state=None, action=None):
        observations = td["env_obs"]
        B, TT = self.set_tensordict_fields(td, observations)
        hidden = self.policy.encode_observations(observations, state)
        flat_hidden = self.lstm_forward(hidden, td, state)
        logits_list, value = self.policy.decode_actions(flat_hidden, B * TT)
        if action is None:
            td = self.handle_inference_mode(td, logits_list, value)
        else:
            td = self.handle_training_mode(td, action, logits_list, value)
        return td


def test_the_agent_of_the_guide_trains_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(_registered, "my_agent", MyAgent)
    register_policy("my_agent", MyAgent)
    with make_environment() as env:
        config = {"policy": "my_agent", "agent": {"hidden_size": 16, "num_layers": 1, "clip_range": 0.5}}
        agent = Agent(env, config)
        before = {name: weight.clone() for name, weight in agent.state_dict().items()}
        losses = train_by_hand(agent, env, make_experience(env), Optimizer("adam", agent, 1e-2))
    assert np.isfinite(list(losses.means().values())).all()
    changed = [name for name, weight in agent.state_dict().items() if not torch.equal(weight, before[name])]
    assert changed == list(before)
    assert agent.policy.actor.weight.abs().max() <= 0.5
    store = PolicyStore({"trainer": {"checkpoint": {"checkpoint_dir": tmp_path / "mine" / "checkpoints"}}})
    record = store.create_empty_policy_record(store.make_model_name(1))
    record.metadata, record.policy = {"epoch": 1}, agent
    assert isinstance(store.policy_record(store.save(record).uri).policy.policy, MyAgent)


def test_an_agent_may_be_made_for_an_environment_or_for_its_interface():
    with make_environment() as env:
        torch.manual_seed(0)
        one = MyAgent(env)
        torch.manual_seed(0)
        two = MyAgent(env.interface)
    assert one.env == two.env
    assert all(torch.equal(one.state_dict()[name], weight) for name, weight in two.state_dict().items())


def test_an_environment_is_ready_for_its_first_step():
    with Environment(num_agents=3, width=8, height=9, num_envs=2, device="cpu") as env:
        assert (env.num_agents, env.agents_per_environment) == (6, 3)
        assert (env.observations[:, 0, 0] != 255).all()
        env.step(np.zeros(6, np.int64))
        assert (env.spec.args["width"], env.spec.args["height"]) == (8, 9)
        assert env.single_action_space.n == env.interface.num_actions


def test_without_a_word_it_is_the_rectangle_of_the_documents():
    with Environment() as env:
        assert env.spec.args == {"num_agents": 4, "width": 32, "height": 32, "altars": 10, "walls": 20}
        assert env.curriculum is None


@pytest.mark.parametrize(
    "env_config",
    [
        "navigation/simple",
        EnvironmentSpec(
            builder="grid", args={"width": 6, "height": 6, "altars": 1, "walls": 0}, map_pool_size=0
        ),
        {"builder": "grid", "args": {"width": 6, "height": 6, "altars": 1, "walls": 0}},
    ],
)
def test_an_environment_may_be_named_or_described(env_config):
    with Environment(env_config=env_config, num_agents=2) as env:
        assert env.agents_per_environment == 2


def test_a_curriculum_is_drawn_from_and_learns():
    with Environment(
        curriculum_path="/env/mettagrid/curriculum/navigation/bucketed", num_agents=4, num_envs=2, seed=1
    ) as env:
        assert env.agents_per_environment == 4
        assert env.curriculum.num_tasks == 64
        assert {env.curriculum.names[task] for task in env.tasks} <= set(env.curriculum.names)


def test_the_seed_decides_about_maps():
    first, again, other = (make_environment(seed=seed) for seed in (1, 1, 2))
    with first, again, other:
        assert np.array_equal(first.observations, again.observations)
        assert not np.array_equal(first.observations, other.observations)


def test_what_contradicts_itself_or_is_unknown_is_refused():
    with pytest.raises(ConfigError, match="either env_config or width"):
        Environment(env_config="navigation/simple", width=3)
    with pytest.raises(ConfigError, match="either env_config or curriculum_path"):
        Environment(env_config="navigation/simple", curriculum_path="navigation/bucketed")
    with pytest.raises(UnknownNameError, match="nowhere"):
        Environment(curriculum_path="nowhere")
    with pytest.raises(ConfigError, match="env_config is a int"):
        Environment(env_config=3)
    with pytest.raises(ConfigError, match="no such device"):
        Environment(device="cuda:77")
    with make_environment() as env:
        with pytest.raises(UnknownNameError, match="did you mean 'fast'"):
            Agent(env, {"policy": "fsat"})
        with pytest.raises(ConfigError, match="has no 'agnet'"):
            Agent(env, {"agnet": {}})
        with pytest.raises(ConfigError, match="not put together from components"):
            Agent(env, {"agent": {"components": {}}})


def test_the_default_agent_goes_with_the_experience_of_the_documents():
    with make_environment() as env:
        agent = Agent(env, device="cpu")
        assert (agent.hidden_size, agent.num_layers) == (512, 1)
        experience = make_experience(env, hidden_size=512)
        assert perform_rollout_step(agent, env, experience, "cpu", None)[0] == env.num_agents


def test_directories_are_those_of_a_run(tmp_path, monkeypatch):
    dirs = setup_run_directories("mine", tmp_path)
    assert dirs.checkpoint_dir == tmp_path / "mine" / "checkpoints"
    assert all(path.is_dir() for path in (dirs.run_dir, dirs.checkpoint_dir, dirs.replay_dir, dirs.stats_dir))
    monkeypatch.setenv("METTA_RUN", "named")
    monkeypatch.setenv("METTA_DATA_DIR", str(tmp_path / "elsewhere"))
    assert setup_run_directories().run_dir == tmp_path / "elsewhere" / "named"
    monkeypatch.delenv("METTA_RUN")
    monkeypatch.delenv("METTA_DATA_DIR")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "third"))
    dirs = setup_run_directories()
    assert dirs.run_dir.parent == tmp_path / "third"
    assert dirs.run_name.startswith("run_2")
    with pytest.raises(UsageError, match="cannot be called"):
        setup_run_directories("a/b", tmp_path)


def test_a_process_that_is_alone_writes_the_files(monkeypatch):
    assert setup_device_and_distributed("cpu") == (torch.device("cpu"), True, 1, 0)
    cleanup_distributed()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="RANK and WORLD_SIZE"):
        setup_device_and_distributed("cpu")


def test_the_configuration_is_saved_as_metta_train_reads_it(tmp_path):
    dirs = setup_run_directories("mine", tmp_path)
    config = TrainerConfig(
        total_timesteps=1000, batch_size=4096, minibatch_size=1024, ppo=PPOConfig(gamma=0.9)
    )
    path = save_experiment_config(dirs, torch.device("cpu"), config)
    assert path == dirs.run_dir / "config.yaml"
    assert yaml.safe_load(path.read_text())["device"] == "cpu"
    read = load_config(files=[str(path)]).config
    assert read.trainer == config
    assert (read.run, Path(read.data_dir)) == ("mine", tmp_path)
    assert (dirs.run_dir / "versions.json").is_file()
    assert (dirs.run_dir / "command.txt").read_text() == shlex.join(sys.argv) + "\n"


def test_a_checkpoint_restores_weights_and_optimizer(tmp_path):
    store = PolicyStore({"trainer": {"checkpoint": {"checkpoint_dir": tmp_path / "mine" / "checkpoints"}}})
    with make_environment() as env:
        agent = Agent(env, SMALL)
        optimizer = Optimizer("adam", agent, 1e-3)
        train_by_hand(agent, env, make_experience(env), optimizer)
        assert load_checkpoint(store.checkpoint_dir, agent) == (0, 0, None)
        assert save_checkpoint(1, 128, agent, optimizer, store, checkpoint_interval=2) is None
        record = save_checkpoint(2, 256, agent, optimizer, store, checkpoint_interval=2, stats={"score": 0.5})
        assert save_checkpoint(3, 384, agent, optimizer, store, checkpoint_interval=0) is None
        assert (record.metadata.score, record.metadata.agent_step) == (0.5, 256)
        other = Agent(env, SMALL)
        other_optimizer = Optimizer("adam", other, 1e-3)
        steps, epoch, path = load_checkpoint(store.checkpoint_dir, other, other_optimizer)
        assert (steps, epoch, path) == (256, 2, record.file_path)
        for saved, loaded in zip(agent.parameters(), other.parameters(), strict=True):
            assert torch.equal(saved, loaded)
        before, after = (
            each.state_dict()["optimizers"][0]["state"][0] for each in (optimizer, other_optimizer)
        )
        assert torch.equal(before["exp_avg"], after["exp_avg"])
        wider = Agent(env, {"agent": {"hidden_size": 32, "num_layers": 1}})
        with pytest.raises(CheckpointError, match="do not fit"):
            load_checkpoint(store.checkpoint_dir, wider)
        store.save(renamed(store, agent, 5))
        with pytest.raises(CheckpointError, match="holds a policy only"):
            load_checkpoint(store.checkpoint_dir, other, other_optimizer)
        assert load_checkpoint(store.checkpoint_dir, other)[1] == 5


def renamed(store, agent, epoch):
    record = store.create_empty_policy_record(store.make_model_name(epoch))
    record.metadata, record.policy = {"epoch": epoch}, agent
    return record


def test_a_policy_is_evaluated_and_shown_however_it_is_held(tmp_path):
    simulation = SingleEnvSimulationConfig(env="navigation/simple", env_overrides={"max_steps": 10})
    suite = SimulationSuiteConfig(name="mine", num_episodes=2, simulations={"navigation/simple": simulation})
    store = PolicyStore({"trainer": {"checkpoint": {"checkpoint_dir": tmp_path / "mine" / "checkpoints"}}})
    with Environment(env_config="navigation/simple") as env:
        agent = Agent(env, SMALL)
    record = store.save(renamed(store, agent, 1))
    stored = store.policy_record(record.uri)
    results = [
        evaluate_policy(policy, suite, "cpu", seed=4, stats_dir=tmp_path / "stats", name=name)
        for policy, name in ((agent, None), (record, None), (stored, "other"), (stored.policy, "loaded"))
    ]
    assert [result.policy_uri for result in results] == ["Fast", "mine:v1", "other", "loaded"]
    assert len({tuple(result.scores().items()) for result in results}) == 1
    assert (tmp_path / "stats" / "other" / "evaluation_results.yaml").is_file()
    [page] = record_replay(agent, simulation, tmp_path / "replays", name="v1")
    assert page.parent == tmp_path / "replays" / "v1"
    assert page.suffix == ".html"
    with pytest.raises(ConfigError, match="not known what environment"):
        evaluate_policy(torch.nn.Linear(1, 1), suite)


def test_the_suites_of_the_documents():
    suite = create_evaluation_config_suite()
    assert list(suite.simulations) == [f"navigation/terrain_{size}" for size in ("small", "medium", "large")]
    assert {(each.num_episodes, each.max_time_s) for each in suite.simulations.values()} == {(5, 30.0)}
    replay = create_replay_config()
    assert (replay.env, replay.num_episodes, replay.max_time_s) == ("navigation/terrain_medium", 1, 60.0)


def test_nothing_is_read_from_the_environment_that_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("METTA_RUN", "other")
    assert setup_run_directories("mine", tmp_path).run_name == "mine"
    assert sorted(os.listdir(tmp_path)) == ["mine"]
