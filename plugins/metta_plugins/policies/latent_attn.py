"""Latent attention: a few learned queries read the observation tokens, then an LSTM and the heads of `fast`.

Perceiver (Jaegle et al. 2021, https://arxiv.org/abs/2103.03206), over tokens instead of pixels. A token is
the embedding of what it is, Fourier features of where it is, and its amount.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.tokens import EMPTY_LOCATION, GLOBAL_LOCATION, TokenChannels
from metta_plugins.policies.bilinear import BilinearHeads
from metta_plugins.policies.fast import Fast

FEATURES = 128
MIN_EMBEDDINGS = 256
DIM = 32
MLP_FACTOR = 4
STD = 0.02


@dataclass(frozen=True)
class LatentSize:
    """What the three sizes differ in.

    Attributes:
        embedding: width of the embedding of a feature or tag.
        frequencies: Fourier frequencies per coordinate.
        queries: learned queries.
        heads: attention heads.
        layers: layers of cross attention.
        self_layers: layers of self attention among the queries and a summary token; 0 reads the one query.
    """

    embedding: int
    frequencies: int
    queries: int
    heads: int
    layers: int
    self_layers: int

    @property
    def token_width(self) -> int:
        """Numbers that describe a token: embedding, sine and cosine of both coordinates, amount."""
        return self.embedding + 4 * self.frequencies + 1


TINY = LatentSize(embedding=10, frequencies=4, queries=1, heads=4, layers=2, self_layers=0)
SMALL = LatentSize(embedding=8, frequencies=8, queries=10, heads=4, layers=1, self_layers=2)
MED = LatentSize(embedding=12, frequencies=8, queries=10, heads=8, layers=3, self_layers=3)


class TokenEmbedding(nn.Module):
    """Describe every token by a vector.

    Args:
        interface: names, scales and the observation window.
        size: widths.
    """

    positions: Tensor

    def __init__(self, interface: EnvironmentInterface, size: LatentSize) -> None:
        super().__init__()
        self.channels = TokenChannels(interface)
        rows = max(MIN_EMBEDDINGS, len(self.channels.names))
        self.embedding = nn.Embedding(rows, size.embedding)
        nn.init.trunc_normal_(self.embedding.weight, std=STD)
        height, width = interface.observation_height, interface.observation_width
        self.register_buffer("positions", fourier_features(height, width, size.frequencies), persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[B, K, token_width]` of tokens uint8 `[B, K, 3]`, and bool `[B, K]`, whether one is there.

        What is no token, or of a feature without a name, is all zeros.
        """
        location = tokens[..., 0].int()
        channel, amount = self.channels(tokens)
        is_token = (location != EMPTY_LOCATION) & (channel >= 0)
        parts = (self.embedding(channel.clamp(min=0)), self.positions[location], amount.unsqueeze(-1))
        return torch.cat(parts, dim=-1) * is_token.unsqueeze(-1), is_token


def fourier_features(height: int, width: int, frequencies: int) -> Tensor:
    """Return `[256, 4 * frequencies]`: location byte -> cosine and sine of its column and of its row.

    Coordinates run from -1 to 1 over the window and are multiplied by 1, 2, 4, ... A global token is where
    the agent is, in the centre.
    """
    location = torch.arange(256)
    rows, columns = location >> 4, location & 15
    rows[GLOBAL_LOCATION], columns[GLOBAL_LOCATION] = height // 2, width // 2
    powers = 2.0 ** torch.arange(frequencies)
    parts = []
    for place, cells in ((columns, width), (rows, height)):
        angle = (place / max(cells - 1, 1) * 2 - 1)[:, None] * powers
        parts += [angle.cos(), angle.sin()]
    return torch.cat(parts, dim=1)


class CrossAttention(nn.Module):
    """One layer: the queries read the tokens, then think about it; both with a residual, normalized before.

    Args:
        heads: attention heads.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(DIM)
        self.query = nn.Linear(DIM, DIM, bias=False)
        self.out = nn.Linear(DIM, DIM)
        self.mlp_norm = nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(
            nn.Linear(DIM, MLP_FACTOR * DIM), nn.GELU(), nn.Linear(MLP_FACTOR * DIM, DIM)
        )

    def forward(self, latents: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return latents `[B, Q, DIM]`; see `attention` for the rest."""
        read = attention(self.query(self.norm(latents)), keys, values, self.heads, mask)
        latents = latents + self.out(read)
        thought: Tensor = latents + self.mlp(self.mlp_norm(latents))
        return thought


