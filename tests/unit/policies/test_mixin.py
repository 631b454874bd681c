import logging

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.policies.lstm import LSTMWrapper
from metta_cli.policies.mixin import PyTorchAgentMixin
from metta_cli.policies.tokens import TokenConv2d
from metta_cli.testing.contracts import EXAMPLE_INTERFACE
from metta_cli.training.regularization import InitialWeights


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
    assert "interval" not in caplog.text
    assert agent.l2_init_weight_update_interval == 0
    assert "colour" in caplog.text


@pytest.mark.parametrize(
    ("own", "configured", "distance"), [(2, 0, 0.0), (3, 0, 0.25), (3, 1, 0.0), (0, 0, 0.25)]
)
def test_the_agent_may_say_how_often_the_weights_that_l2_init_pulls_to_are_renewed(own, configured, distance):
    agent = Agent(l2_init_weight_update_interval=own)
    initial = InitialWeights(agent)
    with torch.no_grad():
        agent.policy.weight[0, 0] += 0.5
    initial.update_if_due(agent, epoch=2, interval=configured)
    assert initial.loss(agent).item() == pytest.approx(distance)


def test_reversed_bases_are_refused():
    with pytest.raises(TypeError, match="PyTorchAgentMixin must come before the module class"):

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


def test_clipping_reaches_biases_and_token_convolutions_but_no_embedding():
    agent = Agent(clip_range=0.1)
    agent.window = TokenConv2d(2, 3, kernel_size=3, stride=1, height=3, width=3)
    agent.embedding = nn.Embedding(2, 3)
    with torch.no_grad():
        for parameter in (agent.window.weight, agent.window.bias, agent.embedding.weight):
            parameter.fill_(5.0)
    agent.clip_weights()
    assert agent.window.weight.max().item() == pytest.approx(0.1)
    assert agent.window.bias.max().item() == pytest.approx(0.1)
    assert agent.embedding.weight.max().item() == 5.0


def test_the_distance_to_the_snapshot_pulls_the_weights_back():
    agent = Agent()
    agent.update_l2_init_weight_copy()
    assert agent.l2_init_loss().item() == 0
    with torch.no_grad():
        agent.policy.weight += 2.0
        agent.policy.bias += 7.0
        agent.lstm.weight_hh_l0 += 7.0
    loss = agent.l2_init_loss()
    assert loss.item() == pytest.approx(4.0 * agent.policy.weight.numel())
    loss.backward()
    torch.testing.assert_close(agent.policy.weight.grad, torch.full_like(agent.policy.weight, 4.0))
    assert agent.policy.bias.grad is None
    agent.update_l2_init_weight_copy()
    assert agent.l2_init_loss().item() == 0


def test_the_first_distance_is_taken_from_the_weights_of_then():
    agent = Agent()
    with torch.no_grad():
        agent.policy.weight.fill_(3.0)
    assert agent.l2_init_loss().item() == 0
    assert not [name for name in agent.state_dict() if "init" in name]


def test_every_weight_is_measured_under_its_name():
    measured = {entry.pop("name"): entry for entry in Agent().compute_weight_metrics(delta=0.05)}
    assert set(measured) == {"policy.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0"}
    # Four blocks of 4 x 4 that are orthogonal together: every singular value is 1.
    assert measured["lstm.weight_hh_l0"]["largest_singular_value"] == pytest.approx(1.0, abs=1e-5)
    assert measured["lstm.weight_hh_l0"]["effective_rank"] == 4
    assert measured["lstm.weight_hh_l0"]["norm"] == pytest.approx(2.0, abs=1e-5)


def test_action_heads_are_one_small_layer_over_the_flat_actions():
    agent = Agent()
    heads = agent.create_action_heads(EXAMPLE_INTERFACE, 16)
    assert [(head.in_features, head.out_features) for head in heads] == [(16, EXAMPLE_INTERFACE.num_actions)]
    weight = heads[0].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)) * 1e-4, atol=1e-7, rtol=1e-4)
    assert not heads[0].bias.any()
    with torch.no_grad():
        td = agent.handle_inference_mode(
            TensorDict({}, [4]), [head(torch.randn(4, 16)) for head in heads], torch.zeros(4)
        )
    assert td["full_log_probs"].shape == (4, EXAMPLE_INTERFACE.num_actions)
    assert agent.create_action_heads(EXAMPLE_INTERFACE)[0].in_features == 528


def test_actions_are_counted_through_with_the_compensating_formula():
    agent = Agent()
    agent.initialize_to_environment(
        {"hp": 0}, ["noop", "move", "attack", "swap"], action_max_params=[0, 3, 8, 0]
    )
    pairs = torch.tensor([[0, 0], [1, 0], [1, 3], [2, 0], [2, 8], [3, 0]])
    index = agent._convert_action_to_logit_index(pairs)
    assert index.tolist() == [0, 1, 4, 5, 13, 14]
    assert torch.equal(agent._convert_logit_index_to_action(index), pairs)
    everything = torch.arange(15)
    assert torch.equal(
        agent._convert_action_to_logit_index(agent._convert_logit_index_to_action(everything)), everything
    )


def test_before_that_every_flat_action_is_a_type_without_arguments():
    agent = Agent(EXAMPLE_INTERFACE)
    pairs = agent._convert_logit_index_to_action(torch.tensor([0, 5]))
    assert pairs.tolist() == [[0, 0], [5, 0]]
    assert agent._convert_action_to_logit_index(pairs).tolist() == [0, 5]
