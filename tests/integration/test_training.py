"""The trainer on the real simulator."""

import copy

import pytest
import torch
from tensordict import TensorDict

from metta_cli.config.catalogue import find_environment
from metta_cli.config.trainer import TrainerConfig
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.policies.registry import create_policy
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.rollout import RolloutStopped
from metta_cli.training.trainer import Trainer

CPU = torch.device("cpu")


def config_of(**changes):
    sizes = {
        "total_timesteps": 4096,
        "batch_size": 1024,
        "minibatch_size": 256,
        "bptt_horizon": 16,
        "sampling": "sequential",
    }
    return TrainerConfig(**(sizes | changes))


@pytest.fixture
def environment():
    # Episodes of 45 steps, out of phase: many of them end inside a segment of 16.
    with VectorEnvironment(
        find_environment("navigation/simple"), num_environments=8, seed=3, stagger_episodes=True
    ) as environment:
        yield environment


def trainer_of(environment, config=None, **changes):
    torch.manual_seed(7)
    config = config or config_of()
    policy = create_policy("fast", environment.interface, {})
    optimizer = create_optimizer(config, policy)
    return Trainer(config, environment=environment, policy=policy, optimizer=optimizer, device=CPU, **changes)


def whole(experience):
    index = torch.arange(experience.num_segments)
    return experience.minibatch(index, torch.ones(len(index), 1))


def test_first_pass_ratio_is_one_over_episode_ends(environment):
    trainer = trainer_of(environment)
    trainer.collect()
    experience, _ = trainer.collect()
    assert experience.dones[:, 1:].sum() > 10
    minibatch = whole(experience)
    with torch.no_grad():
        inputs = {"env_obs": minibatch.observations, "dones": minibatch.dones[:, :-1]}
        td = TensorDict(inputs, batch_size=minibatch.actions.shape)
        td = trainer.policy(td, minibatch.state, minibatch.actions)
    ratio = (td["act_log_prob"] - minibatch.behavior_log_probs).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)
    torch.testing.assert_close(td["value"], minibatch.values[:, :-1], atol=1e-5, rtol=1e-5)


def test_the_column_after_a_segment_is_the_first_of_the_next_one(environment):
    experience, _ = trainer_of(environment).collect()
    for chunk in range(experience.num_chunks - 1):
        here, there = experience.rows(chunk), experience.rows(chunk + 1)
        for name in ("values", "rewards", "terminals", "truncations"):
            part = getattr(experience, name)
            assert torch.equal(part[here, -1], part[there, 0])


def test_rewards_are_stored_with_the_observation_they_arrive_with(environment):
    experience, _ = trainer_of(environment).collect()
    heart = environment.interface.feature_names.index("inv:heart")
    centre = 0x55
    tokens = experience.observations
    holds = ((tokens[..., 0] == centre) & (tokens[..., 1] == heart)) * tokens[..., 2].int()
    hearts = holds.sum(-1).float()
    gained = (hearts[:, 1:] - hearts[:, :-1]) * ~experience.dones[:, 1:-1]
    assert gained.sum() > 0
    paid = experience.rewards[:, 1:-1] * ~experience.dones[:, 1:-1]
    torch.testing.assert_close(paid, gained * 0.333, atol=1e-5, rtol=0)


