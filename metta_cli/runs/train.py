"""`metta train`: build everything from the configuration, train, and keep what a resumed run needs."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.checkpoints import (
    Architecture,
    Checkpoint,
    CheckpointManifest,
    latest_valid_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from metta_cli.artifacts.loaders import load_checkpoint
from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig, unsupported_settings
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import CheckpointError, ConfigError, UsageError
from metta_cli.policies.registry import create_policy
from metta_cli.policies.remapping import interface_differences
from metta_cli.runs.curves import plot_run
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.machine import choose_device, choose_num_workers, configure_threads
from metta_cli.runs.policies import load_weights
from metta_cli.runs.provenance import git_state, versions
from metta_cli.runs.signals import Interrupted, StopSignals
from metta_cli.tracking.jsonl import JsonlTracker
from metta_cli.tracking.tracker import Tracker, TrackerGroup
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.rollout import RolloutStopped
from metta_cli.training.trainer import Metrics, Trainer

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Shows a person how a run is doing."""

    def start(self, total_agent_steps: int, run: str) -> None:
        """Begin to show the run."""

    def update(self, metrics: dict[str, float]) -> None:
        """Show the metrics of an epoch."""

    def close(self) -> None:
        """Leave the terminal as it was."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run left behind.

    Attributes:
        run: name of the run.
        run_dir: its directory.
        checkpoint: its last checkpoint.
        agent_steps: actions taken by learning agents, over all sessions of the run.
        epoch: epochs finished.
        seconds: time spent training, over all sessions of the run.
        return_mean: mean return per agent of the last 200 episodes; None if none has ended yet.
    """

    run: str
    run_dir: Path
    checkpoint: Path
    agent_steps: int
    epoch: int
    seconds: float
    return_mean: float | None


def train(resolved: ResolvedConfig, *, resume: bool, progress: Progress) -> TrainResult:
    """Train a policy, or go on training it.

    Args:
        resolved: the configuration; a run that exists goes on from its newest valid checkpoint.
        resume: False refuses to touch a run that exists.
        progress: shows the run; started and closed here.

    Raises:
        MettaError: for everything that a user can mend, before anything is written where possible.
        Interrupted: after SIGINT or SIGTERM, when everything is saved.
    """
    config = resolved.config
    _refuse_unsupported(config)
    device = choose_device(config.device)
    directory = RunDirectory(config.data_dir, config.run or time.strftime("run_%Y%m%d_%H%M%S"))
    if directory.exists and not resume:
        raise UsageError(
            f"run '{directory.run}' exists already ({directory.path})",
            "choose another name with --run, or leave out --no-resume to go on with it",
        )
    configure_threads()
    directory.create()
    with directory.lock(), StopSignals() as stop:
        checkpoint = _newest_checkpoint(directory)
        epoch = checkpoint.manifest.epoch if checkpoint else 0
        with _create_environment(config, epoch) as environment:
            trainer = _create_trainer(config, environment, device, checkpoint, stop)
            run = _Run(config, directory, trainer, _create_tracker(config, directory), progress)
            _describe(directory, resolved)
            return run.execute(stop)


def _refuse_unsupported(config: MettaConfig) -> None:
    unsupported = unsupported_settings(config.trainer)
    if unsupported:
        raise ConfigError(
            f"this version does not act upon {', '.join(unsupported)}", "leave it at its default"
        )


def _newest_checkpoint(directory: RunDirectory) -> Checkpoint | None:
    checkpoint, skipped = latest_valid_checkpoint(directory.checkpoints)
    for reason in skipped:
        logger.warning("%s", reason)
    if checkpoint is not None:
        logger.info("going on from %s", checkpoint.manifest.name)
    return checkpoint


def _create_environment(config: MettaConfig, epoch: int) -> VectorEnvironment:
    """Make the environments of a session; its seed follows from the run's and the epoch it starts at."""
    trainer = config.trainer
    num_environments = count_environments(config, agents_of(config))
    seed = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0])
    return VectorEnvironment(
        config.env,
        num_environments=num_environments,
        num_workers=choose_num_workers(trainer.num_workers, num_environments),
        seed=seed,
        stagger_episodes=True,
    )


def agents_of(config: MettaConfig) -> int:
    """Return the number of agents in one environment of the configuration."""
    from metta_cli.environments.builders import build

    agents: int = build(config.env).game.num_agents
    return agents


