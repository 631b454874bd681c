"""The tensors of one epoch of acting.

`S` segments (rows) of `T` steps. Row `chunk * num_agents + agent` holds the `chunk`-th stretch of `T`
steps of that agent, so every row belongs to one agent and none is left half full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from metta_cli.algorithms.priorities import (
    importance_weights,
    permute_segments,
    sample_segments,
    segment_priorities,
)
from metta_cli.errors import ConfigError
from metta_cli.policies.contract import RecurrentState


@dataclass
class Minibatch:
    """`M` whole segments; the fields are rows of the fields of `Experience`.

    Attributes:
        index: int64 `[M]`, the rows.
        observations: uint8 `[M, T, K, 3]`, `K` trimmed to the longest observation of the epoch.
        actions: int64 `[M, T]`.
        behavior_log_probs: `[M, T]`.
        values: `[M, T + 1]`, of the policy that acted.
        rewards: `[M, T + 1]`.
        dones: bool `[M, T + 1]`.
        state: recurrent state before the first step, `[L, M, H]`.
        weights: `[M, 1]`, importance weights of prioritized sampling.
        normalization: mean and deviation that normalize the advantages; None takes those of the minibatch.
    """

    index: Tensor
    observations: Tensor
    actions: Tensor
    behavior_log_probs: Tensor
    values: Tensor
    rewards: Tensor
    dones: Tensor
    state: RecurrentState
    weights: Tensor
    normalization: tuple[Tensor, Tensor] | None = None

    def to(self, device: torch.device | str) -> Minibatch:
        """Return the minibatch on a device; what lies there already is not copied."""
        return self._map(lambda part: part.to(device), lambda part: part.to(device))

    def split(self, num_segments: int) -> list[Minibatch]:
        """Return parts of `num_segments` segments, which divides `M`; without copying."""
        if num_segments >= len(self.index):
            return [self]
        starts = range(0, len(self.index), num_segments)
        return [self._rows(slice(start, start + num_segments)) for start in starts]

    def _rows(self, rows: slice) -> Minibatch:
        return self._map(lambda part: part[rows], lambda part: part[:, rows])

    def _map(self, change: Callable[[Tensor], Tensor], change_state: Callable[[Tensor], Tensor]) -> Minibatch:
        """Return the minibatch with every tensor changed, and those of the recurrent state in their way."""
        changed = {name: change(part) for name, part in vars(self).items() if isinstance(part, Tensor)}
        state = {name: change_state(part) for name, part in self.state.items()}
        return Minibatch(**changed, state=state, normalization=self.normalization)


class Experience:
    """What the policy saw, did and got in one epoch, and where acting stopped.

    Rewards and dones are stored with the observation that they arrive with: `rewards[:, t + 1]` pays
    for the action at `t`, and `dones[:, t]` marks an observation that is the first of an episode.
    `values`, `rewards` and `dones` have one column more than there are steps, so that the last action
    of a segment is credited like every other.

    `perform_rollout_step` fills it. What has to survive from one step to the next, and from one epoch to
    the next, is here too: `current_state`, `current_rewards`, `current_terminals`, `current_truncations`.
    `num_rollouts` counts how often it was filled.

    Args:
        total_agents: agents that act side by side.
        batch_size: agent steps per epoch; a multiple of `total_agents * bptt_horizon`.
        bptt_horizon: `T`.
        minibatch_size: agent steps per minibatch; divides `batch_size` and is a multiple of `bptt_horizon`.
        obs_space: a space with shape `(K, 3)`, or that shape: `K` token rows of an observation.
        atn_space: a space of flat actions, or how many there are.
        device: where the tensors lie.
        hidden_size: `H` of a policy with the recurrent state of `LSTMWrapper`.
        num_lstm_layers: `L` of it.
        state_shapes: name -> `(L, H)` of any other recurrent state, in the place of the two before.
            Without any of them the policy has no memory.
        truncation_discount: the value of the last observation of an episode that was cut by time is
            added to its last reward with this factor, usually gamma; 0 takes the cut for an end.
        reward_beta: share of the newest reward in the running mean of each agent's rewards, which is
            subtracted from them; 0 subtracts nothing.

    Raises:
        ConfigError: if the batch cannot be divided into whole segments of all agents.
    """

    def __init__(
        self,
        *,
        total_agents: int,
        batch_size: int,
        bptt_horizon: int,
        minibatch_size: int,
        obs_space: Any,
        atn_space: Any,
        device: torch.device | str,
        hidden_size: int | None = None,
        num_lstm_layers: int = 1,
        state_shapes: Mapping[str, tuple[int, int]] | None = None,
        truncation_discount: float = 0.0,
        reward_beta: float = 0.0,
    ) -> None:
        _check_sizes(total_agents, batch_size, bptt_horizon, minibatch_size)
        if state_shapes is None:
            shape = (num_lstm_layers, hidden_size or 0)
            state_shapes = {"lstm_h": shape, "lstm_c": shape} if hidden_size else {}
        self.num_agents, self.bptt_horizon = total_agents, bptt_horizon
        self.num_segments = batch_size // bptt_horizon
        self.num_chunks = self.num_segments // total_agents
        self.minibatch_segments = minibatch_size // bptt_horizon
        self.num_minibatches = self.num_segments // self.minibatch_segments
        self.num_actions = int(getattr(atn_space, "n", atn_space))
        self.truncation_discount = truncation_discount
        self.reward_beta = reward_beta
        self.state_shapes = dict(state_shapes)
        self._allocate(_token_rows(obs_space), device)
        self._begin(device)

    def _allocate(self, num_tokens: int, device: torch.device | str) -> None:
        segments, steps = self.num_segments, self.bptt_horizon
        self.observations = torch.zeros((segments, steps, num_tokens, 3), dtype=torch.uint8, device=device)
        self.actions = torch.zeros((segments, steps), dtype=torch.int64, device=device)
        self.behavior_log_probs = torch.zeros((segments, steps), device=device)
        self.values = torch.zeros((segments, steps + 1), device=device)
        self.rewards = torch.zeros((segments, steps + 1), device=device)
        self.terminals = torch.zeros((segments, steps + 1), dtype=torch.bool, device=device)
        self.truncations = torch.zeros((segments, steps + 1), dtype=torch.bool, device=device)
        self.state = self._zero_state(segments, device)
        self.used_tokens = 1

    def _begin(self, device: torch.device | str) -> None:
        """Note that every agent is about to see the first observation of an episode."""
        agents = self.num_agents
        self.chunk = self.step = self.num_rollouts = 0
        self.ready_for_training = False
        self.current_state = self._zero_state(agents, device)
        self.current_rewards = torch.zeros(agents, device=device)
        self.reward_means = torch.zeros(agents, device=device)
        self.current_terminals = torch.ones(agents, dtype=torch.bool, device=device)
        self.current_truncations = torch.zeros(agents, dtype=torch.bool, device=device)

    def _zero_state(self, rows: int, device: torch.device | str) -> RecurrentState:
        return {
            name: torch.zeros((layers, rows, width), device=device)
            for name, (layers, width) in self.state_shapes.items()
        }

    @property
    def dones(self) -> Tensor:
        """Bool `[S, T + 1]`: the observation is the first of an episode."""
        return self.terminals | self.truncations

    @property
    def current_dones(self) -> Tensor:
        """Bool `[N]`: the observation that comes next is the first of an episode."""
        return self.current_terminals | self.current_truncations

    def rows(self, chunk: int) -> slice:
        """Return the rows that all agents fill in their `chunk`-th stretch of steps."""
        return slice(chunk * self.num_agents, (chunk + 1) * self.num_agents)

    def reset_for_rollout(self) -> None:
        """Begin a new epoch: the next step overwrites the first. Agents go on where they are."""
        self.chunk = self.step = 0
        self.ready_for_training = False
        self.used_tokens = 1

    def advance(self) -> bool:
        """Move on to the next column, or to the next stretch of steps; return whether all are filled."""
        self.step += 1
        if self.step == self.bptt_horizon:
            self.step = 0
            self.chunk += 1
            self.ready_for_training = self.chunk == self.num_chunks
            self.num_rollouts += self.ready_for_training
        return self.ready_for_training

    def write_arrivals(self, rows: slice, column: int, values: Tensor) -> None:
        """Write what came with an observation: rewards and the ends of episodes, and its values `[N]`."""
        self.values[rows, column] = values
        self.rewards[rows, column] = self.current_rewards
        self.terminals[rows, column] = self.current_terminals
        self.truncations[rows, column] = self.current_truncations

    def iter_minibatches(
        self,
        advantages: Tensor | None = None,
        *,
        sampling: Literal["sequential", "prioritized"] = "sequential",
        prio_alpha: float = 0.0,
        beta: float = 1.0,
    ) -> Iterator[Minibatch]:
        """Yield the minibatches of one pass.

        `sequential` uses every segment once, in random order. `prioritized` draws each minibatch afresh,
        without replacement inside it, in proportion to the priorities (Schaul et al. 2016, section 3.3).

        Args:
            advantages: `[S, T]` or `[S, T + 1]`, of which prioritized sampling takes the priorities.
            sampling: how segments are drawn.
            prio_alpha: exponent of the priorities; 0 draws uniformly.
            beta: exponent of the importance weights.

        Raises:
            ValueError: if prioritized sampling has no advantages.
        """
        size = self.minibatch_segments
        if sampling == "sequential":
            ones = self.rewards.new_ones(size, 1)
            for index in permute_segments(self.num_segments, size):
                yield self.minibatch(index.to(self.rewards.device), ones)
            return
        if advantages is None:
            raise ValueError("prioritized sampling needs advantages")
        priorities = segment_priorities(advantages[:, : self.bptt_horizon], prio_alpha)
        for _ in range(self.num_minibatches):
            index = sample_segments(priorities, size)
            yield self.minibatch(index, importance_weights(priorities, index, beta))

    def minibatch(self, index: Tensor, weights: Tensor) -> Minibatch:
        """Copy segments out.

        Args:
            index: int64 `[M]`, which rows.
            weights: `[M, 1]`, importance weights of these rows.
        """
        used = min(-(-self.used_tokens // 8) * 8, self.observations.shape[2])
        return Minibatch(
            index=index,
            observations=self.observations[index, :, :used],
            actions=self.actions[index],
            behavior_log_probs=self.behavior_log_probs[index],
            values=self.values[index],
            rewards=self.rewards[index],
            dones=self.terminals[index] | self.truncations[index],
            state={name: part[:, index] for name, part in self.state.items()},
            weights=weights,
        )


def _check_sizes(total_agents: int, batch_size: int, bptt_horizon: int, minibatch_size: int) -> None:
    unit = total_agents * bptt_horizon
    if batch_size % unit:
        raise ConfigError(
            f"trainer.batch_size ({batch_size}) is not a multiple of agents x trainer.bptt_horizon "
            f"({total_agents} x {bptt_horizon} = {unit})",
            f"try trainer.batch_size={max(1, batch_size // unit) * unit}",
        )
    if minibatch_size % bptt_horizon or batch_size % minibatch_size:
        raise ConfigError(
            f"minibatch_size ({minibatch_size}) must be a multiple of bptt_horizon ({bptt_horizon}) "
            f"and divide batch_size ({batch_size})",
            f"try minibatch_size={batch_size}",
        )


def _token_rows(obs_space: Any) -> int:
    """Return `K` of a space of tokens `(K, 3)`, or of that shape itself."""
    shape: Sequence[int] = getattr(obs_space, "shape", obs_space)
    if len(shape) != 2 or shape[1] != 3:
        raise ConfigError(
            f"the observations of an experience are tokens of shape (K, 3), not {tuple(shape)}",
            "pass the single_observation_space of a MettaGrid environment",
        )
    return shape[0]