def test_an_episode_that_is_cut_by_time_counts_the_value_of_its_last_observation(environment):
    last_seen = []
    step = environment.step

    def recording_step(actions):
        result = step(actions)
        last_seen.append(torch.from_numpy(environment.final_observations.copy()))
        return result

    environment.step = recording_step
    trainer = trainer_of(environment, config_of(bootstrap_truncations=True))
    torch.nn.init.ones_(trainer.policy.policy.value_head.bias)
    experience, _ = trainer.collect()
    assert not experience.terminals[:, 1:].any()
    # The first episode to be cut, in the first stretch of steps, seen as one sequence from its start.
    cut = experience.truncations[experience.rows(0), 1:]
    step_of = int(cut.any(dim=0).nonzero()[0])
    agent = int(cut[:, step_of].nonzero()[0])
    seen = experience.observations[agent, : step_of + 1]
    sequence = torch.cat([seen, last_seen[step_of][agent][None]])[None]
    dones = torch.zeros(1, step_of + 2, dtype=torch.bool)
    td = TensorDict({"env_obs": sequence, "dones": dones}, batch_size=[1, step_of + 2])
    with torch.no_grad():
        td = trainer.policy(td, None, torch.zeros(1, step_of + 2, dtype=torch.int64))
    bootstrap = trainer.config.ppo.gamma * td["value"][0, -1]
    hearts = experience.rewards[agent, step_of + 1] - bootstrap
    assert bootstrap.abs() > 0.1
    assert min(abs(float(hearts) - reward) for reward in (0.0, 0.333)) < 1e-5


def test_an_update_changes_every_parameter_and_measures_itself(environment):
    trainer = trainer_of(environment)
    experience, _ = trainer.collect()
    before = {name: part.clone() for name, part in trainer.policy.named_parameters()}
    metrics = trainer.update(experience)
    unchanged = [name for name, part in trainer.policy.named_parameters() if torch.equal(part, before[name])]
    assert unchanged == []
    assert metrics["losses/num_minibatches"] == 4
    assert trainer.state.epoch == 1


def test_early_stop_takes_no_step_on_the_minibatch_that_went_too_far(environment):
    config = config_of(update_epochs=4, ppo={"target_kl": 1e-9}, optimizer={"learning_rate": 1e-3})
    trainer = trainer_of(environment, config)
    experience, _ = trainer.collect()
    assert trainer.update(experience)["losses/num_minibatches"] == 1


def test_sequential_sampling_uses_every_segment_once(environment):
    experience, _ = trainer_of(environment).collect()
    experience.actions[:] = torch.arange(experience.num_segments)[:, None]
    seen = [int(row) for minibatch in experience.iter_minibatches() for row in minibatch.actions[:, 0]]
    assert sorted(seen) == list(range(experience.num_segments))


def test_metrics_have_finite_values(environment):
    trainer = trainer_of(environment)
    logged = []
    trainer.train(lambda trainer, metrics: logged.append(metrics))
    assert trainer.state.agent_steps == 4096
    assert trainer.state.epoch == len(logged) == 4
    assert all(torch.isfinite(torch.tensor(list(metrics.values()))).all() for metrics in logged)
    assert logged[-1]["episode/count"] == trainer.state.episodes > 0


def test_a_stop_in_the_middle_of_a_rollout_counts_nothing_of_it(environment):
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) > 130

    trainer = trainer_of(environment, should_stop=should_stop)
    with pytest.raises(RolloutStopped):
        trainer.train()
    assert trainer.state.agent_steps == 1024
    assert trainer.state.epoch == 1


def test_a_resumed_run_makes_the_weights_of_one_that_was_not_stopped():
    spec = find_environment("navigation/simple")

    def session(seed):
        return VectorEnvironment(spec, num_environments=8, seed=seed, stagger_episodes=True)

    def two_epochs(trainer):
        for _ in range(2):
            experience, _ = trainer.collect()
            trainer.update(experience)

    with session(1) as environment:
        trainer = trainer_of(environment)
        two_epochs(trainer)
    weights = copy.deepcopy(trainer.policy.state_dict())
    saved = copy.deepcopy(trainer.state_dict())
    with session(2) as environment:
        going_on = Trainer(
            trainer.config,
            environment=environment,
            policy=trainer.policy,
            optimizer=trainer.optimizer,
            device=CPU,
        )
        going_on.state = trainer.state
        two_epochs(going_on)
    with session(2) as environment:
        resumed = trainer_of(environment)
        resumed.policy.load_state_dict(weights)
        resumed.load_state_dict(saved)
        two_epochs(resumed)
    assert resumed.state.epoch == going_on.state.epoch == 4
    for name, part in resumed.policy.state_dict().items():
        assert torch.equal(part, going_on.policy.state_dict()[name]), name