class SelfAttention(nn.Module):
    """One layer among the latents: attention with a residual, normalized before, and nothing else.

    Args:
        heads: attention heads.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(DIM)
        self.query, self.key, self.value = (nn.Linear(DIM, DIM, bias=False) for _ in range(3))
        self.out = nn.Linear(DIM, DIM)

    def forward(self, latents: Tensor) -> Tensor:
        """Return latents `[B, Q, DIM]`."""
        normed = self.norm(latents)
        read = attention(self.query(normed), self.key(normed), self.value(normed), self.heads)
        attended: Tensor = latents + self.out(read)
        return attended


def attention(
    queries: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Return `[B, Q, D]` (Vaswani et al. 2017, section 3.2).

    Args:
        queries: `[B, Q, D]`.
        keys: `[B, K, D]`.
        values: `[B, K, D]`.
        heads: divides `D`.
        mask: bool `[B, 1, 1, K]`, which keys may be read; None is all.
    """

    def split(part: Tensor) -> Tensor:
        return part.view(*part.shape[:-1], heads, -1).transpose(1, 2)

    read = F.scaled_dot_product_attention(split(queries), split(keys), split(values), attn_mask=mask)
    return read.transpose(1, 2).flatten(-2)


class LatentAttnNetwork(BilinearHeads):
    """Encoder and heads of the `latent_attn` policies.

    Args:
        interface: what the environment shows and accepts.
        size: one of `TINY`, `SMALL`, `MED`.
        hidden_size: width of the recurrent layer between encoder and heads.
    """

    def __init__(self, interface: EnvironmentInterface, size: LatentSize, hidden_size: int = 128) -> None:
        super().__init__()
        self.tokens = TokenEmbedding(interface, size)
        self.token_norm = nn.LayerNorm(size.token_width)
        self.key = nn.Linear(size.token_width, DIM, bias=False)
        self.value = nn.Linear(size.token_width, DIM, bias=False)
        self.queries = nn.Parameter(torch.empty(size.queries, DIM))
        nn.init.trunc_normal_(self.queries, std=STD)
        self.cross = nn.ModuleList(CrossAttention(size.heads) for _ in range(size.layers))
        self.cross_norm = nn.LayerNorm(DIM)
        self.summary = nn.Parameter(torch.randn(DIM)) if size.self_layers else None
        self.self_attention = nn.ModuleList(SelfAttention(size.heads) for _ in range(size.self_layers))
        self.self_norm = nn.LayerNorm(DIM) if size.self_layers else nn.Identity()
        self.out = nn.Linear(DIM, FEATURES)
        self.add_heads(interface, hidden_size)
        self.initialize_heads()

    def encode_observations(self, observations: Tensor, state: RecurrentState | None = None) -> Tensor:
        """Return `[B, 128]` features of tokens uint8 `[..., K, 3]`; `B` counts all leading rows."""
        flat = observations.reshape(-1, *observations.shape[-2:])
        tokens, is_token = self.tokens(flat)
        normed = self.token_norm(tokens)
        keys, values = self.key(normed), self.value(normed)
        # Whoever sees nothing reads the empty rows: a softmax over nothing is not a number.
        mask = (is_token | ~is_token.any(dim=1, keepdim=True))[:, None, None, :]
        latents = self.queries.expand(len(flat), -1, -1)
        for layer in self.cross:
            latents = layer(latents, keys, values, mask)
        latents = self.cross_norm(latents)
        if self.summary is not None:
            latents = torch.cat([self.summary.expand(len(flat), 1, -1), latents], dim=1)
        for layer in self.self_attention:
            latents = layer(latents)
        features: Tensor = self.out(self.self_norm(latents[:, 0]))
        return features


class LatentAttn(Fast):
    """The agent around the network: an LSTM, and acting and training as in `fast`.

    Args:
        env: the environment interface.
        hidden_size: `H`, width of the LSTM.
        num_layers: `L`, stacked LSTM layers.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    size: LatentSize

    def __init__(
        self, env: EnvironmentInterface, hidden_size: int = 128, num_layers: int = 2, **kwargs: Any
    ) -> None:
        network = LatentAttnNetwork(env, self.size, hidden_size)
        super().__init__(env, network, FEATURES, hidden_size, num_layers, **kwargs)


class LatentAttnTiny(LatentAttn):
    """One query, two layers; see `LatentAttn`."""

    size = TINY


class LatentAttnSmall(LatentAttn):
    """Ten queries that are read once and talk to each other in two layers; see `LatentAttn`."""

    size = SMALL


class LatentAttnMed(LatentAttn):
    """Ten queries, three layers of reading and three of talk; see `LatentAttn`."""

    size = MED
