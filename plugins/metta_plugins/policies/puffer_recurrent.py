"""The Metta policy of PufferLib 3.0: a small CNN beside an encoder of the own cell, then an LSTM, two heads.

The state dict has PufferLib's names and shapes, so that its checkpoints load as they are: see `Puffer`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError
from metta_cli.policies.heads import VerbHeads
from metta_cli.policies.tokens import TokenChannels, TokenConv2d, own_cell
from metta_plugins.policies.agents import RecurrentAgent, TwoHeadedAgent

KERNEL, STRIDE, KERNEL_2 = 5, 3, 3
MIN_WINDOW = KERNEL + STRIDE * (KERNEL_2 - 1)


class PufferNetwork(nn.Module):
    """Encoder and heads.

    Every token is a number in a channel of a cell: the channels are those of `TokenChannels`. What a
    channel holds is divided by `max_vec`, a buffer `[1, C, 1, 1]` that a checkpoint brings; it is one in a
    new network, whose inputs are scaled already. The upper four bits of a location are the first axis
    of the grid, as PufferLib has it.

    Args:
        env: the environment interface.
        cnn_channels: `K`, channels of the convolutions.
        hidden_size: `H`, features; half from the grid, half from the own cell.
    """

    max_vec: Tensor
    is_continuous = False

    def __init__(self, env: EnvironmentInterface, cnn_channels: int = 128, hidden_size: int = 512) -> None:
        super().__init__()
        height, width = env.observation_height, env.observation_width
        if min(height, width) < MIN_WINDOW:
            raise ConfigError(
                f"policy puffer_recurrent needs a window of {MIN_WINDOW} cells, the environment has"
                f" {height}x{width}",
                "choose another policy",
            )
        self.hidden_size = hidden_size
        self.channels = TokenChannels(env)
        num_channels = len(self.channels.names)
        self.centre = (height // 2) << 4 | width // 2
        first = TokenConv2d(num_channels, cnn_channels, KERNEL, STRIDE, height, width)
        cells = (first.out_height - KERNEL_2 + 1) * (first.out_width - KERNEL_2 + 1)
        self.network = nn.Sequential(
            first,
            nn.ReLU(),
            nn.Conv2d(cnn_channels, cnn_channels, KERNEL_2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(cnn_channels * cells, hidden_size // 2),
            nn.ReLU(),
        )
        self.self_encoder = nn.Sequential(nn.Linear(num_channels, hidden_size // 2), nn.ReLU())
        self.register_buffer("max_vec", torch.ones(1, num_channels, 1, 1))
        self.heads = VerbHeads(env.action_names)
        self.actor = nn.ModuleList([nn.Linear(hidden_size, size) for size in self.heads.sizes])
        self.value = nn.Linear(hidden_size, 1)
        self._initialize()

    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                gain = 0.01 if name.startswith("actor") else 1.0 if name.startswith("value") else 2**0.5
                nn.init.orthogonal_(parameter, gain)

    def encode_observations(self, observations: Tensor, state: Any = None) -> Tensor:
        """Return features `[B, H]` of tokens uint8 `[B, K, 3]`."""
        locations = observations[..., 0]
        channels, inputs = self.channels(observations)
        inputs = inputs / self.max_vec.flatten()[channels.clamp(min=0)]
        grid = self.network[1:](self.network[0](locations, channels, inputs))
        own = own_cell(locations, channels, inputs, centre=self.centre, num_channels=self.max_vec.shape[1])
        return torch.cat([self.self_encoder(own), grid], dim=1)

    def decode_actions(self, hidden: Tensor, batch_size: int | None = None) -> tuple[list[Tensor], Tensor]:
        """Return logits `[B, V]` and `[B, Amax]` of verb and argument, and values `[B, 1]`."""
        return [head(hidden) for head in self.actor], self.value(hidden)


class Puffer(TwoHeadedAgent, PufferNetwork):
    """The network alone, as a policy without memory.

    Args:
        env: the environment interface.
        cnn_channels: channels of the convolutions.
        hidden_size: `H`, features.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(
        self, env: EnvironmentInterface, cnn_channels: int = 128, hidden_size: int = 512, **kwargs: Any
    ) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__(env, cnn_channels, hidden_size)
        self.init_mixin(**mixin_params)


class PufferRecurrent(RecurrentAgent):
    """The network with an LSTM of one layer; `cell` holds the same four tensors once more, as in PufferLib.

    Args:
        env: the environment interface.
        policy: encoder and heads; by default a new `PufferNetwork`.
        input_size: features between encoder and LSTM; by default `hidden_size`.
        hidden_size: `H`, width of the LSTM.
        cnn_channels: channels of the convolutions.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(
        self,
        env: EnvironmentInterface,
        policy: nn.Module | None = None,
        input_size: int | None = None,
        hidden_size: int = 512,
        cnn_channels: int = 128,
        **kwargs: Any,
    ) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        network = PufferNetwork(env, cnn_channels, hidden_size) if policy is None else policy
        super().__init__(env, network, input_size or hidden_size, hidden_size, num_layers=1)
        self.cell = nn.LSTMCell(self.input_size, hidden_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(self.cell, name, getattr(self.lstm, f"{name}_l0"))
        self.init_mixin(**mixin_params)

    def joined(self, logits: list[Tensor]) -> Tensor:
        """Return log-probabilities `[B, A]` of the two heads."""
        log_probs: Tensor = self.policy.heads(*logits)
        return log_probs
