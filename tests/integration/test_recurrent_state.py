"""The memory of an agent goes on over segments and epochs, as if there were none."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from tensordict import TensorDict

from metta_cli.config.catalogue import find_environment
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.policies.registry import create_policy
from metta_cli.training.experience import Experience
from metta_cli.training.rollout import perform_rollout_step

HORIZON, NUM_CHUNKS = 8, 2


def state_after(policy, experience, chunk):
    """Return the state after acting through a stretch of steps from the state stored at its start."""
    rows = experience.rows(chunk)
    state = {name: part[:, rows].clone() for name, part in experience.state.items()}
    for step in range(HORIZON):
        inputs = {
            "env_obs": experience.observations[rows, step],
            "dones": experience.dones[rows, step],
        }
        with torch.no_grad():
            policy(TensorDict(inputs, batch_size=[experience.num_agents]), state)
    return state


def test_state_at_the_start_of_a_segment_is_that_at_the_end_of_the_one_before() -> None:
    torch.manual_seed(0)
    with VectorEnvironment(
        find_environment("navigation/simple"), num_environments=4, seed=1, stagger_episodes=True
    ) as environment:
        policy = create_policy("fast", environment.interface, {})
        environment.reset()
        experience = Experience(
            total_agents=environment.num_agents,
            batch_size=environment.num_agents * HORIZON * NUM_CHUNKS,
            bptt_horizon=HORIZON,
            minibatch_size=HORIZON,
            obs_space=environment.single_observation_space,
            atn_space=environment.single_action_space,
            hidden_size=128,
            num_lstm_layers=2,
            device="cpu",
            truncation_discount=0.9,  # looks at observations that the agents do not act on
        )
        epochs = []
        for _ in range(3):
            experience.reset_for_rollout()
            while not experience.ready_for_training:
                perform_rollout_step(policy, environment, experience, "cpu")
            epochs.append(copy.deepcopy(experience))
    stretches = [(experience, chunk) for experience in epochs for chunk in range(NUM_CHUNKS)]
    assert any(bool(experience.truncations.any()) for experience in epochs)
    for (experience, chunk), (later, later_chunk) in pairwise(stretches):
        expected = state_after(policy, experience, chunk)
        for name, part in later.state.items():
            torch.testing.assert_close(part[:, later.rows(later_chunk)], expected[name], atol=1e-5, rtol=1e-5)
