"""Acting: fill one `Experience` from the vectorized environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.training.environment import TrainingEnvironment
from metta_cli.training.experience import Experience

if TYPE_CHECKING:
    from metta_cli.environments.vector import FinishedEpisode


class RolloutStopped(Exception):  # noqa: N818  # a stop on request is no error
    """`should_stop` became true in the middle of a rollout; nothing of it counts."""


@dataclass
class RolloutStatistics:
    """What one rollout yields besides the experience.

    Attributes:
        agent_steps: actions taken by learning agents.
        episodes: episodes that ended.
        environment_seconds: time spent in the simulator.
        forward_seconds: time spent in the policy.
    """

    agent_steps: int = 0
    episodes: list[FinishedEpisode] = field(default_factory=list)
    environment_seconds: float = 0.0
    forward_seconds: float = 0.0


class RolloutCollector:
    """Steps the environment with the policy and remembers where it stopped.

    Args:
        environment: the vectorized environment; it is reset here.
        policy: the policy that acts; its recurrent state is kept here, per agent, over epochs.
        device: where the policy lies.
        gamma: discount, for the bootstrap of truncated episodes.
        bootstrap_truncations: add `gamma * value` of the last observation to the reward of an episode
            that was cut by time (Pardo et al. 2018, section 2.2).
        should_stop: asked before every step.
    """

    def __init__(
        self,
        environment: TrainingEnvironment,
        policy: nn.Module,
        *,
        device: torch.device,
        gamma: float,
        bootstrap_truncations: bool,
        should_stop: Callable[[], bool],
    ) -> None:
        self.environment = environment
        self.policy = cast(Any, policy)
        self.device = device
        self.gamma = gamma
        self.bootstrap_truncations = bootstrap_truncations
        self.should_stop = should_stop
        num_agents = environment.num_agents
        self.state: dict[str, Tensor] = self.policy.initial_state(num_agents, device)
        self.rewards = torch.zeros(num_agents, device=device)
        self.terminals = torch.ones(num_agents, dtype=torch.bool, device=device)
        self.truncations = torch.zeros(num_agents, dtype=torch.bool, device=device)
        environment.reset()

    def collect(self, experience: Experience) -> RolloutStatistics:
        """Overwrite `experience` with the next steps of all agents.

        Args:
            experience: made for the agents of this environment.

        Raises:
            RolloutStopped: if `should_stop` says so.
        """
        statistics = RolloutStatistics()
        experience.used_tokens = 1
        steps = experience.bptt_horizon
        with torch.no_grad():
            for chunk in range(experience.num_chunks):
                rows = experience.rows(chunk)
                for name, part in self.state.items():
                    experience.state[name][:, rows] = part
                for step in range(steps):
                    if self.should_stop():
                        raise RolloutStopped
                    outputs = self._act(experience, rows, step, statistics)
                    if step == 0 and chunk > 0:
                        self._close_chunk(experience, chunk - 1, outputs["values"])
                    self._step(outputs["actions"], statistics)
            last_values = self._values_now(statistics)
            self._close_chunk(experience, experience.num_chunks - 1, last_values)
        statistics.agent_steps = experience.num_segments * steps
        return statistics

    def _act(
        self, experience: Experience, rows: slice, step: int, statistics: RolloutStatistics
    ) -> TensorDict:
        started = time.perf_counter()
        used = self.environment.max_used_tokens()
        experience.used_tokens = max(experience.used_tokens, used)
        observations = torch.from_numpy(self.environment.observations)
        experience.observations[rows, step] = observations
        experience.rewards[rows, step] = self.rewards
        experience.terminals[rows, step] = self.terminals
        experience.truncations[rows, step] = self.truncations
        outputs = self._forward(observations[:, :used], self.terminals | self.truncations, self.state)
        experience.actions[rows, step] = outputs["actions"]
        experience.behavior_log_probs[rows, step] = outputs["act_log_prob"]
        experience.values[rows, step] = outputs["values"]
        statistics.forward_seconds += time.perf_counter() - started
        return outputs

    def _forward(self, observations: Tensor, dones: Tensor, state: dict[str, Tensor]) -> TensorDict:
        inputs = TensorDict(
            {"env_obs": observations.to(self.device), "dones": dones}, batch_size=[len(dones)]
        )
        outputs: TensorDict = self.policy(inputs, state)
        return outputs

    def _step(self, actions: Tensor, statistics: RolloutStatistics) -> None:
        started = time.perf_counter()
        _, rewards, terminals, truncations, episodes = self.environment.step(actions.cpu().numpy())
        statistics.environment_seconds += time.perf_counter() - started
        statistics.episodes.extend(episodes)
        self.rewards = torch.from_numpy(rewards.copy()).to(self.device)
        self.terminals = torch.from_numpy(terminals.copy()).to(self.device)
        self.truncations = torch.from_numpy(truncations.copy()).to(self.device)
        if self.bootstrap_truncations and bool(self.truncations.any()):
            self._bootstrap(self.truncations.nonzero().squeeze(1), statistics)

    def _bootstrap(self, agents: Tensor, statistics: RolloutStatistics) -> None:
        """Add the discounted value of the last observation of episodes that were cut by time."""
        started = time.perf_counter()
        final = torch.from_numpy(self.environment.final_observations)[agents.cpu()]
        state = {name: part[:, agents] for name, part in self.state.items()}
        dones = torch.zeros(len(agents), dtype=torch.bool, device=self.device)
        self.rewards[agents] += self.gamma * self._forward(final, dones, state)["values"]
        statistics.forward_seconds += time.perf_counter() - started

    def _values_now(self, statistics: RolloutStatistics) -> Tensor:
        """Return the values `[N]` of the observations to come, without moving the recurrent state."""
        started = time.perf_counter()
        observations = torch.from_numpy(self.environment.observations)
        observations = observations[:, : self.environment.max_used_tokens()]
        state = {name: part.clone() for name, part in self.state.items()}
        outputs = self._forward(observations, self.terminals | self.truncations, state)
        statistics.forward_seconds += time.perf_counter() - started
        values: Tensor = outputs["values"]
        return values

    def _close_chunk(self, experience: Experience, chunk: int, values: Tensor) -> None:
        """Write the column after the last step: what arrived with the next observation, and its value."""
        rows = experience.rows(chunk)
        experience.values[rows, -1] = values
        experience.rewards[rows, -1] = self.rewards
        experience.terminals[rows, -1] = self.terminals
        experience.truncations[rows, -1] = self.truncations