def count_environments(config: MettaConfig, agents: int) -> int:
    """Return how many environments act side by side.

    It is the largest number for which a forward pass has about
    `trainer.forward_pass_minibatch_target_size` agents and a batch consists of whole segments.

    Args:
        config: sizes of the batch and of a forward pass.
        agents: agents in one environment.

    Raises:
        ConfigError: if no number of environments fits the batch.
    """
    trainer = config.trainer
    segments = trainer.batch_size // trainer.bptt_horizon
    most = max(1, min(trainer.forward_pass_minibatch_target_size, segments) // agents)
    for count in range(most, 0, -1):
        if segments % (count * agents) == 0:
            return count
    unit = agents * trainer.bptt_horizon
    raise ConfigError(
        f"trainer.batch_size ({trainer.batch_size}) is not a multiple of agents x trainer.bptt_horizon "
        f"({agents} x {trainer.bptt_horizon} = {unit})",
        f"try trainer.batch_size={max(1, round(trainer.batch_size / unit)) * unit} "
        f"trainer.minibatch_size={max(1, round(trainer.minibatch_size / unit)) * unit}",
    )


def _create_trainer(
    config: MettaConfig,
    environment: VectorEnvironment,
    device: torch.device,
    checkpoint: Checkpoint | None,
    stop: StopSignals,
) -> Trainer:
    torch.manual_seed(config.seed)
    policy = create_policy(config.policy.name, environment.interface, config.policy.args)
    start = checkpoint or _initial_checkpoint(config)
    if start is not None:
        _check_fit(config, environment, start)
        load_weights(policy, start.weights, start.manifest.name)
    policy.to(device)
    trainer = Trainer(
        config.trainer,
        environment=environment,
        policy=policy,
        optimizer=create_optimizer(config.trainer.optimizer, policy),
        device=device,
        should_stop=lambda: stop.requested is not None,
    )
    if checkpoint is not None:
        if checkpoint.trainer_state is None:
            raise CheckpointError(
                f"{checkpoint.manifest.name} holds a policy only, so its run cannot go on",
                "start a new run from it with policy_uri=",
            )
        trainer.load_state_dict(checkpoint.trainer_state)
    return trainer


def _initial_checkpoint(config: MettaConfig) -> Checkpoint | None:
    uri = config.policy_uri or config.trainer.initial_policy.uri
    return load_checkpoint(uri, device="cpu", data_dir=Path(config.data_dir)) if uri else None


def _check_fit(config: MettaConfig, environment: VectorEnvironment, start: Checkpoint) -> None:
    manifest = start.manifest
    wanted = (config.policy.name, config.policy.args)
    trained = (manifest.architecture.name, manifest.architecture.args)
    if wanted != trained:
        raise CheckpointError(
            f"checkpoint {manifest.name} is policy {trained[0]} {trained[1]}, the configuration asks for "
            f"{wanted[0]} {wanted[1]}",
            f"set policy={trained[0]}, or train under another run name",
        )
    differences = interface_differences(manifest.passport, environment.interface)
    if differences:
        raise CheckpointError(
            f"checkpoint {manifest.name} was trained in '{manifest.environment.name}' and does not fit "
            f"'{environment.spec.name}': {'; '.join(differences)}",
            f"train in env={manifest.environment.name}, or start a new run without this checkpoint",
        )


def _create_tracker(config: MettaConfig, directory: RunDirectory) -> Tracker:
    trackers: list[Tracker] = [JsonlTracker(directory.metrics)]
    if config.wandb.mode != "off":
        from metta_cli.tracking.wandb import WandbTracker

        trackers.append(WandbTracker(config.wandb, run=directory.run, directory=directory.path))
    return TrackerGroup(trackers)


def _describe(directory: RunDirectory, resolved: ResolvedConfig) -> None:
    """Write what started this session beside the run."""
    import json

    write_file(directory.config, resolved.to_yaml().encode())
    write_file(
        directory.versions,
        json.dumps({"versions": versions(), "git": git_state()}, indent=1).encode(),
    )
    with directory.command.open("a") as file:
        file.write(shlex.join(sys.argv) + "\n")


class _Run:
    """One session of a run: the trainer and everything that watches it."""

    def __init__(
        self,
        config: MettaConfig,
        directory: RunDirectory,
        trainer: Trainer,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self.config, self.directory, self.trainer = config, directory, trainer
        self.tracker, self.progress = tracker, progress
        self.saved_epoch = trainer.state.epoch if trainer.state.epoch else None
        self.checkpoint: Path = directory.checkpoints / f"{directory.run}:v{trainer.state.epoch}"

    def execute(self, stop: StopSignals) -> TrainResult:
        """Train to the end, or until a signal; save in either case."""
        self.progress.start(self.config.trainer.total_timesteps, self.directory.run)
        try:
            try:
                self.trainer.train(self._after_epoch)
            except RolloutStopped:
                logger.info("stopping: the unfinished rollout is dropped")
            self._save()
        finally:
            self.progress.close()
            self.tracker.close()
        if self.directory.metrics.is_file() and self.directory.metrics.stat().st_size:
            plot_run(self.directory.path, self.directory.curve)
        if stop.requested is not None:
            raise Interrupted(stop.requested)
        state = self.trainer.state
        return TrainResult(
            run=self.directory.run,
            run_dir=self.directory.path,
            checkpoint=self.checkpoint,
            agent_steps=state.agent_steps,
            epoch=state.epoch,
            seconds=state.seconds,
            return_mean=self._return_mean(),
        )

    def _after_epoch(self, trainer: Trainer, metrics: Metrics) -> None:
        state = trainer.state
        self.tracker.log(metrics, agent_steps=state.agent_steps, epoch=state.epoch)
        self.progress.update(metrics | {"agent_steps": state.agent_steps, "epoch": state.epoch})
        interval = self.config.trainer.checkpoint.checkpoint_interval
        if interval and state.epoch % interval == 0:
            self._save()

    def _return_mean(self) -> float | None:
        recent = self.trainer.recent_returns
        return float(np.mean(recent)) if recent else None

    def _save(self) -> None:
        state = self.trainer.state
        if state.epoch == self.saved_epoch:
            return
        policy: nn.Module = self.trainer.policy
        return_mean = self._return_mean()
        manifest = CheckpointManifest(
            run=self.directory.run,
            epoch=state.epoch,
            agent_steps=state.agent_steps,
            architecture=Architecture(name=self.config.policy.name, args=self.config.policy.args),
            passport=self.trainer.collector.environment.interface,
            environment=self.config.env,
            config=self.config.model_dump(mode="json"),
            scores={} if return_mean is None else {"episode/recent_return_mean": return_mean},
            versions=versions(),
        )
        trainer_state: dict[str, Any] = self.trainer.state_dict()
        self.checkpoint = save_checkpoint(
            self.directory.checkpoints, manifest, policy.state_dict(), trainer_state
        )
        self.saved_epoch = state.epoch
        keep = self.config.trainer.checkpoint.keep
        if keep:
            prune_checkpoints(self.directory.checkpoints, keep=keep, protect=[self.checkpoint])
