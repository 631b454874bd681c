"""The buffer, filled with data that says where it came from."""

import pytest
import torch

from metta_cli.errors import ConfigError
from metta_cli.training.experience import Experience


def make(**changes):
    sizes = {
        "num_agents": 3,
        "batch_size": 24,
        "bptt_horizon": 4,
        "num_tokens": 16,
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
    returns, weights = row[:, None].expand(6, 4) * 10, torch.tensor([[0.5], [1.0]])
    minibatch = experience.minibatch(torch.tensor([4, 1]), returns, weights)
    for part in (minibatch.observations, minibatch.actions, minibatch.behavior_log_probs):
        assert part.flatten(1)[:, 0].tolist() == [4, 1]
    assert minibatch.values[:, -1].tolist() == minibatch.rewards[:, -1].tolist() == [4, 1]
    assert minibatch.dones.nonzero().tolist() == [[0, 2]]
    assert minibatch.state["lstm_h"][1, :, 0].tolist() == [4, 1]
    assert minibatch.returns[:, 0].tolist() == [40, 10]
    assert minibatch.weights is weights


def test_observations_are_trimmed_to_the_tokens_in_use():
    experience = make()
    for used, kept in ((1, 8), (8, 8), (9, 16), (16, 16)):
        experience.used_tokens = used
        minibatch = experience.minibatch(torch.tensor([0]), torch.zeros(6, 4), torch.ones(1, 1))
        assert minibatch.observations.shape[2] == kept


def test_a_batch_that_leaves_segments_half_full_is_refused_with_a_size_that_works():
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=24") as caught:
        make(batch_size=28)
    assert "3 x 4 = 12" in caught.value.message
