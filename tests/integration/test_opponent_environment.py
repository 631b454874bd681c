"""Training against opponents on the real simulator: what the learner sees, and what it must not."""

import copy

import numpy as np
import pytest
import torch

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.trainer import TrainerConfig
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.policies.registry import create_policy
from metta_cli.populations.environment import OpponentEnvironment
from metta_cli.populations.opponents import (
    FixedMatchmaker,
    OpponentError,
    OpponentPool,
    PlayerOpponent,
    PolicyOpponent,
)
from metta_cli.populations.players import NoopPlayer, RandomPlayer
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.trainer import Trainer

GAME = EnvironmentSpec(
    name="tag",
    builder="laser_tag",
    args={"agents_per_team": 2, "size": 15, "stations": 2, "max_steps": 24},
)
ENVIRONMENTS, AGENTS = 4, 4


def small_policy(interface, seed):
    torch.manual_seed(seed)
    return create_policy("fast", interface, {"hidden_size": 16})


def world(opponents=None, *, share=0.5, weights=None, seed=3, workers=0, kind=VectorEnvironment, **options):
    environment = kind(
        GAME, num_environments=ENVIRONMENTS, num_workers=workers, seed=seed, stagger_episodes=True
    )
    opponents = opponents or {"random": PlayerOpponent("random", RandomPlayer(environment.interface))}
    return OpponentEnvironment(
        environment,
        OpponentPool(opponents),
        FixedMatchmaker(weights or dict.fromkeys(opponents, 1.0)),
        learner_share=share,
        seed=seed,
        **options,
    )


@pytest.fixture
def interface():
    with VectorEnvironment(GAME, num_environments=1) as environment:
        yield environment.interface


def policy_opponent(interface, seed=1, num_rows=ENVIRONMENTS * AGENTS):
    return PolicyOpponent(f"policy {seed}", small_policy(interface, seed), num_rows)


def trainer_of(environment, batch_size, minibatch_size=64):
    config = TrainerConfig(
        total_timesteps=10 * batch_size,
        batch_size=batch_size,
        minibatch_size=minibatch_size,
        bptt_horizon=16,
        sampling="sequential",
    )
    policy = small_policy(environment.interface, seed=9)
    optimizer = create_optimizer(config, policy)
    return Trainer(
        config, environment=environment, policy=policy, optimizer=optimizer, device=torch.device("cpu")
    )


def play(environment, steps, seed=0):
    """Step by random actions of the learner; return everything that was seen."""
    generator = np.random.default_rng(seed)
    environment.reset()
    seen, episodes = [environment.observations.copy()], []
    for _ in range(steps):
        num_actions = environment.interface.num_actions
        *_, finished = environment.step(generator.integers(0, num_actions, environment.num_agents))
        episodes += finished
        seen.append(environment.observations.copy())
    return np.array(seen), episodes


