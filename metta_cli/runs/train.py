"""`metta train`: build everything from the configuration, train, and keep what a resumed run needs."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.checkpoints import (
    Checkpoint,
    latest_valid_checkpoint,
)
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig, PolicyConfig, unsupported_settings, why_unsupported
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import CheckpointError, ConfigError, UsageError
from metta_cli.policies.registry import create_policy
from metta_cli.policies.remapping import interface_differences
from metta_cli.populations.players import is_builtin
from metta_cli.runs.cost import create_cost_meter
from metta_cli.runs.curriculum import (
    TrainingTasks,
    create_training_tasks,
    training_interface,
    training_spec,
    with_curriculum,
)
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.dual_policy import (
    Opponents,
    add_opponents,
    learners_per_environment,
    load_opponents,
    warn_of_lost_opponents,
)
from metta_cli.runs.external import to_checkpoint
from metta_cli.runs.kickstart import create_kickstarter
from metta_cli.runs.league import begin_league
from metta_cli.runs.machine import (
    choose_device,
    choose_num_workers,
    configure_threads,
    keep_freed_memory,
)
from metta_cli.runs.monitoring import create_monitors
from metta_cli.runs.policies import NO_TRUST, Trust, failed_to_load, load_weights, read_weights
from metta_cli.runs.provenance import git_state, versions
from metta_cli.runs.selection import initial_policy_uri
from metta_cli.runs.session import Progress, Session, TrainResult
from metta_cli.runs.signals import StopSignals
from metta_cli.tracking.jsonl import JsonlTracker
from metta_cli.tracking.tracker import Tracker, TrackerGroup
from metta_cli.training.callbacks import Callback
from metta_cli.training.environment import TrainingEnvironment
from metta_cli.training.kickstarter import Kickstarter
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.trainer import Trainer

PLAIN_WEIGHTS_ONLY = (
    "training reads plain weights only: write them with torch.save(model.state_dict(), PATH), "
    "or with metta export --allow-pickle if you trust the file"
)

logger = logging.getLogger(__name__)


def train(
    resolved: ResolvedConfig, *, resume: bool, progress: Progress, npc_trust: Trust = NO_TRUST
) -> TrainResult:
    """Train a policy, or go on training it.

    Args:
        resolved: the configuration; a run that exists goes on from its newest valid checkpoint.
        resume: False refuses to touch a run that exists.
        progress: shows the run; started and closed here.
        npc_trust: what the user vouches for in the file of an opponent.

    Raises:
        MettaError: for everything that a user can mend, before anything is written where possible.
        Interrupted: after SIGINT or SIGTERM, when everything is saved.
    """
    resolved = with_curriculum(resolved)
    config = resolved.config
    device = choose_device(config.device)
    directory = RunDirectory(config.data_dir, config.run or time.strftime("run_%Y%m%d_%H%M%S"))
    if directory.exists and not resume:
        raise UsageError(
            f"run '{directory.run}' exists already ({directory.path})",
            "choose another name with --run, or leave out --no-resume to go on with it",
        )
    configure_threads()
    keep_freed_memory()
    initial = _initial_checkpoint(config)
    resolved = _with_architecture_of(initial, resolved)
    opponents = load_opponents(resolved.config, device, npc_trust)
    _check_before_writing(resolved.config, initial, opponents)
    kickstarter = create_kickstarter(resolved.config, device)
    directory.create()
    with directory.lock(), StopSignals() as stop:
        checkpoint = _newest_checkpoint(directory, config)
        resolved = _with_architecture_of(checkpoint, resolved)
        config = resolved.config
        epoch = checkpoint.manifest.epoch if checkpoint else 0
        seed = _session_seed(config.seed, epoch)
        training = create_training_tasks(config, directory.path, seed, checkpoint)
        with _create_environment(config, seed, opponents, training) as environment:
            played, callbacks = add_opponents(
                opponents,
                environment,
                seed,
                config=config,
                directory=directory,
                device=device,
                checkpoint=checkpoint,
            )
            callbacks |= training.callbacks
            start = checkpoint or initial
            trainer = _create_trainer(config, directory, played, device, start, stop, callbacks, kickstarter)
            if checkpoint is not None:
                _go_on(trainer, checkpoint)
            _describe(directory, resolved)
            tracker = _create_tracker(config, directory)
            is_trained = checkpoint is None and initial is not None
            session = Session(config, directory, trainer, tracker, progress, stop, evaluates_first=is_trained)
            return session.execute()


def _initial_checkpoint(config: MettaConfig) -> Checkpoint | None:
    """Return the policy that a new run begins with, if the configuration names one."""
    uri = config.policy_uri or initial_policy_uri(
        config.trainer.initial_policy, Path(config.data_dir), config.seed
    )
    if uri is None:
        return None
    if is_builtin(uri):
        raise UsageError(
            f"policy_uri={uri}: a built-in player has no weights to train from",
            "leave policy_uri out to start from random weights, or name a run or checkpoint",
        )
    with failed_to_load():
        try:
            found = read_weights(uri, Path(config.data_dir), NO_TRUST)
        except CheckpointError as error:
            if "--allow-pickle" not in str(error.cure):
                raise
            raise CheckpointError(error.message, PLAIN_WEIGHTS_ONLY) from error
        return found if isinstance(found, Checkpoint) else to_checkpoint(found, config.pytorch, config.env)


def _with_architecture_of(checkpoint: Checkpoint | None, resolved: ResolvedConfig) -> ResolvedConfig:
    """Return the configuration with the policy of a checkpoint, unless the user chose one."""
    if checkpoint is None or resolved.is_chosen("policy"):
        return resolved
    architecture = checkpoint.manifest.architecture
    policy = PolicyConfig(name=architecture.name, args=architecture.args)
    return replace(resolved, config=resolved.config.model_copy(update={"policy": policy}))


def _check_before_writing(
    config: MettaConfig, initial: Checkpoint | None, opponents: Opponents | None
) -> None:
    """Try what needs no run directory, so that a mistake leaves none behind."""
    unsupported = unsupported_settings(config.trainer)
    if unsupported:
        key, more = unsupported[0], f" (nor upon {', '.join(unsupported[1:])})" if unsupported[1:] else ""
        raise ConfigError(
            f"this version does not act upon {key}{more}: {why_unsupported(key)}", "leave it at its default"
        )
    if opponents is not None:
        opponents.check(training_spec(config))
    count_environments(config)
    interface = training_interface(config)
    create_policy(config.policy.name, interface, config.policy.args)
    if initial is not None:
        _check_fit(config, interface, initial)


def _newest_checkpoint(directory: RunDirectory, config: MettaConfig) -> Checkpoint | None:
    checkpoint, skipped = latest_valid_checkpoint(directory.checkpoints)
    for reason in skipped:
        logger.warning("%s", reason)
    if checkpoint is not None:
        logger.info("going on from %s", checkpoint.manifest.name)
        warn_of_lost_opponents(checkpoint.manifest.config, config)
    return checkpoint


def _session_seed(seed: int, epoch: int) -> int:
    """Return the seed of a session of a run, from the run's and the epoch that it starts at."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _create_environment(
    config: MettaConfig, seed: int, opponents: Opponents | None, training: TrainingTasks
) -> VectorEnvironment:
    trainer = config.trainer
    num_environments = count_environments(config)
    return VectorEnvironment(
        training_spec(config),
        num_environments=num_environments,
        num_workers=choose_num_workers(trainer.num_workers, num_environments),
        seed=seed,
        stagger_episodes=True,
        tasks=training.tasks,
        task_source=training.source,
        scripted_actions=opponents is not None and opponents.read_scripted_actions,
    )


