"""What the training loop needs of an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from metta_cli.config.interface import EnvironmentInterface

if TYPE_CHECKING:
    from metta_cli.environments.vector import FinishedEpisode


class TrainingEnvironment(Protocol):
    """Many agents that act side by side; `environments.vector.VectorEnvironment` is one.

    Attributes:
        interface: names and shapes of observations and actions.
        num_agents: agents that learn, `N`.
        observations: uint8 `[N, K, 3]`; overwritten by the next step, as are all arrays here.
        final_observations: uint8 `[N, K, 3]`, the last of the episode where one ended in the last step.
        rewards: float32 `[N]`, of the last step.
        terminals: bool `[N]`, the last step ended the episode by rule.
        truncations: bool `[N]`, the last step ended the episode by time.
    """

    interface: EnvironmentInterface
    num_agents: int
    observations: np.ndarray
    final_observations: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    truncations: np.ndarray

    def max_used_tokens(self) -> int:
        """Return how many leading token rows of `observations` are in use by any agent."""
        ...

    def reset(self) -> Any:
        """Begin a new episode everywhere."""
        ...

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[FinishedEpisode]]:
        """Step by flat actions, int `[N]`; return the arrays above and the episodes that ended."""
        ...
