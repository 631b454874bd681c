"""`initialize_to_environment`: an agent acts by name, wherever it is put."""

import copy
import dataclasses

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.policies.lstm import LSTMWrapper
from metta_cli.policies.mixin import PyTorchAgentMixin
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, PolicyContract, random_observations

FEATURES = {name: number for number, name in enumerate(EXAMPLE_INTERFACE.feature_names)}
ACTIONS = EXAMPLE_INTERFACE.action_names
REVERSED = dataclasses.replace(
    EXAMPLE_INTERFACE,
    action_names=ACTIONS[::-1],
    feature_names=EXAMPLE_INTERFACE.feature_names[::-1],
    tag_names=EXAMPLE_INTERFACE.tag_names[::-1],
)


class Agent(PyTorchAgentMixin, LSTMWrapper):
    def __init__(self, env, policy=None, **kwargs):
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__(env, policy, 16, 16, num_layers=1)
        self.init_mixin(**mixin_params)

    def forward(self, td, state=None, action=None):
        observations = td["env_obs"]
        B, TT = self.set_tensordict_fields(td, observations)
        hidden = self.lstm_forward(self.policy.encode_observations(observations, state), td, state)
        logits, value = self.policy.decode_actions(hidden, B * TT)
        if action is None:
            return self.handle_inference_mode(td, logits, value)
        return self.handle_training_mode(td, action, logits, value)


class Bag(PyTorchAgentMixin, nn.Module):
    """Remembers the tokens that reached it; knows of no environment."""

    def __init__(self):
        super().__init__()
        self.init_mixin(**self.extract_mixin_params({}))
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, td, state=None, action=None):
        self.seen = td["env_obs"][..., 1].flatten().tolist()
        self.locations = td["env_obs"][..., 0].flatten().tolist()
        rows = len(td["env_obs"])
        return self.handle_inference_mode(td, self.scale.expand(rows, 2), torch.zeros(rows))


def make():
    torch.manual_seed(0)
    return Agent(EXAMPLE_INTERFACE)


def inputs(observations):
    rows = observations.shape[0]
    return TensorDict({"env_obs": observations, "dones": torch.zeros(rows, dtype=torch.bool)}, [rows])


def act(agent, observations):
    with torch.no_grad():
        return agent(inputs(observations))["full_log_probs"]


def renumbered(observations, interface):
    """The same sights, in the numbers of another interface."""
    changed = observations.clone()
    used = observations[..., 0] != 255
    feature = torch.tensor(
        [interface.feature_names.index(name) for name in EXAMPLE_INTERFACE.feature_names], dtype=torch.uint8
    )
    tag = torch.tensor(
        [interface.tag_names.index(name) for name in EXAMPLE_INTERFACE.tag_names], dtype=torch.uint8
    )
    is_tag = used & (observations[..., 1] == FEATURES["tag"])
    changed[..., 1][used] = feature[observations[..., 1][used].long()]
    changed[..., 2][is_tag] = tag[observations[..., 2][is_tag].long()]
    return changed


def look(agent, *numbers):
    """Return the numbers of the features that reach the agent, None for a blanked token."""
    tokens = torch.tensor([[[17, number, 1] for number in numbers]], dtype=torch.uint8)
    agent(inputs(tokens))
    return [
        None if location == 255 else number
        for number, location in zip(agent.seen, agent.locations, strict=True)
    ]


def test_other_numbers_change_nothing():
    agent, observations = make(), random_observations(EXAMPLE_INTERFACE, 6)
    before = act(agent, observations)
    agent.initialize_to_environment(REVERSED)
    after = act(agent, renumbered(observations, REVERSED))
    torch.testing.assert_close(after, before.flip(-1))


def test_going_back_leaves_nothing_of_the_other_environment():
    agent, observations = make(), random_observations(EXAMPLE_INTERFACE, 6)
    before = act(agent, observations)
    agent.initialize_to_environment(REVERSED)
    assert not torch.equal(act(agent, observations), before)
    agent.initialize_to_environment(EXAMPLE_INTERFACE)
    assert torch.equal(act(agent, observations), before)


