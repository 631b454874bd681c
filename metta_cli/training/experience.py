"""The tensors of one epoch of acting.

`S` segments (rows) of `T` steps. Row `chunk * num_agents + agent` holds the `chunk`-th stretch of `T`
steps of that agent, so every row belongs to one agent and none is left half full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metta_cli.errors import ConfigError
from metta_cli.policies.contract import RecurrentState


@dataclass
class Minibatch:
    """`M` whole segments; the fields are rows of the fields of `Experience`.

    Attributes:
        observations: uint8 `[M, T, K, 3]`, `K` trimmed to the longest observation of the epoch.
        actions: int64 `[M, T]`.
        behavior_log_probs: `[M, T]`.
        values: `[M, T + 1]`, of the policy that acted.
        rewards: `[M, T + 1]`.
        dones: bool `[M, T + 1]`.
        state: recurrent state before the first step, `[L, M, H]`.
        returns: `[M, T]`, targets of the value function.
        weights: `[M, 1]`, importance weights of prioritized sampling.
    """

    observations: Tensor
    actions: Tensor
    behavior_log_probs: Tensor
    values: Tensor
    rewards: Tensor
    dones: Tensor
    state: RecurrentState
    returns: Tensor
    weights: Tensor


class Experience:
    """What the policy saw, did and got in one epoch.

    Rewards and dones are stored with the observation that they arrive with: `rewards[:, t + 1]` pays
    for the action at `t`, and `dones[:, t]` marks an observation that is the first of an episode.
    `values`, `rewards` and `dones` have one column more than there are steps, so that the last action
    of a segment is credited like every other.

    Args:
        num_agents: agents that act side by side.
        batch_size: agent steps per epoch; a multiple of `num_agents * bptt_horizon`.
        bptt_horizon: `T`.
        num_tokens: `K`, token rows of one observation.
        state_shapes: name -> `(L, H)` of the policy's recurrent state.
        device: where the tensors lie.

    Raises:
        ConfigError: if the batch cannot be divided into whole segments of all agents.
    """

    def __init__(
        self,
        *,
        num_agents: int,
        batch_size: int,
        bptt_horizon: int,
        num_tokens: int,
        state_shapes: Mapping[str, tuple[int, int]],
        device: torch.device | str,
    ) -> None:
        if batch_size % (num_agents * bptt_horizon):
            unit = num_agents * bptt_horizon
            raise ConfigError(
                f"trainer.batch_size ({batch_size}) is not a multiple of agents x trainer.bptt_horizon "
                f"({num_agents} x {bptt_horizon} = {unit})",
                f"try trainer.batch_size={max(1, batch_size // unit) * unit}",
            )
        self.num_agents, self.bptt_horizon = num_agents, bptt_horizon
        self.num_segments = batch_size // bptt_horizon
        self.num_chunks = self.num_segments // num_agents
        segments, steps = self.num_segments, bptt_horizon
        self.observations = torch.zeros((segments, steps, num_tokens, 3), dtype=torch.uint8, device=device)
        self.actions = torch.zeros((segments, steps), dtype=torch.int64, device=device)
        self.behavior_log_probs = torch.zeros((segments, steps), device=device)
        self.values = torch.zeros((segments, steps + 1), device=device)
        self.rewards = torch.zeros((segments, steps + 1), device=device)
        self.terminals = torch.zeros((segments, steps + 1), dtype=torch.bool, device=device)
        self.truncations = torch.zeros((segments, steps + 1), dtype=torch.bool, device=device)
        self.state: RecurrentState = {
            name: torch.zeros((layers, segments, width), device=device)
            for name, (layers, width) in state_shapes.items()
        }
        self.used_tokens = 1

    @property
    def dones(self) -> Tensor:
        """Bool `[S, T + 1]`: the observation is the first of an episode."""
        return self.terminals | self.truncations

    def rows(self, chunk: int) -> slice:
        """Return the rows that all agents fill in their `chunk`-th stretch of steps."""
        return slice(chunk * self.num_agents, (chunk + 1) * self.num_agents)

    def minibatch(self, index: Tensor, returns: Tensor, weights: Tensor) -> Minibatch:
        """Copy segments out.

        Args:
            index: int64 `[M]`, which rows.
            returns: `[S, T]`, value targets of all rows.
            weights: `[M, 1]`, importance weights of the chosen rows.
        """
        used = min(-(-self.used_tokens // 8) * 8, self.observations.shape[2])
        return Minibatch(
            observations=self.observations[index, :, :used],
            actions=self.actions[index],
            behavior_log_probs=self.behavior_log_probs[index],
            values=self.values[index],
            rewards=self.rewards[index],
            dones=self.terminals[index] | self.truncations[index],
            state={name: part[:, index] for name, part in self.state.items()},
            returns=returns[index],
            weights=weights,
        )
