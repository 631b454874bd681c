"""The contract accepts a right policy and refuses each wrong one, by the test that names the fault."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metta_cli.algorithms import distributions
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, PolicyContract, random_observations

TESTS = sorted(name for name in vars(PolicyContract) if name.startswith("test_"))


class Small(nn.Module):
    """A right policy: counts of features, a leaky memory of them, two heads."""

    def __init__(self, interface):
        super().__init__()
        self.width, self.num_actions = len(interface.feature_names), interface.num_actions
        self.actor = nn.Linear(2 * self.width, interface.num_actions)
        self.critic = nn.Linear(2 * self.width, 1)

    def initial_state(self, num_agents, device):
        return {"memory": torch.zeros(1, num_agents, self.width, device=device)}

    def encode(self, observations):
        seen = (observations[..., 0] != 255).unsqueeze(-1)
        features = observations[..., 1].clamp(max=self.width - 1).long()
        return (nn.functional.one_hot(features, self.width) * seen).sum(-2) / 10.0

    def step(self, features, memory, dones):
        memory = memory * ~dones[:, None]
        return torch.cat([features, memory], dim=-1), 0.7 * memory + features

    def heads(self, hidden):
        return distributions.log_softmax(self.actor(hidden)), self.critic(hidden).squeeze(-1)

    def forward(self, td, state=None, action=None):
        rows = td["env_obs"].shape[0]
        state = self.initial_state(rows, "cpu") if state is None else state
        return self.act(td, state) if action is None else self.judge(td, state, action)

    def act(self, td, state):
        hidden, memory = self.step(self.encode(td["env_obs"]), state["memory"][0], td["dones"])
        state["memory"] = memory[None]
        td["full_log_probs"], td["values"] = self.heads(hidden)
        td["actions"] = distributions.sample(td["full_log_probs"])
        td["act_log_prob"] = distributions.log_prob(td["full_log_probs"], td["actions"])
        return td

    def judge(self, td, state, action):
        memory, hidden = state["memory"][0], []
        for step in range(action.shape[1]):
            features = self.encode(td["env_obs"][:, step])
            step_hidden, memory = self.step(features, memory, td["dones"][:, step])
            hidden.append(step_hidden)
        td["full_log_probs"], td["value"] = self.heads(torch.stack(hidden, dim=1))
        td["act_log_prob"] = distributions.log_prob(td["full_log_probs"], action)
        td["entropy"] = distributions.entropy(td["full_log_probs"])
        return td


class NoReset(Small):
    def step(self, features, memory, dones):
        return super().step(features, memory, torch.zeros_like(dones))


class ResetsTooLate(Small):
    def step(self, features, memory, dones):
        return torch.cat([features, memory], dim=-1), (0.7 * memory + features) * ~dones[:, None]


class NoResetInTraining(Small):
    def judge(self, td, state, action):
        dones, td["dones"] = td["dones"], torch.zeros_like(td["dones"])
        td = super().judge(td, state, action)
        td["dones"] = dones
        return td


class StartsTrainingAfresh(Small):
    def judge(self, td, state, action):
        return super().judge(td, self.initial_state(len(action), "cpu"), action)


class ForgetsState(Small):
    def act(self, td, state):
        return super().act(td, dict(state))


class IgnoresState(Small):
    def step(self, features, memory, dones):
        return torch.cat([features, 0 * memory], dim=-1), 0.7 * memory + features


class StartsWithOnes(Small):
    def initial_state(self, num_agents, device):
        return {"memory": torch.ones(1, num_agents, self.width)}


class TrainsOnState(Small):
    def judge(self, td, state, action):
        state["memory"] += 1
        return super().judge(td, state, action)


class Greedy(Small):
    def act(self, td, state):
        td = super().act(td, state)
        td["actions"] = td["full_log_probs"].argmax(-1)
        td["act_log_prob"] = distributions.log_prob(td["full_log_probs"], td["actions"])
        return td


class OwnRandomness(Small):
    noise = torch.Generator().manual_seed(0)

    def act(self, td, state):
        td = super().act(td, state)
        td["actions"] = distributions.sample(td["full_log_probs"], self.noise)
        td["act_log_prob"] = distributions.log_prob(td["full_log_probs"], td["actions"])
        return td


class Logits(Small):
    def heads(self, hidden):
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


class ColumnOfValues(Small):
    def heads(self, hidden):
        log_probs, values = super().heads(hidden)
        return log_probs, values.unsqueeze(-1)


class WrongLogProb(Small):
    def act(self, td, state):
        td = super().act(td, state)
        td["act_log_prob"] = td["full_log_probs"].max(-1).values
        return td


class JudgesOwnActions(Small):
    def judge(self, td, state, action):
        return super().judge(td, state, torch.zeros_like(action))


class NegativeEntropy(Small):
    def judge(self, td, state, action):
        td = super().judge(td, state, action)
        td["entropy"] = -td["entropy"]
        return td


class CopiesInputs(Small):
    def forward(self, td, state=None, action=None):
        return super().forward(td.clone(), state, action)


class BatchStatistics(Small):
    def encode(self, observations):
        features = super().encode(observations)
        return features - features.mean(0)


class CountsEmptyRows(Small):
    def encode(self, observations):
        return super().encode(observations) + observations.shape[-2] / 10


class DividesByTokens(Small):
    def encode(self, observations):
        seen = (observations[..., 0] != 255).sum(-1, keepdim=True)
        return super().encode(observations) / seen


class DetachedValue(Small):
    def heads(self, hidden):
        log_probs, values = super().heads(hidden)
        return log_probs, values.detach()


class UnusedParameter(Small):
    def __init__(self, interface):
        super().__init__(interface)
        self.unused = nn.Linear(2, 2)


class HiddenWeights(Small):
    def __init__(self, interface):
        super().__init__(interface)
        self.bias = [torch.randn(interface.num_actions)]

    def heads(self, hidden):
        log_probs, values = super().heads(hidden)
        return distributions.log_softmax(log_probs + self.bias[0]), values


WRONG = [
    (NoReset, "test_a_start_of_an_episode_is_a_fresh_state"),
    (ResetsTooLate, "test_a_start_of_an_episode_is_a_fresh_state"),
    (NoResetInTraining, "test_training_judges_as_acting_did"),
    (StartsTrainingAfresh, "test_training_judges_as_acting_did"),
    (ForgetsState, "test_acting_updates_the_state_in_place"),
    (IgnoresState, "test_a_state_that_is_kept_matters"),
    (StartsWithOnes, "test_initial_state_is_zero_with_one_column_per_agent"),
    (TrainsOnState, "test_training_leaves_the_state_alone"),
    (Greedy, "test_actions_follow_the_reported_distribution"),
    (OwnRandomness, "test_acting_is_deterministic_given_the_seed"),
    (Logits, "test_acting_sets_the_documented_outputs"),
    (ColumnOfValues, "test_acting_sets_the_documented_outputs"),
    (WrongLogProb, "test_acting_sets_the_documented_outputs"),
    (ColumnOfValues, "test_training_sets_the_documented_outputs"),
    (JudgesOwnActions, "test_training_sets_the_documented_outputs"),
    (NegativeEntropy, "test_training_sets_the_documented_outputs"),
    (CopiesInputs, "test_outputs_are_written_into_the_inputs"),
    (BatchStatistics, "test_agents_do_not_influence_each_other"),
    (CountsEmptyRows, "test_empty_rows_may_be_cut_off"),
    (DividesByTokens, "test_an_empty_observation_is_no_accident"),
    (DetachedValue, "test_gradients_reach_all_parameters"),
    (UnusedParameter, "test_gradients_reach_all_parameters"),
    (HiddenWeights, "test_weights_survive_a_round_trip"),
]


def contract_of(policy_class):
    class Contract(PolicyContract):
        def make_policy(self, interface):
            return policy_class(interface)

    return Contract()


class TestSmall(PolicyContract):
    def make_policy(self, interface):
        return Small(interface)


@pytest.mark.parametrize(
    ("policy_class", "test"), WRONG, ids=[f"{policy_class.__name__}-{test}" for policy_class, test in WRONG]
)
def test_wrong_policy_is_refused_by_the_test_that_names_its_fault(policy_class, test):
    with pytest.raises(AssertionError):
        getattr(contract_of(policy_class), test)()


def test_every_test_of_the_contract_refuses_something():
    # These two say in their own words what others then need: a module, and a start without a state.
    elsewhere = {"test_policy_is_a_module_with_the_two_methods", "test_no_state_is_the_state_of_a_start"}
    assert set(TESTS) - elsewhere == {test for _, test in WRONG}


def test_policy_without_initial_state_is_refused():
    with pytest.raises(AssertionError):
        contract_of(lambda interface: nn.Linear(1, 1)).test_policy_is_a_module_with_the_two_methods()


def test_policy_that_takes_no_state_for_another_start_is_refused():
    class OtherStart(Small):
        def forward(self, td, state=None, action=None):
            if state is None:
                state = {"memory": torch.ones(1, td["env_obs"].shape[0], self.width)}
            return super().forward(td, state, action)

    with pytest.raises(AssertionError):
        contract_of(OtherStart).test_no_state_is_the_state_of_a_start()


def test_contract_without_a_policy_says_so():
    with pytest.raises(NotImplementedError):
        PolicyContract().test_outputs_are_written_into_the_inputs()


def test_random_observations_are_such_as_the_interface_allows():
    observations = random_observations(EXAMPLE_INTERFACE, 50, 4)
    assert observations.shape == (50, 4, EXAMPLE_INTERFACE.num_tokens, 3)
    assert torch.equal(observations, random_observations(EXAMPLE_INTERFACE, 50, 4))
    location, feature, value = observations.long().unbind(-1)
    empty = location == 255
    assert torch.equal(empty, feature == 255)
    assert torch.equal(empty, empty.cummax(-1).values)  # only at the end
    assert empty[..., -EXAMPLE_INTERFACE.num_tokens // 4 :].all()
    grid = ~empty & (location != 254)
    assert (location[grid] // 16 < 11).all()
    assert (location[grid] % 16 < 11).all()
    assert set(feature[~empty].tolist()) == set(range(len(EXAMPLE_INTERFACE.feature_names)))
    assert value[(feature == 2) & ~empty].max() == len(EXAMPLE_INTERFACE.tag_names) - 1
