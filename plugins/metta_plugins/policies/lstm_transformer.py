"""LSTM-Transformer: attention over patches of the token grid, beside the own cell, then an LSTM."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.tokens import TokenChannels, TokenConv2d, own_cell
from metta_plugins.policies.agents import RecurrentAgent

PATCH, STRIDE = 5, 3
HEAD_WIDTH = 32
TOKENS_PER_PATCH = 16


class TransformerNetwork(nn.Module):
    """Encoder and heads.

    The window is cut into overlapping patches of 5 x 5 cells, 3 x 3 of them in a window of 11 x 11. Each is
    embedded straight from the tokens in it. What the transformer makes of the CLS token that stands before
    them is joined with an embedding of the own cell.

    Args:
        env: the environment interface.
        width: of the embeddings; a multiple of 32, the width of an attention head.
        depth: transformer blocks.
        feedforward: width of the layer within a block.
        hidden_size: width of the recurrent layer between encoder and heads.
    """

    def __init__(
        self, env: EnvironmentInterface, width: int, depth: int, feedforward: int, hidden_size: int
    ) -> None:
        super().__init__()
        if width % HEAD_WIDTH or width < HEAD_WIDTH:
            raise ConfigError(
                f"policy lstm_transformer: width {width} is no multiple of {HEAD_WIDTH}",
                f"try policy.args.width={max(1, round(width / HEAD_WIDTH)) * HEAD_WIDTH}",
            )
        height, columns = env.observation_height, env.observation_width
        self.channels = TokenChannels(env)
        self.centre = (height // 2) << 4 | columns // 2
        num_channels = len(self.channels.names)
        self.patches = TokenConv2d(num_channels, width, PATCH, STRIDE, height, columns)
        num_patches = self.patches.out_height * self.patches.out_width
        self.positions = nn.Parameter(torch.empty(num_patches, width))
        self.cls = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                width // HEAD_WIDTH,
                feedforward,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.self_vector = nn.Linear(num_channels, width)
        self.actor = nn.Linear(hidden_size, env.num_actions)
        self.value = nn.Linear(hidden_size, 1)
        self._initialize()

    def _initialize(self) -> None:
        # The grid is almost empty: what counts is how many tokens a patch holds, not how many it could.
        nn.init.normal_(self.patches.weight, std=(1 / TOKENS_PER_PATCH) ** 0.5)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.cls, std=0.02)
        for layer, gain in ((self.self_vector, 2**0.5), (self.actor, 0.01), (self.value, 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)

    def encode_observations(self, observations: Tensor, state: RecurrentState | None = None) -> Tensor:
        """Return features `[B, 2 * width]` of tokens uint8 `[B, K, 3]`."""
        locations = observations[..., 0]
        channels, inputs = self.channels(observations)
        patches = self.patches(locations, channels, inputs).flatten(2).transpose(1, 2) + self.positions
        sequence = torch.cat([self.cls.expand(len(patches), 1, -1), patches], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        num_channels = self.self_vector.in_features
        own = own_cell(locations, channels, inputs, centre=self.centre, num_channels=num_channels)
        return torch.cat([self.norm(sequence[:, 0]), F.gelu(self.self_vector(own))], dim=1)

    def decode_actions(self, hidden: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return logits `[B, A]` and values `[B]` of recurrent features `[B, H]`."""
        return self.actor(hidden), self.value(hidden).squeeze(1)


class LSTMTransformer(RecurrentAgent):
    """The network with an LSTM of one layer.

    Args:
        env: the environment interface.
        policy: whose encoder and heads to use; by default new ones.
        width: of the embeddings; a multiple of 32.
        depth: transformer blocks.
        feedforward: width of the layer within a block.
        hidden_size: `H`, width of the LSTM.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(
        self,
        env: EnvironmentInterface,
        policy: LSTMTransformer | None = None,
        width: int = 128,
        depth: int = 2,
        feedforward: int = 256,
        hidden_size: int = 128,
        **kwargs: Any,
    ) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        network = TransformerNetwork(env, width, depth, feedforward, hidden_size)
        if policy is not None:
            network = policy.policy
        num_features = 2 * network.cls.shape[0]
        super().__init__(env, network, num_features, hidden_size, num_layers=1)
        self.init_mixin(**mixin_params)
