"""Every documented way to write an external policy gives the numbers of the original class."""

import dataclasses

import pufferlib.models
import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.errors import CheckpointError
from metta_cli.policies.external import ForeignEnvironment, PytorchAgent
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, PolicyContract, random_observations
from tests.unit.policies import puffer_reference as reference

ENV = ForeignEnvironment(**dataclasses.asdict(EXAMPLE_INTERFACE))
FLAT_ENV = dataclasses.replace(ENV, flat_actions=True)
SIZES = (3, 4)  # noop, move, change_vibe; four directions
NAMES = ("noop_0", "move_0", "move_1", "move_2", "move_3", "change_vibe_0")  # the actions of ENV
CHANNELS = len(ENV.feature_names)


def act(agent, observations, state, dones=None):
    dones = torch.zeros(len(observations), dtype=torch.bool) if dones is None else dones
    with torch.no_grad():
        return agent(TensorDict({"env_obs": observations, "dones": dones}, [len(observations)]), state)


def puffer(**kwargs):
    torch.manual_seed(0)
    return reference.Recurrent(ENV, num_channels=CHANNELS, action_sizes=SIZES, **kwargs)


class TestAPufferLibPolicyKeepsTheContract(PolicyContract):
    def make_policy(self, interface):
        return PytorchAgent(Sketch(ENV), interface)


class TestADefaultPolicyOfPufferLibKeepsTheContract(PolicyContract):
    def make_policy(self, interface):
        policy = pufferlib.models.LSTMWrapper(FLAT_ENV, pufferlib.models.Default(FLAT_ENV, 16), 16, 16)
        return PytorchAgent(policy, interface)


class Sketch(pufferlib.models.LSTMWrapper):
    """The recurrent wrapper around a network that adds up tokens."""

    def __init__(self, env, policy=None, input_size=16, hidden_size=16):
        super().__init__(env, policy or Bag(env, hidden_size), input_size, hidden_size)


class Bag(nn.Module):
    is_continuous = False

    def __init__(self, env, hidden_size=16, **kwargs):
        super().__init__()
        self.embedding = nn.Embedding(256, hidden_size)
        self.actor = nn.ModuleList([nn.Linear(hidden_size, int(n)) for n in env.single_action_space.nvec])
        self.value = nn.Linear(hidden_size, 1)

    def encode_observations(self, observations, state=None):
        tokens = observations.int()
        used = tokens[..., :1] != 255
        rows = (tokens[..., 0] * 7 + tokens[..., 1] * 31 + tokens[..., 2]) % 256
        return torch.tanh((self.embedding(rows) * used).sum(1))

    def decode_actions(self, hidden):
        return [head(hidden) for head in self.actor], self.value(hidden)


def test_the_numbers_of_pufferlibs_wrapper_over_steps():
    theirs = puffer()
    agent, their_state = PytorchAgent(theirs, ENV), {"lstm_h": None, "lstm_c": None}
    state = agent.initial_state(4, "cpu")
    for step in range(4):
        observations = reference.tokens_2025(4, CHANNELS, 30, seed=step)
        td = act(agent, observations, state)
        with torch.no_grad():
            logits, value = theirs.forward_eval(observations, their_state)
        expected = reference.joined(logits, NAMES)
        torch.testing.assert_close(td["full_log_probs"], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(td["values"], value.flatten(), atol=1e-5, rtol=1e-5)


class Features(nn.Module):
    """Four of the documented interfaces around one linear layer."""

    def __init__(self, heads=SIZES):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(3, size) for size in heads])
        self.critic = nn.Linear(3, 1)

    def answer(self, observations):
        mean = observations.float().mean(1)
        logits = tuple(layer(mean) for layer in self.layers)
        return (logits if len(logits) > 1 else logits[0]), self.critic(mean), mean


class PlainForward(Features):
    def forward(self, observations):
        return self.answer(observations)[:2]


