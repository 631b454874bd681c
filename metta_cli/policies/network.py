"""A small encoder with linear heads, for an agent that brings no network of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metta_cli.policies.contract import RecurrentState, interface_behind
from metta_cli.policies.tokens import TokenChannels, TokenConv2d

TOKENS_IN_SIGHT = 32
LOGIT_GAIN = 0.01


class TokenNetwork(nn.Module):
    """One layer over the whole observation window, and linear heads.

    Args:
        env: the environment, or its interface.
        input_size: features that the encoder makes.
        hidden_size: features that the heads take.
    """

    def __init__(self, env: Any, input_size: int = 128, hidden_size: int = 128) -> None:
        super().__init__()
        interface = interface_behind(env)
        self.channels = TokenChannels(interface)
        self.window = TokenConv2d(
            len(self.channels.names),
            input_size,
            kernel_size=min(interface.observation_height, interface.observation_width),
            stride=1,
            height=interface.observation_height,
            width=interface.observation_width,
        )
        self.actor = nn.Linear(hidden_size, interface.num_actions)
        self.critic = nn.Linear(hidden_size, 1)
        nn.init.normal_(self.window.weight, std=TOKENS_IN_SIGHT**-0.5)
        nn.init.orthogonal_(self.actor.weight, LOGIT_GAIN)
        nn.init.orthogonal_(self.critic.weight)

    def encode_observations(self, observations: Tensor, state: RecurrentState | None = None) -> Tensor:
        """Return features `[B, input_size]` of tokens uint8 `[..., K, 3]`; `B` counts all leading rows."""
        tokens = observations.reshape(-1, *observations.shape[-2:])
        channels, inputs = self.channels(tokens)
        return torch.relu(self.window(tokens[..., 0], channels, inputs)).amax((2, 3))

    def decode_actions(self, hidden: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return logits `[B, A]` and values `[B]` of recurrent features `[B, hidden_size]`."""
        return self.actor(hidden), self.critic(hidden).squeeze(1)
