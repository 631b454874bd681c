"""Acting: fill one `Experience` from the vectorized environment, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from metta_cli.algorithms.distributions import part_of_batch
from metta_cli.algorithms.rewards import center_rewards
from metta_cli.errors import ConfigError
from metta_cli.training.distributed import World
from metta_cli.training.environment import TrainingEnvironment
from metta_cli.training.experience import Experience

if TYPE_CHECKING:
    from metta_cli.environments.vector import FinishedEpisode

Timer = Callable[[str], AbstractContextManager[Any]]
"""Measures a stretch of code: `with timer("environment"): ...`; a `Stopwatch` is one."""

Statistics = MutableMapping[str, list[float]]
"""Name -> one number per finished episode."""


class RolloutStopped(Exception):  # noqa: N818  # a stop on request is no error
    """Acting was stopped in the middle of a rollout; nothing of it counts."""


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

    @contextmanager
    def timer(self, phase: str) -> Iterator[None]:
        """Measure the `environment` or the `forward` phase."""
        started = time.perf_counter()
        yield
        name = f"{phase}_seconds"
        setattr(self, name, getattr(self, name) + time.perf_counter() - started)


@torch.no_grad()
def perform_rollout_step(
    agent: Any,
    env: TrainingEnvironment,
    experience: Experience,
    device: torch.device | str,
    timer: Timer | None = None,
) -> tuple[int, list[FinishedEpisode]]:
    """Let every agent take one step and write it into the experience.

    After the last step of an epoch the policy is asked once more, for the values of the observations to
    come; `experience.ready_for_training` is then true until `reset_for_rollout`.

    Args:
        agent: the policy that acts; `experience` keeps its recurrent state.
        env: the environment, reset once before the first step of all.
        experience: made for its agents.
        device: where the policy and the experience lie.
        timer: measures the phases `forward` and `environment`.

    Returns:
        How many agents acted, and the episodes that ended.

    Raises:
        ConfigError: if the experience was made for another number of agents or another recurrent state.
        ValueError: if the experience is full.
    """
    if experience.ready_for_training:
        raise ValueError("the experience is full: call reset_for_rollout() before the next step")
    timer = timer or (lambda phase: nullcontext())
    if experience.chunk == experience.step == 0:
        _check_fit(agent, env, experience)
    with timer("forward"):
        actions = _act(agent, env, experience, device)
    with timer("environment"):
        _, rewards, terminals, truncations, episodes = env.step(actions.cpu().numpy())
    experience.current_rewards, experience.reward_means = center_rewards(
        torch.from_numpy(rewards.copy()).to(device), experience.reward_means, experience.reward_beta
    )
    experience.current_terminals = torch.from_numpy(terminals.copy()).to(device)
    experience.current_truncations = torch.from_numpy(truncations.copy()).to(device)
    with timer("forward"):
        _bootstrap(agent, env, experience, device)
        if experience.advance():
            rows = experience.rows(experience.num_chunks - 1)
            experience.write_arrivals(rows, -1, _values_now(agent, env, experience, device))
    return experience.num_agents, episodes


def _act(agent: Any, env: TrainingEnvironment, experience: Experience, device: torch.device | str) -> Tensor:
    """Choose the actions `[N]` and write what led to them."""
    chunk, step = experience.chunk, experience.step
    rows = experience.rows(chunk)
    if step == 0:
        for name, part in experience.current_state.items():
            experience.state[name][:, rows] = part
    used = env.max_used_tokens()
    experience.used_tokens = max(experience.used_tokens, used)
    observations = torch.from_numpy(env.observations)
    experience.observations[rows, step] = observations
    outputs = _forward(
        agent, observations[:, :used], experience.current_dones, experience.current_state, device
    )
    experience.write_arrivals(rows, step, outputs["values"])
    if step == 0 and chunk > 0:
        experience.write_arrivals(experience.rows(chunk - 1), -1, outputs["values"])
    experience.actions[rows, step] = outputs["actions"]
    experience.behavior_log_probs[rows, step] = outputs["act_log_prob"]
    actions: Tensor = outputs["actions"]
    return actions


def _forward(
    agent: Any, observations: Tensor, dones: Tensor, state: dict[str, Tensor], device: torch.device | str
) -> TensorDict:
    inputs = TensorDict({"env_obs": observations.to(device), "dones": dones}, batch_size=[len(dones)])
    world = World.current()
    with part_of_batch(world.rank, world.size):
        outputs: TensorDict = agent(inputs, state)
    return outputs


def _bootstrap(
    agent: Any, env: TrainingEnvironment, experience: Experience, device: torch.device | str
) -> None:
    """Add the discounted value of the last observation of episodes that were cut by time.

    Source: Pardo et al. 2018, section 2.2, https://arxiv.org/abs/1712.00378.
    """
    discount = experience.truncation_discount
    if not discount or not bool(experience.current_truncations.any()):
        return
    cut = experience.current_truncations.nonzero().squeeze(1)
    final = torch.from_numpy(env.final_observations)[cut.cpu()]
    state = {name: part[:, cut] for name, part in experience.current_state.items()}
    dones = torch.zeros(len(cut), dtype=torch.bool, device=device)
    # How many are cut must not decide which random numbers come next: other processes cut others.
    with torch.random.fork_rng(devices=[dones.device] if dones.is_cuda else []):
        values = _forward(agent, final, dones, state, device)["values"]
    experience.current_rewards[cut] += discount * values


def _values_now(
    agent: Any, env: TrainingEnvironment, experience: Experience, device: torch.device | str
) -> Tensor:
    """Return the values `[N]` of the observations to come, without moving the recurrent state."""
    observations = torch.from_numpy(env.observations)[:, : env.max_used_tokens()]
    state = {name: part.clone() for name, part in experience.current_state.items()}
    values: Tensor = _forward(agent, observations, experience.current_dones, state, device)["values"]
    return values


def _check_fit(agent: Any, env: TrainingEnvironment, experience: Experience) -> None:
    if env.num_agents != experience.num_agents:
        raise ConfigError(
            f"the experience is made for {experience.num_agents} agents and not for the {env.num_agents} of "
            "the environment",
            f"pass total_agents={env.num_agents} to Experience",
        )
    needed = state_shapes_of(agent)
    if needed != experience.state_shapes:
        raise ConfigError(
            f"the policy's recurrent state is {needed}, the experience is made for {experience.state_shapes}",
            f"pass state_shapes={needed} to Experience, or hidden_size and num_lstm_layers that fit",
        )


def state_shapes_of(agent: Any) -> dict[str, tuple[int, int]]:
    """Return name -> `(L, H)` of the recurrent state of a policy."""
    return {name: (part.shape[0], part.shape[2]) for name, part in agent.initial_state(1, "cpu").items()}


def accumulate_rollout_stats(infos: Iterable[FinishedEpisode], stats: Statistics) -> None:
    """Append the figures of finished episodes to lists that the caller keeps; cut episodes do not count.

    Every list has one entry per episode: return per agent, length in steps, and the simulator's statistics
    per agent, where an agent without one has 0.

    Args:
        infos: as `perform_rollout_step` returns them.
        stats: name -> figures so far; names that are new are added. `{}` to begin with.
    """
    for episode in infos:
        if episode.is_cut:
            continue
        count = len(stats.setdefault("episode/return_mean", []))
        figures = {
            "episode/return_mean": float(episode.agent_returns.mean()),
            "episode/length_mean": float(episode.num_steps),
        }
        for statistics in episode.agent_stats:
            for name, value in statistics.items():
                key = f"env_agent/{name}"
                figures[key] = figures.get(key, 0.0) + value / len(episode.agent_stats)
        for name in stats.keys() | figures.keys():
            past = stats.setdefault(name, [0.0] * count)
            past.append(figures.get(name, 0.0))


def mean_statistics(stats: Statistics) -> dict[str, float]:
    """Return the mean over episodes of every list of `accumulate_rollout_stats`."""
    return {name: float(np.mean(figures)) for name, figures in stats.items() if figures}
