"""PufferLib's Metta policy, slowly: a dense grid, plain layers, `pufferlib.models.LSTMWrapper`."""

import pufferlib.models
import torch
from torch import nn


class Policy(nn.Module):
    is_continuous = False

    def __init__(
        self, env, cnn_channels=8, hidden_size=16, num_channels=22, action_sizes=(7, 9), max_vec=None
    ):
        super().__init__()
        self.hidden_size, self.num_channels = hidden_size, num_channels
        self.network = nn.Sequential(
            nn.Conv2d(num_channels, cnn_channels, 5, stride=3),
            nn.ReLU(),
            nn.Conv2d(cnn_channels, cnn_channels, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(cnn_channels, hidden_size // 2),
            nn.ReLU(),
        )
        self.self_encoder = nn.Sequential(nn.Linear(num_channels, hidden_size // 2), nn.ReLU())
        scales = torch.arange(num_channels) % 9 + 1.0 if max_vec is None else torch.as_tensor(max_vec)
        self.register_buffer("max_vec", scales[None, :, None, None])
        self.actor = nn.ModuleList([nn.Linear(hidden_size, size) for size in action_sizes])
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, observations, state=None):
        hidden = self.encode_observations(observations, state)
        return self.decode_actions(hidden)

    forward_eval = forward

    def encode_observations(self, observations, state=None):
        grid = torch.zeros(len(observations), self.num_channels, 11, 11)
        for row, tokens in enumerate(observations.tolist()):
            for location, feature, value in tokens:
                if location != 255 and feature < self.num_channels:
                    grid[row, feature, location >> 4, location & 15] = value
        grid = grid / self.max_vec
        return torch.cat([self.self_encoder(grid[:, :, 5, 5]), self.network(grid)], dim=1)

    def decode_actions(self, hidden):
        return [head(hidden) for head in self.actor], self.value(hidden)


class Recurrent(pufferlib.models.LSTMWrapper):
    def __init__(self, env, policy=None, input_size=16, hidden_size=16, **kwargs):
        policy = policy or Policy(env, hidden_size=hidden_size, **kwargs)
        super().__init__(env, policy, input_size, hidden_size)


class Spaces:
    """As much of an environment as `LSTMWrapper` asks for."""

    class single_observation_space:
        shape = (40, 3)


def joined(logits, action_names):
    """Flat log-probabilities, pair by pair, of names `VERB_ARGUMENT`."""
    verbs = list(dict.fromkeys(name.rsplit("_", 1)[0] for name in action_names))
    columns = []
    for name in action_names:
        verb = name.rsplit("_", 1)[0]
        own = [other for other in action_names if other.rsplit("_", 1)[0] == verb]
        arguments = logits[1][:, : len(own)].log_softmax(-1)
        columns.append(logits[0].log_softmax(-1)[:, verbs.index(verb)] + arguments[:, own.index(name)])
    return torch.stack(columns, dim=1)


def tokens_2025(batch, num_channels=22, num_tokens=40, seed=0):
    """Distinct (cell, feature) pairs with random values, then empty rows."""
    generator = torch.Generator().manual_seed(seed)
    observations = torch.full((batch, num_tokens, 3), 255, dtype=torch.uint8)
    for row in range(batch):
        cells = torch.randperm(121 * num_channels, generator=generator)[: num_tokens - 8]
        own = torch.arange(num_channels)[:4] + 60 * num_channels
        cells = torch.cat([own, cells[cells // num_channels != 60]])[: num_tokens - 4]
        place, feature = cells // num_channels, cells % num_channels
        location = (place // 11) * 16 + place % 11
        value = torch.randint(0, 200, (len(cells),), generator=generator)
        observations[row, : len(cells)] = torch.stack([location, feature, value], dim=1).to(torch.uint8)
    return observations
