"""The LSTM-Transformer of 2025, slowly: a dense grid, attention written out, PufferLib's `LSTMWrapper`."""

import pufferlib.models
import torch
from torch import nn

NUM_HEADS = 6


class Block(nn.Module):
    """A pre-norm block under the names of `nn.TransformerEncoderLayer`."""

    def __init__(self, width, feedforward):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, NUM_HEADS, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, sequence):
        sequence = sequence + self.attend(self.norm1(sequence))
        return sequence + self.linear2(nn.functional.gelu(self.linear1(self.norm2(sequence))))

    def attend(self, sequence):
        width = sequence.shape[-1]
        projected = sequence @ self.self_attn.in_proj_weight.T + self.self_attn.in_proj_bias
        each = width // NUM_HEADS
        heads = []
        for head in range(NUM_HEADS):
            query, key, value = (
                projected[..., start + head * each : start + (head + 1) * each]
                for start in (0, width, 2 * width)
            )
            weights = (query @ key.transpose(1, 2) / each**0.5).softmax(-1)
            heads.append(weights @ value)
        return self.self_attn.out_proj(torch.cat(heads, dim=-1))


class Transformer(nn.Module):
    def __init__(self, width, feedforward, depth):
        super().__init__()
        self.layers = nn.ModuleList([Block(width, feedforward) for _ in range(depth)])


class Policy(nn.Module):
    is_continuous = False

    def __init__(
        self,
        env,
        cnn_channels=8,
        hidden_size=24,
        num_channels=34,
        depth=2,
        feedforward=48,
        action_sizes=(9, 10),
    ):
        super().__init__()
        self.hidden_size, self.num_channels = hidden_size, num_channels
        self.conv_stem = nn.Sequential(
            nn.Conv2d(num_channels, cnn_channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(cnn_channels, cnn_channels, 3, padding=1),
            nn.ReLU(),
        )
        self.proj = nn.Conv2d(cnn_channels, hidden_size, 2, stride=2)
        self.cls_token = nn.Parameter(torch.randn(1, 1, hidden_size))
        self.pos_emb = nn.Parameter(torch.randn(1, 1000, hidden_size))
        self.transformer = Transformer(hidden_size, feedforward, depth)
        self.self_encoder = nn.Sequential(nn.Linear(num_channels, hidden_size), nn.GELU())
        self.fuse_proj = nn.Linear(2 * hidden_size, hidden_size)
        self.register_buffer("max_vec", (torch.arange(num_channels) % 9 + 1.0)[None, :, None, None])
        self.actor = nn.ModuleList([nn.Linear(hidden_size, size) for size in action_sizes])
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, observations, state=None):
        return self.decode_actions(self.encode_observations(observations, state))

    forward_eval = forward

    def encode_observations(self, observations, state=None):
        grid = torch.zeros(len(observations), 11, 11, self.num_channels)
        for agent, tokens in enumerate(observations.tolist()):
            for location, feature, value in tokens:
                if location != 255 and feature < self.num_channels:
                    grid[agent, location >> 4, location & 15, feature] = value
        planes = grid.permute(0, 3, 1, 2) / self.max_vec
        image = self.proj(self.conv_stem(planes))
        patches = [image[:, :, row, column] for row in range(3) for column in range(3)]
        sequence = torch.stack([self.cls_token[0].expand(len(grid), -1), *patches], dim=1)
        sequence = sequence + self.pos_emb[:, :10]
        for block in self.transformer.layers:
            sequence = block(sequence)
        return self.fuse_proj(torch.cat([sequence[:, 0], self.self_encoder(planes[:, :, 5, 5])], dim=1))

    def decode_actions(self, hidden):
        return [head(hidden) for head in self.actor], self.value(hidden)


class Recurrent(pufferlib.models.LSTMWrapper):
    def __init__(self, env, hidden_size=24, **kwargs):
        super().__init__(env, Policy(env, hidden_size=hidden_size, **kwargs), hidden_size, hidden_size)
