"""Fast: two convolutions over the token grid, two dense layers, an LSTM, and a bilinear action head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.lstm import LSTMWrapper
from metta_cli.policies.mixin import PyTorchAgentMixin
from metta_cli.policies.tokens import TokenChannels, TokenConv2d
from metta_plugins.policies.bilinear import BilinearHeads, initialize_orthogonal

FEATURES = 128
CONV_CHANNELS = 64
TOKENS_PER_KERNEL = 16


class FastNetwork(BilinearHeads):
    """Encoder and heads of `Fast`.

    Args:
        interface: what the environment shows and accepts.
        hidden_size: width of the recurrent layer between encoder and heads.
    """

    def __init__(self, interface: EnvironmentInterface, hidden_size: int = 128) -> None:
        super().__init__()
        self.channels = TokenChannels(interface)
        self.conv1 = TokenConv2d(
            len(self.channels.names),
            CONV_CHANNELS,
            kernel_size=5,
            stride=3,
            height=interface.observation_height,
            width=interface.observation_width,
        )
        self.conv2 = nn.Conv2d(CONV_CHANNELS, CONV_CHANNELS, kernel_size=3)
        grid = (self.conv1.out_height - 2) * (self.conv1.out_width - 2) * CONV_CHANNELS
        self.fc1 = nn.Linear(grid, FEATURES)
        self.fc2 = nn.Linear(FEATURES, FEATURES)
        self.add_heads(interface, hidden_size)
        self._initialize()

    def _initialize(self) -> None:
        initialize_orthogonal(
            (name, parameter) for name, parameter in self.named_parameters() if name != "actor_weight"
        )
        # The grid is almost empty: what counts is how many tokens a kernel meets, not how many it could.
        nn.init.normal_(self.conv1.weight, std=(2 / TOKENS_PER_KERNEL) ** 0.5)
        self.finish_heads()

    def encode_observations(self, observations: Tensor, state: RecurrentState | None = None) -> Tensor:
        """Return `[B, 128]` features of tokens uint8 `[..., K, 3]`; `B` counts all leading rows."""
        tokens = observations.reshape(-1, *observations.shape[-2:])
        channels, inputs = self.channels(tokens)
        grid = torch.relu(self.conv1(tokens[..., 0], channels, inputs))
        grid = torch.relu(self._conv2(grid))
        return torch.relu(self.fc2(torch.relu(self.fc1(grid))))

    def _conv2(self, grid: Tensor) -> Tensor:
        if grid.shape[2:] != self.conv2.kernel_size:
            convolved: Tensor = self.conv2(grid)
            return convolved.flatten(1)
        # The kernel covers the whole grid: one matrix product, 1.7 times as fast on a CPU.
        return F.linear(grid.flatten(1), self.conv2.weight.flatten(1), self.conv2.bias)


class Fast(PyTorchAgentMixin, LSTMWrapper):
    """The default architecture: small, recurrent, and fast on a CPU.

    Args:
        env: the environment interface.
        policy: encoder and heads; by default a new `FastNetwork`.
        input_size: features between encoder and LSTM.
        hidden_size: `H`, width of the LSTM.
        num_layers: `L`, stacked LSTM layers.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(
        self,
        env: EnvironmentInterface,
        policy: nn.Module | None = None,
        input_size: int = FEATURES,
        hidden_size: int = 128,
        num_layers: int = 2,
        **kwargs: Any,
    ) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        network = policy if policy is not None else FastNetwork(env, hidden_size)
        super().__init__(env, network, input_size, hidden_size, num_layers=num_layers)
        self.init_mixin(**mixin_params)

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        observations = td["env_obs"]
        segments, steps = self.set_tensordict_fields(td, observations)
        flat = observations.reshape(segments * steps, *observations.shape[-2:])
        features = self.policy.encode_observations(flat, state)
        hidden = self.lstm_forward(features, td, state)
        logits, value = self.policy.decode_actions(hidden, segments * steps)
        if action is None:
            return self.handle_inference_mode(td, logits, value)
        return self.handle_training_mode(td, action, logits, value)
