"""The two agents of the guide to the mixin, as it spells them, keep the contract of a policy."""

import torch
from tensordict import TensorDict

from metta_cli.api import LSTMWrapper, PyTorchAgentMixin
from metta_cli.testing.contracts import PolicyContract
from metta_plugins.policies.fast import FastNetwork


class MyAgent(PyTorchAgentMixin, LSTMWrapper):
    # Mixin must come before LSTMWrapper for proper method resolution
    def __init__(self, env, policy=None, input_size=128, hidden_size=128, num_layers=2, **kwargs):
        # Extract mixin parameters
        mixin_params = self.extract_mixin_params(kwargs)

        # Initialize parent classes
        super().__init__(env, policy, input_size, hidden_size, num_layers=num_layers)

        # Initialize mixin
        self.init_mixin(**mixin_params)

    @torch._dynamo.disable
    def forward(self, td: TensorDict, state=None, action=None):
        observations = td["env_obs"]

        # Use mixin to set TensorDict fields
        B, TT = self.set_tensordict_fields(td, observations)

        # agent-specific encoding and LSTM forward, which may use the fields
        hidden = self.policy.encode_observations(observations, state)
        flat_hidden = self.lstm_forward(hidden.view(td["batch"] * td["bptt"], -1), td, state)

        logits_list, value = self.policy.decode_actions(flat_hidden, B * TT)

        # Use mixin for mode-specific processing
        if action is None:
            td = self.handle_inference_mode(td, logits_list, value)
        else:
            td = self.handle_training_mode(td, action, logits_list, value)

        return td


class FastRefactored(PyTorchAgentMixin, LSTMWrapper):
    def __init__(self, env, **kwargs):
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__(env, FastNetwork(env), 128, 128, num_layers=2)
        self.init_mixin(**mixin_params)

    def forward(self, td, state=None, action=None):
        observations = td["env_obs"]
        B, TT = self.set_tensordict_fields(td, observations)

        hidden = self.policy.encode_observations(observations, state)
        flat_hidden = self.lstm_forward(hidden, td, state)
        logits_list, value = self.policy.decode_actions(flat_hidden, B * TT)

        if action is None:
            td = self.handle_inference_mode(td, logits_list, value)
        else:
            td = self.handle_training_mode(td, action, logits_list, value)
        return td


class TestMyAgent(PolicyContract):
    def make_policy(self, interface):
        return MyAgent(interface, clip_range=1.0)


class TestFastRefactored(PolicyContract):
    def make_policy(self, interface):
        return FastRefactored(interface)
