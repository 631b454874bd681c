"""The heads of `fast` and its relatives: a value, and actions that are compared with embeddings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface

ACTION_EMBEDDING = 16
MIN_ACTION_EMBEDDINGS = 100
HEADS = ("critic_1", "value_head", "actor_1", "action_embeddings")


class BilinearHeads(nn.Module):
    """A base for networks that end in these heads; its own `__init__` adds nothing."""

    critic_1: nn.Linear
    value_head: nn.Linear
    actor_1: nn.Linear
    action_embeddings: nn.Embedding
    actor_weight: nn.Parameter
    num_actions: int

    def add_heads(self, interface: EnvironmentInterface, hidden_size: int) -> None:
        """Add the layers of the heads, not yet initialized.

        Args:
            interface: says how many actions there are.
            hidden_size: features that the heads take.
        """
        self.critic_1 = nn.Linear(hidden_size, 1024)
        self.value_head = nn.Linear(1024, 1)
        self.actor_1 = nn.Linear(hidden_size, 512)
        self.action_embeddings = nn.Embedding(
            max(MIN_ACTION_EMBEDDINGS, interface.num_actions), ACTION_EMBEDDING
        )
        self.actor_weight = nn.Parameter(torch.empty(512, ACTION_EMBEDDING))
        self.num_actions = interface.num_actions

    def initialize_heads(self) -> None:
        """Draw new weights of the heads; logits start close to zero."""
        initialize_orthogonal(
            (name, part) for name, part in self.named_parameters() if name.split(".")[0] in HEADS
        )
        self.finish_heads()

    def finish_heads(self) -> None:
        """Draw what is not orthogonal in the heads."""
        with torch.no_grad():
            embeddings = self.action_embeddings.weight
            embeddings.mul_(0.1 / embeddings.abs().max())
        bound = 512**-0.5
        nn.init.uniform_(self.actor_weight, -bound, bound)

    def decode_actions(self, hidden: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return logits `[B, A]` and values `[B]` of recurrent features `[B, H]`."""
        value = self.value_head(torch.tanh(self.critic_1(hidden))).squeeze(1)
        query = torch.tanh(torch.relu(self.actor_1(hidden)) @ self.actor_weight)
        return query @ self.action_embeddings.weight[: self.num_actions].T, value


def initialize_orthogonal(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Draw orthogonal weights with gain sqrt(2), for the value 1, and zero biases."""
    for name, parameter in parameters:
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.orthogonal_(parameter, gain=1.0 if name == "value_head.weight" else 2**0.5)