def count_environments(config: MettaConfig) -> int:
    """Return how many environments act side by side.

    It is the largest number for which a forward pass has about
    `trainer.forward_pass_minibatch_target_size` agents and a batch consists of whole segments.

    Args:
        config: the environment, and the sizes of the batch and of a forward pass.

    Raises:
        ConfigError: if no number of environments fits the batch.
    """
    trainer = config.trainer
    agents = learners_per_environment(trainer.dual_policy, training_spec(config))
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
    directory: RunDirectory,
    environment: TrainingEnvironment,
    device: torch.device,
    start: Checkpoint | None,
    stop: StopSignals,
    callbacks: dict[str, Callback],
    kickstarter: Kickstarter | None,
) -> Trainer:
    torch.manual_seed(config.seed)
    policy = create_policy(config.policy.name, environment.interface, config.policy.args)
    if start is not None:
        _check_fit(config, environment.interface, start)
        load_weights(policy, start.weights, start.manifest.name)
    policy.to(device)
    begin_league(callbacks, policy)
    return Trainer(
        config.trainer,
        environment=environment,
        policy=policy,
        optimizer=create_optimizer(config.trainer, policy),
        device=device,
        should_stop=lambda: stop.requested is not None,
        callbacks=callbacks | create_cost_meter() | create_monitors(config.trainer, policy, directory),
        kickstarter=kickstarter,
    )


def _go_on(trainer: Trainer, checkpoint: Checkpoint) -> None:
    if checkpoint.trainer_state is None:
        raise CheckpointError(
            f"{checkpoint.manifest.name} holds a policy only, so its run cannot go on",
            "start a new run from it with policy_uri=",
        )
    trainer.load_state_dict(checkpoint.trainer_state)


def _check_fit(config: MettaConfig, interface: EnvironmentInterface, start: Checkpoint) -> None:
    manifest = start.manifest
    wanted = (config.policy.name, config.policy.args)
    trained = (manifest.architecture.name, manifest.architecture.args)
    if wanted != trained:
        differ_by_name = wanted[0] != trained[0]
        shown = [name if differ_by_name else f"{name} {args}" for name, args in (trained, wanted)]
        raise CheckpointError(
            f"checkpoint {manifest.name} is policy {shown[0]}, the configuration asks for {shown[1]}",
            "leave out what it says about the policy, or train under another run name",
        )
    differences = interface_differences(manifest.passport, interface)
    if differences:
        raise CheckpointError(
            f"checkpoint {manifest.name} was trained in '{manifest.environment.name}' and does not fit "
            f"'{config.env.name}': {'; '.join(differences)}",
            f"train in env={manifest.environment.name}, or start a new run without this checkpoint",
        )


def _create_tracker(config: MettaConfig, directory: RunDirectory) -> Tracker:
    trackers: list[Tracker] = [JsonlTracker(directory.metrics)]
    if config.wandb.mode != "off":
        from metta_cli.tracking.wandb import WandbTracker

        trackers.append(
            WandbTracker(
                config.wandb,
                run=directory.run,
                directory=directory.path,
                run_config=config.model_dump(mode="json"),
                upload_interval=config.trainer.checkpoint.wandb_checkpoint_interval,
            )
        )
    return TrackerGroup(trackers)


def _describe(directory: RunDirectory, resolved: ResolvedConfig) -> None:
    """Write what started this session beside the run."""
    write_file(directory.config, resolved.to_yaml().encode())
    write_file(
        directory.versions,
        json.dumps({"versions": versions(), "git": git_state()}, indent=1).encode(),
    )
    with directory.command.open("a") as file:
        file.write(shlex.join(sys.argv) + "\n")