class ForwardWithState(Features):
    def forward(self, observations, state=None):
        logits, value, _ = self.answer(observations)
        return list(logits), value[:, 0]


class ForwardWithHidden(Features):
    def forward(self, observations, state=None):
        logits, value, mean = self.answer(observations)
        return (logits, value), mean


class ForwardWithNoHidden(Features):
    def forward(self, observations, state=None):
        logits, value, _ = self.answer(observations)
        return (logits, value), None


class Three(Features):
    def forward(self, observations, state=None):
        return self.answer(observations)


class Evaluating(Features):
    def forward(self, observations, state=None):
        raise AssertionError("forward is for training")

    def forward_eval(self, observations, state):
        return self.answer(observations)[:2]


class EncodeAndDecode(Features):
    def encode_observations(self, observations, state):
        return observations.float().mean(1)

    def decode_actions(self, hidden):
        return [layer(hidden) for layer in self.layers], self.critic(hidden)


FORMS = [
    PlainForward,
    ForwardWithState,
    ForwardWithHidden,
    ForwardWithNoHidden,
    Three,
    Evaluating,
    EncodeAndDecode,
]


@pytest.mark.parametrize("form", FORMS)
def test_every_documented_form_gives_the_same_distribution(form):
    module = form()
    observations = random_observations(ENV, 5)
    td = act(PytorchAgent(module, ENV), observations, {})
    logits, value, _ = Features.answer(module, observations)
    torch.testing.assert_close(td["full_log_probs"], reference.joined(logits, NAMES), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(td["values"], value[:, 0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("form", [PlainForward, ForwardWithHidden, Three, Evaluating])
def test_one_head_is_the_flat_actions(form):
    module = form(heads=(6,))
    observations = random_observations(ENV, 5)
    td = act(PytorchAgent(module, ENV), observations, {})
    expected = Features.answer(module, observations)[0].log_softmax(-1)
    torch.testing.assert_close(td["full_log_probs"], expected, atol=1e-6, rtol=1e-6)


class Chooses(nn.Module):
    def __init__(self, actions):
        super().__init__()
        self.actions = torch.tensor(actions)

    def forward(self, observations, state=None):
        return (self.actions[: len(observations)], torch.zeros(len(observations), 1)), None


@pytest.mark.parametrize("actions", [[0, 4, 5], [[0, 0], [1, 3], [2, 0]]])
def test_actions_that_the_policy_chose_itself_are_taken(actions):
    td = act(PytorchAgent(Chooses(actions), ENV), random_observations(ENV, 3), {})
    assert td["actions"].tolist() == [0, 4, 5]


class AttributeState(nn.Module):
    """Keeps a two-layer LSTM in attributes of the state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(3, 5, 2)
        self.actor, self.critic = nn.Linear(5, 6), nn.Linear(5, 1)

    def forward(self, observations, state):
        features = observations.float().mean(1)[None]
        output, memory = self.lstm(features, (state.lstm_h, state.lstm_c))
        state.lstm_h, state.lstm_c = memory
        return self.actor(output[0]), self.critic(output[0])


class ReturnedState(AttributeState):
    def forward(self, observations, state=None):
        features = observations.float().mean(1)[None]
        output, memory = self.lstm(features, (state["lstm_h"], state["lstm_c"]))
        return (self.actor(output[0]), self.critic(output[0])), memory


@pytest.mark.parametrize("form", [AttributeState, ReturnedState])
def test_memory_goes_on_and_starts_afresh_with_an_episode(form):
    module = form()
    agent, observations = PytorchAgent(module, ENV), random_observations(ENV, 4)
    state = agent.initial_state(2, "cpu")
    dones = torch.tensor([[0, 0], [0, 1], [0, 0]], dtype=torch.bool)
    for step in range(3):
        td = act(agent, observations[[step, step]], state, dones[step])
    features = observations.float().mean(1)
    for agent_index, first in enumerate((0, 1)):
        output, _ = module.lstm(features[first:3])
        expected = module.actor(output[-1]).log_softmax(-1)
        torch.testing.assert_close(td["full_log_probs"][agent_index], expected, atol=1e-6, rtol=1e-6)


class Forgetful(AttributeState):
    def forward(self, observations, state):
        output, _ = self.lstm(observations.float().mean(1)[None])
        return self.actor(output[0]), self.critic(output[0])


class NoValue(nn.Module):
    def forward(self, observations):
        return torch.zeros(len(observations), 6)


class Gru(AttributeState):
    def __init__(self):
        super().__init__()
        self.lstm = nn.GRU(3, 5)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Forgetful, "hands back no memory"),
        (NoValue, "logits and values"),
        (nn.Module, "no method to act with"),
        (Gru, "other than one LSTM"),
        (lambda: PlainForward(heads=(7, 9)), r"widths \[7, 9\]"),
        (lambda: PlainForward(heads=(5,)), r"widths \[5\]"),
    ],
)
def test_what_cannot_be_understood_is_said_before_anything_is_played(module, message):
    with pytest.raises(CheckpointError, match=message):
        PytorchAgent(module(), ENV).check()


class OwnForward(Sketch):
    """As policies of early 2025: a `forward` to act with, and attributes of the state `[N, H]`."""

    def forward(self, observations, state):
        hidden = self.policy.encode_observations(observations) * 2
        assert state.lstm_h.shape == (len(observations), 16)
        state.lstm_h, state.lstm_c = self.cell(hidden, (state.lstm_h, state.lstm_c))
        return self.policy.decode_actions(state.lstm_h)


class OwnForwardWithLayers(Sketch):
    def forward(self, observations, state):
        hidden = self.policy.encode_observations(observations)[None] * 2
        output, (state.lstm_h, state.lstm_c) = self.lstm(hidden, (state.lstm_h, state.lstm_c))
        return self.policy.decode_actions(output[0])


@pytest.mark.parametrize("form", [OwnForward, OwnForwardWithLayers])
def test_a_forward_of_its_own_is_preferred_to_an_inherited_forward_eval(form):
    torch.manual_seed(0)
    module = form(ENV)
    agent = PytorchAgent(module, ENV)
    observations, state = random_observations(ENV, 3), agent.initial_state(3, "cpu")
    act(agent, observations, state)
    td = act(agent, observations, state)
    features = module.policy.encode_observations(observations) * 2
    once = module.cell(features)
    logits, _ = module.policy.decode_actions(module.cell(features, once)[0])
    torch.testing.assert_close(td["full_log_probs"], reference.joined(logits, NAMES), atol=1e-6, rtol=1e-6)


class Scribbles(PlainForward):
    def forward(self, observations):
        observations[observations == 255] = 0
        return super().forward(observations)


def test_a_policy_that_writes_into_its_observations_changes_nobody_elses():
    observations = random_observations(ENV, 3)
    before = observations.clone()
    act(PytorchAgent(Scribbles(), ENV), observations, {})
    assert torch.equal(observations, before)


class Dense(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.shape = env.single_observation_space.shape

    def forward(self, observations, state=None):
        self.seen = observations
        assert observations.shape[1:] == self.shape
        return torch.zeros(len(observations), 6), torch.zeros(len(observations))


def test_a_policy_that_wants_a_dense_grid_is_shown_one():
    env = dataclasses.replace(ENV, is_grid=True)
    policy = Dense(env)
    tokens = [(0x25, 4, 7), (0xA0, 0, 3), (0xFE, 1, 9), (0xFF, 255, 255), (0xB0, 4, 1), (0x33, 5, 1)]
    act(PytorchAgent(policy, env), torch.tensor([tokens], dtype=torch.uint8), {})
    expected = torch.zeros(11, 11, 5, dtype=torch.uint8)
    expected[2, 5, 4], expected[10, 0, 0], expected[5, 5, 1] = 7, 3, 9
    assert torch.equal(policy.seen[0], expected)
