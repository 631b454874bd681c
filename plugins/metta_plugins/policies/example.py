"""Example: the least that a recurrent policy needs, to read before writing one's own."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.lstm import LSTMWrapper
from metta_cli.policies.mixin import PyTorchAgentMixin
from metta_cli.policies.tokens import TokenChannels, TokenConv2d

TOKENS_IN_SIGHT = 32


class ExampleNetwork(nn.Module):
    """One layer over the whole window, and linear heads.

    Args:
        env: names and sizes; never rely on a number that is not from there.
        hidden_size: features, and width of the LSTM.
    """

    def __init__(self, env: EnvironmentInterface, hidden_size: int) -> None:
        super().__init__()
        self.channels = TokenChannels(env)
        side = min(env.observation_height, env.observation_width)
        self.window = TokenConv2d(
            len(self.channels.names),
            hidden_size,
            kernel_size=side,
            stride=1,
            height=env.observation_height,
            width=env.observation_width,
        )
        self.actor = nn.Linear(hidden_size, env.num_actions)
        self.critic = nn.Linear(hidden_size, 1)
        nn.init.normal_(self.window.weight, std=TOKENS_IN_SIGHT**-0.5)
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.orthogonal_(self.critic.weight)

    def encode_observations(self, observations: Tensor, state: RecurrentState | None = None) -> Tensor:
        """Return features `[B, H]` of tokens uint8 `[B, K, 3]`."""
        channels, inputs = self.channels(observations)
        return torch.relu(self.window(observations[..., 0], channels, inputs)).amax((2, 3))

    def decode_actions(self, hidden: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return logits `[B, A]` and values `[B]` of recurrent features `[B, H]`."""
        return self.actor(hidden), self.critic(hidden).squeeze(1)


class Example(PyTorchAgentMixin, LSTMWrapper):
    """The network with an LSTM of one layer.

    Args:
        env: the environment interface.
        hidden_size: `H`, width of the LSTM.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(self, env: EnvironmentInterface, hidden_size: int = 128, **kwargs: Any) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        network = ExampleNetwork(env, hidden_size)
        super().__init__(env, network, hidden_size, hidden_size, num_layers=1)
        self.init_mixin(**mixin_params)

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """Act, or judge the actions that were taken: see `metta_cli.policies.contract.Policy.forward`."""
        observations = td["env_obs"]
        self.set_tensordict_fields(td, observations)
        features = self.policy.encode_observations(observations.flatten(0, -3), state)
        logits, value = self.policy.decode_actions(self.lstm_forward(features, td, state))
        if action is None:
            return self.handle_inference_mode(td, logits, value)
        return self.handle_training_mode(td, action, logits, value)
