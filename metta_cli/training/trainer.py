"""The training loop, open: `train()` uses only `collect()` and `update()`.

Glossary, outermost first:

    run         everything up to `total_timesteps` agent steps
    epoch       one `collect()` and one `update()`
    rollout     the acting of an epoch; fills one `Experience`
    pass        one walk over the experience; an update makes `update_epochs` of them
    minibatch   whole segments that share one gradient step
    segment     `bptt_horizon` consecutive steps of one agent
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from metta_cli.algorithms.priorities import calculate_anneal_beta
from metta_cli.config.trainer import TrainerConfig
from metta_cli.training.callbacks import Callback
from metta_cli.training.distributed import World
from metta_cli.training.environment import TrainingEnvironment
from metta_cli.training.experience import Experience
from metta_cli.training.kickstarter import Kickstarter
from metta_cli.training.optimizers import Optimizer
from metta_cli.training.regularization import InitialWeights
from metta_cli.training.rollout import (
    RolloutStatistics,
    RolloutStopped,
    accumulate_rollout_stats,
    mean_statistics,
    perform_rollout_step,
    state_shapes_of,
)
from metta_cli.training.schedules import config_at, scheduled_values
from metta_cli.training.update import Update

Metrics = dict[str, float]
RECENT_EPISODES = 200


@dataclass
class TrainerState:
    """How far a run has come.

    Attributes:
        agent_steps: actions taken by learning agents since the run began.
        epoch: epochs finished.
        seconds: time spent training, over all sessions of the run.
        episodes: episodes finished.
    """

    agent_steps: int = 0
    epoch: int = 0
    seconds: float = 0.0
    episodes: int = 0


class Trainer:
    """Trains one policy in one vectorized environment.

    Args:
        config: how to train.
        environment: where the agents act; the caller closes it.
        policy: what is trained; it lies on `device`.
        optimizer: steps the parameters of `policy`.
        device: where the policy and the experience lie.
        should_stop: asked before every environment step; once it is true, `collect` raises
            `RolloutStopped`.
        callbacks: name -> what lives beside the run; told in this order, saved under these names.
        kickstarter: adds losses to a teacher.

    Attributes:
        world: the processes that `join_world` has brought together to train one policy, each in an
            environment of its own. Counters and metrics are those of all, and what they save is the same.
        state: how far the run has come.
        experience: what was seen and done in this epoch.
    """

    def __init__(
        self,
        config: TrainerConfig,
        *,
        environment: TrainingEnvironment,
        policy: nn.Module,
        optimizer: Optimizer,
        device: torch.device,
        should_stop: Callable[[], bool] = lambda: False,
        callbacks: Mapping[str, Callback] | None = None,
        kickstarter: Kickstarter | None = None,
    ) -> None:
        self.config = config
        self.world = World.current()
        self.callbacks = dict(callbacks or {})
        self.environment = environment
        self.device = device
        self.policy: Any = policy
        self.optimizer = optimizer
        self.should_stop = should_stop
        self.kickstarter = kickstarter
        self.state = TrainerState()
        self.present = config_at(config, 0)
        self.initial_weights = InitialWeights(policy) if stays_near_start(config) else None
        self.recent_returns: deque[float] = deque(maxlen=RECENT_EPISODES)
        self.experience = Experience(
            total_agents=environment.num_agents,
            batch_size=config.batch_size,
            bptt_horizon=config.bptt_horizon,
            minibatch_size=config.minibatch_size,
            obs_space=(environment.interface.num_tokens, 3),
            atn_space=len(environment.interface.action_names),
            device=device,
            state_shapes=state_shapes_of(policy),
            truncation_discount=config.ppo.gamma if config.bootstrap_truncations else 0.0,
            reward_beta=config.reward_centering.beta if config.reward_centering.enabled else 0.0,
        )
        environment.reset()

    def collect(self) -> tuple[Experience, Metrics]:
        """Act for one rollout and count its agent steps; return the experience and what was measured."""
        started = time.perf_counter()
        for callback in self.callbacks.values():
            callback.on_epoch_start(self)
        self.present = config_at(self.config, self.state.agent_steps)
        rollout = self._act()
        rollout.episodes = list(chain.from_iterable(self.world.gather(rollout.episodes)))
        self.state.agent_steps += rollout.agent_steps * self.world.size
        self.state.episodes += len(rollout.episodes)
        metrics = self._rollout_metrics(rollout)
        for callback in self.callbacks.values():
            metrics |= callback.on_rollout_end(self, rollout)
        metrics["time/rollout_seconds"] = time.perf_counter() - started
        return self.experience, metrics

    def update(self, experience: Experience) -> Metrics:
        """Learn from an experience, which ends the epoch; return what was measured."""
        started = time.perf_counter()
        priorities = self.config.prioritized_experience_replay
        beta = calculate_anneal_beta(
            self.state.epoch,
            self.config.total_timesteps,
            self.config.batch_size * self.world.size,
            priorities.prio_alpha,
            priorities.prio_beta0,
        )
        learning_rate = self.present.optimizer.learning_rate
        self.optimizer.train()
        self.optimizer.set_learning_rate(learning_rate)
        metrics: Metrics = Update(
            self.policy,
            self.optimizer,
            experience,
            self.present,
            beta=beta,
            device=self.device,
            kickstarter=self.kickstarter,
            agent_step=self.state.agent_steps,
            initial_weights=self.initial_weights,
        ).run()
        self.optimizer.eval()
        self.state.epoch += 1
        if self.initial_weights is not None:
            interval = self.config.ppo.l2_init_weight_update_interval
            self.initial_weights.update_if_due(self.policy, self.state.epoch, interval)
        metrics |= scheduled_values(self.config, self.present) | {"learning_rate": learning_rate}
        return metrics | {"time/update_seconds": time.perf_counter() - started}

    def train(self, after_epoch: Callable[[Trainer, Metrics], None] | None = None) -> TrainerState:
        """Alternate `collect` and `update` until `total_timesteps` agent steps are taken.

        Args:
            after_epoch: called after every epoch with everything that was measured. An exception in
                it ends the run.

        Raises:
            RolloutStopped: if `should_stop` says so.
        """
        while self.state.agent_steps < self.config.total_timesteps:
            started = time.perf_counter()
            if self.world.size > 1 and self.world.any(self.should_stop()):
                raise RolloutStopped
            experience, metrics = self.collect()
            metrics |= self.update(experience)
            for callback in self.callbacks.values():
                metrics |= callback.on_epoch_end(self, metrics)
            seconds = time.perf_counter() - started
            self.state.seconds += seconds
            metrics["time/seconds"] = self.state.seconds
            metrics["steps_per_second"] = self.config.batch_size * self.world.size / seconds
            if after_epoch is not None:
                after_epoch(self, metrics)
        return self.state

    def _act(self) -> RolloutStatistics:
        """Fill the experience.

        Raises:
            RolloutStopped: if `should_stop` says so; several processes agree on it before each epoch only.
        """
        rollout = RolloutStatistics()
        self.optimizer.train()
        self.experience.reset_for_rollout()
        while not self.experience.ready_for_training:
            if self.world.size == 1 and self.should_stop():
                self.optimizer.eval()
                raise RolloutStopped
            agent_steps, episodes = perform_rollout_step(
                self.policy, self.environment, self.experience, self.device, rollout.timer
            )
            rollout.agent_steps += agent_steps
            rollout.episodes.extend(episodes)
        return rollout

    def _rollout_metrics(self, rollout: RolloutStatistics) -> Metrics:
        metrics: Metrics = {
            "time/environment_seconds": rollout.environment_seconds,
            "time/forward_seconds": rollout.forward_seconds,
            "episode/count": float(self.state.episodes),
            "experience/reward_mean": float(self.world.mean(self.experience.rewards[:, 1:].mean())),
        }
        stats: dict[str, list[float]] = {}
        accumulate_rollout_stats(rollout.episodes, stats)
        metrics |= mean_statistics(stats)
        self.recent_returns.extend(stats.get("episode/return_mean", []))
        if self.recent_returns:
            metrics["episode/recent_return_mean"] = float(np.mean(self.recent_returns))
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything, besides the weights, that a resumed run needs: counters, optimizer, RNG."""
        return {
            "counters": asdict(self.state),
            "recent_returns": list(self.recent_returns),
            "optimizer": self.optimizer.state_dict(),
            "reward_means": self.experience.reward_means,
            "initial_weights": {} if self.initial_weights is None else self.initial_weights.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in self.callbacks.items()},
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`. The environments start new episodes.

        A callback that the run did not have until now begins anew. Random states of CUDA devices are
        restored where there are as many devices as there were.
        """
        self.state = TrainerState(**data["counters"])
        self.recent_returns.extend(data["recent_returns"])
        self.optimizer.load_state_dict(data["optimizer"])
        if self.initial_weights is not None and data.get("initial_weights"):
            self.initial_weights.load_state_dict(data["initial_weights"])
        means = data.get("reward_means")
        if means is not None:
            here = self.experience.reward_means
            here[:] = means if means.shape == here.shape else means.mean()
        saved = data.get("callbacks", {})
        for name in self.callbacks.keys() & saved.keys():
            self.callbacks[name].load_state_dict(saved[name])
        torch.set_rng_state(data["torch_rng"])
        if len(data["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(data["cuda_rng"])


def stays_near_start(config: TrainerConfig) -> bool:
    """Return whether the weights are, at any time of a run, pulled towards those at its start."""
    schedule = config.hyperparameter_scheduler.ppo_l2_init_loss_schedule
    return config.ppo.l2_init_loss_coef > 0 or schedule is not None
