"""The LSTM-Transformer of mid-2025: convolutions and attention over dense feature planes, then an LSTM.

The state dict has the names and shapes of `metta.agent.external.lstm_transformer`, so that its checkpoints
load as they are. `lstm_transformer` is the design to train from scratch: it reads tokens, and is smaller.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError
from metta_cli.policies.heads import VerbHeads
from metta_cli.policies.tokens import GLOBAL_LOCATION, TokenChannels
from metta_plugins.policies.agents import TwoHeadedAgent
from metta_plugins.policies.puffer_recurrent import PufferRecurrent

MAX_SEQUENCE = 1000
STEM_KERNEL, STEM_STRIDE = 5, 2


class TransformerNetwork2025(nn.Module):
    """Encoder and heads.

    Every token is a number in a plane, one plane for each channel of `TokenChannels`, divided by `max_vec`:
    a buffer `[1, C, 1, 1]` that a checkpoint brings, one in a new network. The upper four bits of a location
    are the first axis of the planes. Dropout is left out, so that training judges what was acted.

    Args:
        env: the environment interface.
        cnn_channels: of the two convolutions.
        hidden_size: `H`, width of the transformer and of the features.
        depth: transformer blocks.
        num_heads: attention heads; `hidden_size` is a multiple. Weights do not tell it.
        patch_size: side of a patch, in cells of what the convolutions make.
        mlp_ratio: width of the layer within a block, in units of `hidden_size`.
    """

    max_vec: Tensor

    def __init__(
        self,
        env: EnvironmentInterface,
        cnn_channels: int = 128,
        hidden_size: int = 384,
        depth: int = 3,
        num_heads: int = 6,
        patch_size: int = 2,
        mlp_ratio: float = 3.0,
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ConfigError(
                f"hidden_size {hidden_size} is no multiple of num_heads {num_heads}",
                "set num_heads to that of the training; 6 was the default of 2025",
            )
        self.hidden_size = hidden_size
        self.height, self.width = env.observation_height, env.observation_width
        self.channels = TokenChannels(env)
        num_channels = len(self.channels.names)
        self.conv_stem = nn.Sequential(
            nn.Conv2d(num_channels, cnn_channels, STEM_KERNEL, STEM_STRIDE, padding=STEM_KERNEL // 2),
            nn.ReLU(),
            nn.Conv2d(cnn_channels, cnn_channels, 3, padding=1),
            nn.ReLU(),
        )
        self.proj = nn.Conv2d(cnn_channels, hidden_size, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.pos_emb = nn.Parameter(torch.zeros(1, MAX_SEQUENCE, hidden_size))
        block = nn.TransformerEncoderLayer(
            hidden_size,
            num_heads,
            round(hidden_size * mlp_ratio),
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.transformer = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.self_encoder = nn.Sequential(nn.Linear(num_channels, hidden_size), nn.GELU())
        self.fuse_proj = nn.Linear(2 * hidden_size, hidden_size)
        self.register_buffer("max_vec", torch.ones(1, num_channels, 1, 1))
        self.heads = VerbHeads(env.action_names)
        self.actor = nn.ModuleList([nn.Linear(hidden_size, size) for size in self.heads.sizes])
        self.value = nn.Linear(hidden_size, 1)
        self._initialize()

    def _initialize(self) -> None:
        nn.init.trunc_normal_(self.pos_emb, std=0.02)
        inside = ("conv_stem", "proj", "self_encoder", "fuse_proj")
        for name, parameter in self.named_parameters():
            part = name.partition(".")[0]
            if part not in (*inside, "actor", "value"):
                continue
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                gain = 0.01 if part == "actor" else 1.0 if part == "value" else 2**0.5
                nn.init.orthogonal_(parameter, gain)

    def encode_observations(self, observations: Tensor, state: Any = None) -> Tensor:
        """Return features `[B, H]` of tokens uint8 `[B, K, 3]`."""
        planes = self.planes(observations) / self.max_vec
        patches = self.proj(self.conv_stem(planes)).flatten(2).transpose(1, 2)
        sequence = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        seen = self.transformer(sequence + self.pos_emb[:, : sequence.shape[1]])[:, 0]
        own = self.self_encoder(planes[:, :, self.height // 2, self.width // 2])
        features: Tensor = self.fuse_proj(torch.cat([seen, own], dim=1))
        return features

    def planes(self, observations: Tensor) -> Tensor:
        """Return `[B, C, height, width]`, what the tokens of every cell and channel add up to."""
        channels, inputs = self.channels(observations)
        locations = observations[..., 0].long()
        is_global = locations == GLOBAL_LOCATION
        row = torch.where(is_global, self.height // 2, locations >> 4)
        column = torch.where(is_global, self.width // 2, locations & 15)
        is_inside = (row < self.height) & (column < self.width) & (channels >= 0)
        shape = (self.max_vec.shape[1], self.height, self.width)
        index = torch.where(is_inside, (channels * self.height + row) * self.width + column, 0)
        flat = torch.zeros(len(observations), shape[0] * shape[1] * shape[2], device=inputs.device)
        return flat.scatter_add(1, index, torch.where(is_inside, inputs, 0.0)).view(-1, *shape)

    def decode_actions(self, hidden: Tensor, batch_size: int | None = None) -> tuple[list[Tensor], Tensor]:
        """Return logits `[B, V]` and `[B, Amax]` of verb and argument, and values `[B, 1]`."""
        return [head(hidden) for head in self.actor], self.value(hidden)


class Transformer2025(TwoHeadedAgent, TransformerNetwork2025):
    """The network alone, as a policy without memory.

    Args:
        env: the environment interface.
        cnn_channels, hidden_size, depth, num_heads, patch_size, mlp_ratio: see `TransformerNetwork2025`.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(
        self,
        env: EnvironmentInterface,
        cnn_channels: int = 128,
        hidden_size: int = 384,
        depth: int = 3,
        num_heads: int = 6,
        patch_size: int = 2,
        mlp_ratio: float = 3.0,
        **kwargs: Any,
    ) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__(env, cnn_channels, hidden_size, depth, num_heads, patch_size, mlp_ratio)
        self.init_mixin(**mixin_params)


class LSTMTransformer2025(PufferRecurrent):
    """The network with an LSTM of one layer, in PufferLib's wrapper.

    Args:
        env: the environment interface.
        policy: encoder and heads; by default a new `TransformerNetwork2025`.
        input_size: features between encoder and LSTM; by default `hidden_size`.
        hidden_size: `H`, width of transformer and LSTM.
        cnn_channels, depth, num_heads, patch_size, mlp_ratio: see `TransformerNetwork2025`.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    def __init__(
        self,
        env: EnvironmentInterface,
        policy: nn.Module | None = None,
        input_size: int | None = None,
        hidden_size: int = 384,
        cnn_channels: int = 128,
        depth: int = 3,
        num_heads: int = 6,
        patch_size: int = 2,
        mlp_ratio: float = 3.0,
        **kwargs: Any,
    ) -> None:
        if policy is None:
            sizes = (cnn_channels, hidden_size, depth, num_heads, patch_size, mlp_ratio)
            policy = TransformerNetwork2025(env, *sizes)
        super().__init__(env, policy, input_size, hidden_size, **kwargs)
