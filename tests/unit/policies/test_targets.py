"""A configuration names classes: of plugins, of modules, of files of the user, of old times."""

import dataclasses
import textwrap

import pytest
import torch
from tensordict import TensorDict

from metta_cli.errors import ConfigError
from metta_cli.policies.external import ForeignEnvironment
from metta_cli.policies.inference import build_foreign
from metta_cli.policies.targets import construct
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, random_observations

ENV = ForeignEnvironment(**dataclasses.asdict(EXAMPLE_INTERFACE))

# The classes of the specification's guide, filled in as a user would.
SAMPLE = """
    import pufferlib.models
    import torch
    from torch import nn


    class Policy(nn.Module):
        def __init__(self, env, hidden_size=512, cnn_channels=128, **kwargs):
            super().__init__()
            self.is_continuous = False
            self.hidden_size = hidden_size
            self.encoder = nn.Linear(env.single_observation_space.shape[0] * 3, cnn_channels)
            self.features = nn.Linear(cnn_channels, hidden_size)
            self.actor = nn.ModuleList([nn.Linear(hidden_size, n) for n in env.single_action_space.nvec])
            self.value = nn.Linear(hidden_size, 1)

        def forward(self, observations, state=None):
            hidden = self.encode_observations(observations, state)
            actions, value = self.decode_actions(hidden)
            return (actions, value), hidden

        def encode_observations(self, observations, state=None):
            flat = observations.flatten(1).float() / 255
            return torch.relu(self.features(torch.relu(self.encoder(flat))))

        def decode_actions(self, hidden):
            return [head(hidden) for head in self.actor], self.value(hidden)


    class Recurrent(pufferlib.models.LSTMWrapper):
        def __init__(self, env, policy, input_size=512, hidden_size=512, **kwargs):
            if policy is None:
                policy = Policy(env, hidden_size=hidden_size, **kwargs)
            super().__init__(env, policy, input_size, hidden_size)
"""


@pytest.fixture
def sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_sample.py").write_text(textwrap.dedent(SAMPLE))


NESTED = {
    "_target_": "my_sample.Recurrent",
    "input_size": 16,
    "hidden_size": 16,
    "policy": {"_target_": "my_sample.Policy", "cnn_channels": 4, "hidden_size": 16},
}


@pytest.mark.parametrize(
    "config",
    [
        NESTED,
        {**NESTED, "_target_": "my_sample.py:Recurrent"},
        {**NESTED, "policy": None},
        {"_target_": "my_sample.Policy", "hidden_size": 16, "cnn_channels": 4},
    ],
)
@pytest.mark.usefixtures("sample")
def test_the_classes_of_the_guide_work_unchanged_from_a_users_file(config):
    torch.manual_seed(0)
    original = construct(config, ENV)
    agent = build_foreign(config, original.state_dict(), EXAMPLE_INTERFACE)
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    dones = torch.zeros(5, dtype=torch.bool)
    state, memory = agent.initial_state(5, "cpu"), {"lstm_h": None, "lstm_c": None}
    with torch.no_grad():
        for _ in range(2):
            td = agent(TensorDict({"env_obs": observations, "dones": dones}, [5]), state)
            if hasattr(original, "forward_eval"):
                logits, value = original.forward_eval(observations, memory)
            else:
                (logits, value), _ = original(observations)
    verb = logits[0].log_softmax(-1)
    torch.testing.assert_close(td["values"], value.flatten(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(td["full_log_probs"][:, 0], verb[:, 0], atol=1e-5, rtol=1e-5)
    moves = verb[:, 1:2] + logits[1].log_softmax(-1)
    torch.testing.assert_close(td["full_log_probs"][:, 1:5], moves, atol=1e-5, rtol=1e-5)


def test_names_of_old_configurations_are_the_plugins():
    config = {
        "_target_": "metta.agent.external.example.Recurrent",
        "input_size": 16,
        "hidden_size": 16,
        "policy": {
            "_target_": "metta.agent.external.example.Policy",
            "cnn_channels": 8,
            "hidden_size": 16,
        },
    }
    plugin = construct({"_target_": "puffer_recurrent", "hidden_size": 16, "cnn_channels": 8}, ENV)
    shapes = {name: tensor.shape for name, tensor in construct(config, ENV).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in plugin.state_dict().items()}


def test_a_class_of_an_installed_module_is_found():
    config = {"_target_": "pufferlib.models.Default", "hidden_size": 4}
    assert type(construct(config, ENV)).__name__ == "Default"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 4}, "_target_ is missing"),
        ({"_target_": "puffer_recurent"}, "puffer_recurrent"),
        ({"_target_": "no_such_module.Policy"}, "ModuleNotFoundError"),
        ({"_target_": "my_sample.Polcy"}, "AttributeError"),
        ({"_target_": "my_sample.Policy", "cnn_channels": "many"}, "cannot be built: TypeError"),
        ({"_target_": "puffer_recurrent", "policy": {"_target_": "pathlib.Path"}}, "pathlib.Path"),
        ({"_target_": "pufferlib.models.Default", "hiden_size": 4}, "hiden_size"),
    ],
)
@pytest.mark.usefixtures("sample")
def test_a_wrong_description_says_what_is_wrong(config, message):
    with pytest.raises(ConfigError, match=message):
        construct(config, ENV)


def test_the_old_name_of_the_transformer_is_the_plugin():
    place = "metta.agent.external.lstm_transformer"
    nested = {"_target_": f"{place}.Policy", "width": 32, "depth": 1}
    policy = construct({"_target_": f"{place}.Recurrent", "policy": nested}, ENV)
    assert type(policy).__name__ == "LSTMTransformer"
    assert len(policy.policy.blocks) == 1
