"""What every policy is to the rest of the toolkit.

A policy is a `torch.nn.Module` with the two methods of `Policy`. It keeps no state between calls: the
recurrent state is a dict of tensors `[L, N, H]` that the caller owns, hands in, and finds updated.

Shape letters: `N` agents acting, `M` segments in a minibatch, `T` steps of a segment, `K` observation
tokens, `A` actions, `L` recurrent layers, `H` hidden size.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from tensordict import TensorDict
from torch import Tensor

RecurrentState = dict[str, Tensor]
"""Name -> `[L, N, H]`; empty for a policy without memory."""


@runtime_checkable
class Policy(Protocol):
    """The contract of a policy; `metta_cli.testing.contracts.PolicyContract` tests it."""

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return the state of `num_agents` agents that start an episode: zeros `[L, N, H]`, or `{}`."""
        ...

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """Act (`action` is None) or judge the actions that were taken.

        Acting reads `env_obs` uint8 `[N, K, 3]` and `dones` bool `[N]` (True where the observation is
        the first of an episode; the state of those agents is zeroed first), updates `state` in place,
        and sets `actions` int64 `[N]`, `act_log_prob` `[N]`, `values` `[N]`, `full_log_probs` `[N, A]`.

        Judging reads `env_obs` `[M, T, K, 3]`, `dones` `[M, T]` and the state at the start of every
        segment, leaves `state` alone, and sets `act_log_prob`, `entropy`, `value`, each `[M, T]`, and
        `full_log_probs` `[M, T, A]`, with gradients.

        Args:
            td: the inputs; the outputs are written into it as well.
            state: recurrent state; None is the state at the start of an episode.
            action: int64 `[M, T]` flat action indices, or None to act.
        """
        ...


def interface_behind(env: Any) -> Any:
    """Return the interface of an environment, or what was given if it is no environment.

    Args:
        env: an `EnvironmentInterface`, or anything that has one as its attribute `interface`.
    """
    return getattr(env, "interface", env)
