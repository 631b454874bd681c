import logging

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.policies.lstm import LSTMWrapper
from metta_cli.policies.mixin import PyTorchAgentMixin


class Agent(PyTorchAgentMixin, LSTMWrapper):
    def __init__(self, env=None, **kwargs):
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__(env, nn.Linear(3, 4), input_size=4, hidden_size=4, num_layers=1)
        self.init_mixin(**mixin_params)


def test_parameters_are_extracted_and_extra_ones_logged(caplog):
    with caplog.at_level(logging.WARNING):
        agent = Agent(clip_range=0.5, colour="blue")
    assert (agent.clip_range, agent.analyze_weights_interval) == (0.5, 300)
    assert agent.extra_kwargs == {"colour": "blue"}
    assert "colour" in caplog.text


def test_reversed_bases_are_refused():
    with pytest.raises(TypeError, match="must come before"):

        class Reversed(LSTMWrapper, PyTorchAgentMixin):
            pass


def test_weights_are_clipped_in_place_and_only_if_asked():
    agent = Agent(clip_range=0.1)
    with torch.no_grad():
        agent.policy.weight.fill_(2.0)
        agent.policy.bias.fill_(-2.0)
    agent.clip_weights()
    assert agent.policy.weight.max().item() == pytest.approx(0.1)
    assert agent.policy.bias.min().item() == pytest.approx(-0.1)
    agent.clip_range = 0
    with torch.no_grad():
        agent.policy.weight.fill_(2.0)
    agent.clip_weights()
    assert agent.policy.weight.max().item() == 2.0


@pytest.mark.parametrize(("shape", "expected"), [((5, 8, 3), (5, 1)), ((5, 6, 8, 3), (5, 6))])
def test_rows_and_steps_are_written_into_the_tensordict(shape, expected):
    td = TensorDict({}, batch_size=shape[:-2])
    assert Agent().set_tensordict_fields(td, torch.zeros(shape)) == expected
    assert (td["batch"], td["bptt"]) == expected


def test_sampled_actions_follow_the_distribution_and_carry_their_log_probability():
    torch.manual_seed(0)
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).expand(20_000, 3)
    td = Agent().handle_inference_mode(TensorDict({}, [20_000]), logits, torch.zeros(20_000, 1))
    share = torch.bincount(td["actions"], minlength=3) / 20_000
    torch.testing.assert_close(share, torch.tensor([0.7, 0.2, 0.1]), atol=0.02, rtol=0)
    expected = torch.log_softmax(logits, -1)[torch.arange(20_000), td["actions"]]
    torch.testing.assert_close(td["act_log_prob"], expected)
    assert td["values"].shape == (20_000,)


def test_training_mode_scores_the_given_actions():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    action = torch.tensor([[0, 1], [1, 0]])
    td = Agent().handle_training_mode(TensorDict({}, [2, 2]), action, logits, torch.arange(4.0)[:, None])
    log_probs = torch.log_softmax(logits, -1)
    expected = log_probs[torch.arange(4), action.flatten()].view(2, 2)
    torch.testing.assert_close(td["act_log_prob"], expected)
    torch.testing.assert_close(td["entropy"].flatten(), -(log_probs.exp() * log_probs).sum(-1))
    assert td["value"].tolist() == [[0, 1], [2, 3]]


def test_two_heads_are_refused():
    with pytest.raises(ValueError, match="one head"):
        Agent().handle_inference_mode(TensorDict({}, [1]), [torch.zeros(1, 2)] * 2, torch.zeros(1))
