"""`TokenBag`: a policy without memory that adds up what it sees, wherever it comes from in the list."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.mixin import PyTorchAgentMixin

EMPTY_LOCATION = 0xFF
MAX_BYTES = 256


class TokenBag(PyTorchAgentMixin, nn.Module):
    """Sum an embedding per token, then two dense layers, an actor and a critic.

    Args:
        env: what the environment shows and accepts.
        hidden_size: width of the embeddings and of the dense layers.
        kwargs: `clip_range`, `analyze_weights_interval`, see `PyTorchAgentMixin`.
    """

    scale: Tensor

    def __init__(self, env: EnvironmentInterface, hidden_size: int = 64, **kwargs: Any) -> None:
        mixin_params = self.extract_mixin_params(kwargs)
        super().__init__()
        self.init_mixin(**mixin_params)
        scale = torch.ones(MAX_BYTES)
        scale[: len(env.feature_scales)] = torch.tensor(env.feature_scales)
        self.register_buffer("scale", scale, persistent=False)  # of the environment, not learned
        self.location = nn.Embedding(MAX_BYTES, hidden_size)
        self.feature = nn.Embedding(MAX_BYTES, hidden_size)
        self.value = nn.Embedding(MAX_BYTES, hidden_size)
        self.amount = nn.Embedding(MAX_BYTES, hidden_size)
        self.dense = nn.Sequential(
            nn.LayerNorm(hidden_size),  # the sum grows with the number of tokens in sight
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )
        self.actor = nn.Linear(hidden_size, env.num_actions)
        self.critic = nn.Linear(hidden_size, 1)

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return no state: what was seen before does not matter."""
        return {}

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        observations = td["env_obs"]
        segments, steps = self.set_tensordict_fields(td, observations)
        hidden = self.encode(observations.reshape(segments * steps, *observations.shape[-2:]))
        logits, value = self.actor(hidden), self.critic(hidden)
        if action is None:
            return self.handle_inference_mode(td, logits, value)
        return self.handle_training_mode(td, action, logits, value)

    def encode(self, tokens: Tensor) -> Tensor:
        """Return `[B, H]` features of tokens uint8 `[B, K, 3]`; rows that hold no token count nothing."""
        location, feature, value = tokens.int().unbind(dim=-1)
        # A value is a name for some features (`tag`) and an amount for others: learn it as both.
        amount = (value / self.scale[feature]).unsqueeze(-1) * self.amount(feature)
        seen = torch.relu(self.location(location) + self.feature(feature) + self.value(value) + amount)
        is_token = (location != EMPTY_LOCATION).unsqueeze(-1)
        features: Tensor = self.dense((seen * is_token).sum(dim=1))
        return features
