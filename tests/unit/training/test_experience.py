"""The buffer, filled with data that says where it came from."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from metta_cli.errors import ConfigError
from metta_cli.training.experience import Experience


def make(**changes):
    sizes = {
        "total_agents": 3,
        "batch_size": 24,
        "bptt_horizon": 4,
        "minibatch_size": 8,
        "obs_space": (16, 3),
        "atn_space": 5,
        "state_shapes": {"lstm_h": (2, 5)},
        "device": "cpu",
    }
    return Experience(**(sizes | changes))


def test_every_row_belongs_to_one_agent_and_one_stretch_of_steps():
    experience = make()
    assert (experience.num_segments, experience.num_chunks) == (6, 2)
    rows = [experience.rows(chunk) for chunk in range(2)]
    assert [(row.start, row.stop) for row in rows] == [(0, 3), (3, 6)]


def test_rewards_values_and_dones_have_one_column_more_than_actions():
    experience = make()
    assert experience.actions.shape == (6, 4)
    assert experience.values.shape == experience.rewards.shape == experience.dones.shape == (6, 5)
    assert experience.state["lstm_h"].shape == (2, 6, 5)


def test_a_done_is_a_terminal_or_a_truncation():
    experience = make()
    experience.terminals[0, 1] = True
    experience.truncations[2, 3] = True
    assert experience.dones.nonzero().tolist() == [[0, 1], [2, 3]]


def test_a_minibatch_holds_the_chosen_rows_of_everything():
    experience = make()
    row = torch.arange(6.0)
    experience.observations[:] = row.byte()[:, None, None, None]
    experience.actions[:] = row.long()[:, None]
    experience.behavior_log_probs[:] = row[:, None]
    experience.values[:] = row[:, None]
    experience.rewards[:] = row[:, None]
    experience.truncations[4, 2] = True
    experience.state["lstm_h"][:] = row[None, :, None]
    weights = torch.tensor([[0.5], [1.0]])
    minibatch = experience.minibatch(torch.tensor([4, 1]), weights)
    for part in (minibatch.observations, minibatch.actions, minibatch.behavior_log_probs):
        assert part.flatten(1)[:, 0].tolist() == [4, 1]
    assert minibatch.values[:, -1].tolist() == minibatch.rewards[:, -1].tolist() == [4, 1]
    assert minibatch.dones.nonzero().tolist() == [[0, 2]]
    assert minibatch.state["lstm_h"][1, :, 0].tolist() == [4, 1]
    assert minibatch.index.tolist() == [4, 1]
    assert minibatch.weights is weights


def test_observations_are_trimmed_to_the_tokens_in_use():
    experience = make()
    for used, kept in ((1, 8), (8, 8), (9, 16), (16, 16)):
        experience.used_tokens = used
        minibatch = experience.minibatch(torch.tensor([0]), torch.ones(1, 1))
        assert minibatch.observations.shape[2] == kept


def test_a_batch_that_leaves_segments_half_full_is_refused_with_a_size_that_works():
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=24") as caught:
        make(batch_size=28)
    assert "3 x 4 = 12" in caught.value.message


def test_a_minibatch_size_of_half_a_segment_is_refused_with_a_size_that_works():
    with pytest.raises(ConfigError, match=r"try minibatch_size=24"):
        make(minibatch_size=6)


def test_observations_that_are_no_tokens_are_refused():
    with pytest.raises(ConfigError, match=r"\(11, 11, 3\)"):
        make(obs_space=(11, 11, 3))


def test_spaces_may_be_given_as_such():
    spaces = {"obs_space": Box(0, 255, (7, 3), np.uint8), "atn_space": Discrete(9)}
    experience = make(**spaces)
    assert experience.observations.shape == (6, 4, 7, 3)
    assert experience.num_actions == 9


def test_state_is_that_of_an_lstm_or_any_other_or_none():
    def shapes(**changes):
        return make(**({"state_shapes": None} | changes)).state_shapes

    assert shapes(hidden_size=5, num_lstm_layers=2) == {"lstm_h": (2, 5), "lstm_c": (2, 5)}
    assert shapes(state_shapes={"memory": (1, 3)}, hidden_size=5) == {"memory": (1, 3)}
    assert shapes() == {}


def test_it_is_full_after_the_last_step_of_the_last_stretch_and_empty_after_a_reset():
    experience = make()
    places = []
    for _ in range(8):
        assert not experience.ready_for_training
        places.append((experience.chunk, experience.step))
        experience.advance()
    assert places == [(chunk, step) for chunk in range(2) for step in range(4)]
    assert experience.ready_for_training
    assert experience.num_rollouts == 1
    experience.used_tokens, experience.current_rewards[:] = 9, 3.0
    experience.reset_for_rollout()
    assert not experience.ready_for_training
    assert (experience.chunk, experience.step, experience.used_tokens) == (0, 0, 1)
    assert experience.current_rewards.tolist() == [3.0] * 3  # it belongs to the next observation


def test_every_segment_is_reached_by_prioritized_sampling_also_without_any_advantage():
    torch.manual_seed(0)
    advantages = torch.zeros(6, 4)
    advantages[0] = 1.0
    seen = set()
    for _ in range(20):
        for minibatch in make().iter_minibatches(advantages, sampling="prioritized", prio_alpha=0.0):
            seen.update(minibatch.index.tolist())
    assert seen == set(range(6))
    # With alpha 1 a segment without advantage has a floor of probability, and minibatches of 2 need one.
    (first, *_) = make().iter_minibatches(advantages, sampling="prioritized", prio_alpha=1.0)
    assert 0 in first.index


def test_prioritized_sampling_says_that_it_needs_advantages():
    with pytest.raises(ValueError, match="needs advantages"):
        next(make().iter_minibatches(sampling="prioritized"))