def test_garbage_in_the_observations_of_opponents_changes_no_bit_of_the_gradients(interface):
    def weights(spoils):
        environment = world()
        trainer = trainer_of(environment, 256)
        step = environment.step
        garbage = np.random.default_rng(8)

        def spoiled(actions):
            others = np.setdiff1d(np.arange(ENVIRONMENTS * AGENTS), environment.learner_rows)
            environment.environment.observations[others] = garbage.integers(0, 200)
            result = step(actions)
            others = np.setdiff1d(np.arange(ENVIRONMENTS * AGENTS), environment.learner_rows)
            environment.environment.observations[others] = garbage.integers(0, 200)
            return result

        if spoils:
            environment.step = spoiled
        for _ in range(3):
            experience, _ = trainer.collect()
            trainer.update(experience)
        environment.environment.close()
        return trainer

    clean, spoiled = weights(False), weights(True)
    assert clean.state.episodes > 4
    for a, b in zip(clean.policy.parameters(), spoiled.policy.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
        assert torch.equal(a, b)


def test_the_whole_share_is_training_alone_bit_for_bit(interface):
    def trained(environment):
        trainer = trainer_of(environment, 256)
        for _ in range(3):
            experience, _ = trainer.collect()
            trainer.update(experience)
        return trainer

    alone = VectorEnvironment(GAME, num_environments=ENVIRONMENTS, seed=3, stagger_episodes=True)
    together = world({"policy": policy_opponent(interface)}, share=1.0)
    a, b = trained(alone), trained(together)
    assert a.state.episodes == b.state.episodes > 4
    for mine, other in zip(a.policy.parameters(), b.policy.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert a.recent_returns == b.recent_returns


def test_opponents_do_not_learn_and_first_pass_ratio_is_one(interface):
    opponent = policy_opponent(interface)
    before = copy.deepcopy(opponent.policy.state_dict())
    trainer = trainer_of(world({"policy": opponent}), 256, minibatch_size=256)
    for _ in range(3):
        experience, _ = trainer.collect()
        metrics = trainer.update(experience)  # one minibatch, so all of it before the weights change
        assert metrics["losses/importance"] == pytest.approx(1.0, abs=1e-5)
        assert metrics["losses/approx_kl"] == pytest.approx(0.0, abs=1e-8)
    assert trainer.state.episodes > 4
    assert all(torch.equal(before[name], value) for name, value in opponent.policy.state_dict().items())


def test_another_opponent_acts_otherwise(interface):
    # New policies are all but uniform: these are surer of what they do.
    def seen(seed):
        opponent = policy_opponent(interface, seed)
        for parameter in opponent.policy.parameters():
            parameter *= 3
        return play(world({"a": opponent}), 12)[0]

    first, again, other = seen(1), seen(1), seen(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_workers_change_nothing(interface):
    opponents = {"a": policy_opponent(interface, 1), "b": policy_opponent(interface, 2)}
    alone = world(opponents)
    seen, episodes = play(alone, 60)
    opponents = {"a": policy_opponent(interface, 1), "b": policy_opponent(interface, 2)}
    parallel = world(opponents, workers=2)
    with parallel.environment:
        others_seen, others = play(parallel, 60)
    assert np.array_equal(seen, others_seen)
    assert [e.agent_returns.tolist() for e in episodes] == [e.agent_returns.tolist() for e in others]
    assert alone.tally == parallel.tally
    assert len(alone.tally.matches) > 0


def test_rewards_and_last_observations_are_of_the_old_agents_and_observations_of_the_new():
    environment = world(seed=4)
    environment.reset()
    inner, changed, generator = environment.environment, 0, np.random.default_rng(0)
    for _ in range(60):
        rows = environment.learner_rows.copy()
        _, rewards, _, truncations, finished = environment.step(generator.integers(0, 6, len(rows)))
        assert np.array_equal(rewards, inner.rewards[rows])
        assert np.array_equal(truncations, inner.truncations[rows])
        assert np.array_equal(environment.observations, inner.observations[environment.learner_rows])
        for episode in finished:
            own = slice(episode.environment * 2, episode.environment * 2 + 2)
            assert np.array_equal(environment.final_observations[own], inner.final_observations[rows[own]])
            assert len(episode.agent_returns) == len(episode.teams) == len(episode.agent_stats) == 2
            changed += not np.array_equal(rows[own], environment.learner_rows[own])
    assert changed > 0


def test_a_whole_team_learns_if_asked_to():
    environment = world(assignment="team")
    environment.reset()
    chosen = set()
    for _ in range(60):
        teams = environment.environment.teams[environment.learner_rows].reshape(ENVIRONMENTS, 2)
        assert (teams[:, 0] == teams[:, 1]).all()
        chosen |= set(teams[:, 0].tolist())
        environment.step(np.zeros(environment.num_agents, int))
    assert len(chosen) == 2


def test_rewards_of_both_sides_add_up_to_those_of_all_agents(interface):
    opponents = {
        "random": PlayerOpponent("random", RandomPlayer(interface)),
        "noop": PlayerOpponent("noop", NoopPlayer(interface)),
    }
    environment, generator = world(opponents), np.random.default_rng(0)
    environment.reset()
    total = 0.0
    for _ in range(80):
        environment.step(generator.integers(0, environment.interface.num_actions, environment.num_agents))
        total += environment.environment.rewards.sum(dtype=np.float64)
    found = environment.tally.rewards()
    assert found["combined_reward_total"] == pytest.approx(total)
    assert found["policy_a_reward_total"] + found["npc_reward_total"] == pytest.approx(total)
    parts = [environment.tally.rewards(opponent) for opponent in opponents]
    for name in ("policy_a_reward_total", "npc_reward_total"):
        assert sum(part[name] for part in parts) == pytest.approx(found[name])
    matches = environment.tally.matches
    assert {match.opponent for match in matches} == set(opponents)
    mean = np.mean([match.learner_return for match in matches])
    assert found["policy_a_reward"] == pytest.approx(mean)


class Failing:
    name = "train_dir/fragile"

    def __init__(self, actions):
        self.actions = actions

    def act(self, turn, rows):
        return self.actions(rows)


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        (lambda rows: 1 / 0, "train_dir/fragile failed.*ZeroDivisionError"),
        (lambda rows: np.full(len(rows), 10_000), "train_dir/fragile chose actions that do not exist"),
        (lambda rows: np.zeros(1, int), "train_dir/fragile chose actions"),
    ],
)
def test_an_opponent_that_fails_is_named(actions, reason):
    environment = world({"fragile": Failing(actions)})
    environment.reset()
    with pytest.raises(OpponentError, match=reason):
        environment.step(np.zeros(environment.num_agents, int))


def test_an_opponent_is_told_where_an_episode_starts():
    class Listener(Failing):
        def act(self, turn, rows):
            self.starts[rows] = turn.episode_starts
            return np.zeros(len(rows), int)

    listener = Listener(None)
    listener.starts = np.zeros(ENVIRONMENTS * AGENTS, bool)
    environment = world({"listener": listener})
    environment.reset()
    begun, ends = set(range(ENVIRONMENTS)), 0
    for _ in range(60):
        *_, finished = environment.step(np.zeros(environment.num_agents, int))
        assert set((np.flatnonzero(listener.starts) // AGENTS).tolist()) == begun
        listener.starts[:] = False
        begun = {episode.environment for episode in finished}
        ends += len(begun)
    assert ends > ENVIRONMENTS