def test_what_was_observed_is_not_rewritten_for_the_caller():
    agent, observations = make(), random_observations(EXAMPLE_INTERFACE, 6)
    agent.initialize_to_environment(REVERSED)
    td = inputs(observations)
    assert agent(td) is td
    assert torch.equal(td["env_obs"], observations)


def test_features_may_come_as_a_mapping_of_the_older_kind():
    agent, observations = make(), random_observations(EXAMPLE_INTERFACE, 6)
    before = act(agent, observations)
    agent.initialize_to_environment(
        {name: {"id": len(FEATURES) - 1 - number, "type": "scalar"} for name, number in FEATURES.items()},
        ACTIONS,
        None,
        "cpu",
    )
    shifted = dataclasses.replace(EXAMPLE_INTERFACE, feature_names=EXAMPLE_INTERFACE.feature_names[::-1])
    torch.testing.assert_close(act(agent, renumbered(observations, shifted)), before)


def test_an_agent_made_without_an_environment_keeps_the_numbers_of_the_first():
    agent = Bag().eval()
    agent.initialize_to_environment({"hp": 3, "wall": 5}, ["noop", "move"])
    assert agent.original_feature_mapping == {"hp": 3, "wall": 5}
    assert look(agent, 3, 5) == [3, 5]
    agent.initialize_to_environment({"wall": 3, "hp": 9}, ["noop", "move"])
    assert look(agent, 3, 9) == [5, 3]
    assert look(agent, 5) == [None]  # no feature of this environment


def test_an_unknown_feature_is_blanked_in_evaluation():
    agent = Bag().eval()
    agent.initialize_to_environment({"hp": 0}, ["noop", "move"])
    agent.initialize_to_environment({"hp": 0, "gem": 1}, ["noop", "move"])
    assert look(agent, 0, 1) == [0, None]
    assert agent.original_feature_mapping == {"hp": 0}


def test_an_unknown_feature_in_training_gets_a_number_that_collides_with_none():
    agent = Bag().eval()
    agent.initialize_to_environment({"hp": 0, "wall": 1}, ["noop", "move"])
    agent.initialize_to_environment({"hp": 0, "gem": 1, "wall": 2}, ["noop", "move"], is_training=True)
    assert agent.original_feature_mapping == {"hp": 0, "wall": 1, "gem": 2}
    assert look(agent, 0, 1, 2) == [0, 2, 1]
    agent.initialize_to_environment({"hp": 0, "gem": 7}, ["noop", "move"], is_training=False)
    assert look(agent, 7) == [2]


def test_restored_numbers_hold_from_the_first_environment_on():
    agent = Bag().eval()
    agent.restore_original_feature_mapping({"hp": 4, "wall": 1})
    agent.initialize_to_environment({"hp": 0, "wall": 1}, ["noop", "move"])
    assert look(agent, 0, 1) == [4, 1]


def test_an_action_that_the_weights_do_not_know_is_never_taken():
    agent, observations = make(), random_observations(EXAMPLE_INTERFACE, 6)
    agent.initialize_to_environment(FEATURES, ["fly", *ACTIONS])
    log_probs = act(agent, observations)
    assert log_probs.shape[-1] == len(ACTIONS) + 1
    assert bool((log_probs[:, 0] == float("-inf")).all())


def test_an_environment_without_a_known_action_is_refused():
    agent = make()
    with pytest.raises(ValueError, match="none of the actions"):
        agent.initialize_to_environment(FEATURES, ["fly", "dig"])
    with pytest.raises(ValueError, match="action_names is missing"):
        agent.initialize_to_environment(FEATURES)


def test_weights_and_copies_are_untouched_by_fitting():
    agent, observations = make(), random_observations(EXAMPLE_INTERFACE, 6)
    names = list(agent.state_dict())
    agent.initialize_to_environment(REVERSED)
    assert list(agent.state_dict()) == names
    twin = copy.deepcopy(agent)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.zero_()
    assert act(twin, observations).std() > 0
    assert act(agent, observations).std() == 0


class TestFittedAgentKeepsTheContract(PolicyContract):
    def make_policy(self, interface):
        agent = Agent(
            dataclasses.replace(
                interface,
                action_names=interface.action_names[:-1][::-1],
                feature_names=interface.feature_names[::-1],
                tag_names=interface.tag_names[::-1],
            )
        )
        agent.initialize_to_environment(interface)
        return agent
