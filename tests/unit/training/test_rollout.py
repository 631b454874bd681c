"""Acting step by step, with tasks whose every number is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metta_cli.environments.simulator import FinishedEpisode
from metta_cli.errors import ConfigError
from metta_cli.policies.registry import create_policy
from metta_cli.training.experience import Experience
from metta_cli.training.rollout import (
    RolloutStatistics,
    accumulate_rollout_stats,
    mean_statistics,
    perform_rollout_step,
)
from tests.learning.toys import CueTask


def experience_of(task, **changes):
    settings = {
        "total_agents": task.num_agents,
        "batch_size": task.num_agents * 8,
        "bptt_horizon": 4,
        "minibatch_size": 4,
        "obs_space": (8, 3),
        "atn_space": 3,
        "device": "cpu",
        "hidden_size": 128,
        "num_lstm_layers": 2,
    }
    return Experience(**(settings | changes))


@pytest.fixture
def task():
    task = CueTask(num_agents=3, delay=2)
    task.reset()
    return task


def policy_of(task):
    torch.manual_seed(0)
    return create_policy("fast", task.interface, {})


def test_a_rollout_is_as_many_steps_as_the_experience_holds_and_then_no_more(task):
    policy, experience = policy_of(task), experience_of(task)
    for _ in range(2):
        experience.reset_for_rollout()
        total, steps = 0, 0
        while not experience.ready_for_training:
            num_agent_steps, infos = perform_rollout_step(policy, task, experience, "cpu")
            total, steps = total + num_agent_steps, steps + 1
            assert all(isinstance(info, FinishedEpisode) for info in infos)
        assert (steps, total) == (8, 24)
    with pytest.raises(ValueError, match="reset_for_rollout"):
        perform_rollout_step(policy, task, experience, "cpu")


def test_rewards_and_ends_are_those_of_the_environment_one_column_later(task):
    policy, experience = policy_of(task), experience_of(task)
    arrived = []
    while not experience.ready_for_training:
        perform_rollout_step(policy, task, experience, "cpu")
        arrived.append((experience.current_rewards.tolist(), experience.current_terminals.tolist()))
    for chunk in range(2):
        rows = experience.rows(chunk)
        for column in range(1, 5):
            rewards, terminals = arrived[chunk * 4 + column - 1]
            assert experience.rewards[rows, column].tolist() == rewards
            assert experience.terminals[rows, column].tolist() == terminals
    assert experience.rewards.sum() > 0


def test_a_timer_sees_both_phases(task):
    statistics = RolloutStatistics()
    perform_rollout_step(policy_of(task), task, experience_of(task), "cpu", statistics.timer)
    assert statistics.environment_seconds > 0
    assert statistics.forward_seconds > 0


def test_an_experience_of_another_policy_is_refused_with_the_shapes_that_fit(task):
    with pytest.raises(ConfigError, match=r"state_shapes=.*'lstm_h': \(2, 128\)"):
        perform_rollout_step(policy_of(task), task, experience_of(task, hidden_size=512), "cpu")


def test_an_experience_of_other_agents_is_refused(task):
    experience = experience_of(CueTask(num_agents=2, delay=0))
    with pytest.raises(ConfigError, match="total_agents=3"):
        perform_rollout_step(policy_of(task), task, experience, "cpu")


def episode(returns, steps=10, statistics=({},), *, is_cut=False):
    return FinishedEpisode(
        environment=0,
        episode=0,
        map_seed=0,
        simulation_seed=0,
        num_steps=steps,
        agent_returns=np.array(returns, dtype=np.float32),
        teams=np.zeros(len(returns), dtype=np.int32),
        game_stats={},
        agent_stats=list(statistics),
        truncated=True,
        is_cut=is_cut,
    )


def test_statistics_are_means_over_whole_episodes_where_a_missing_number_is_zero():
    stats = {}
    accumulate_rollout_stats([episode([1.0, 3.0], 10, [{"hits": 4.0}, {}])], stats)
    accumulate_rollout_stats([episode([9.0], 1, [{"hits": 9.0}], is_cut=True)], stats)
    accumulate_rollout_stats([episode([0.0, 0.0], 20, [{}, {"falls": 2.0}])], stats)
    assert stats["episode/return_mean"] == [2.0, 0.0]
    assert stats["env_agent/hits"] == [2.0, 0.0]
    assert stats["env_agent/falls"] == [0.0, 1.0]
    assert mean_statistics(stats) == {
        "episode/return_mean": 1.0,
        "episode/length_mean": 15.0,
        "env_agent/hits": 1.0,
        "env_agent/falls": 0.5,
    }


def test_without_an_episode_there_are_no_means():
    assert mean_statistics({}) == {}
