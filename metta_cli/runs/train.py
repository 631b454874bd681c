"""`metta train`: build everything from the configuration, train, and keep what a resumed run needs."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import numpy as np
import torch

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.checkpoints import (
    Checkpoint,
)
from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig, unsupported_settings, why_unsupported
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import ConfigError, UsageError
from metta_cli.policies.registry import create_policy
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
)
from metta_cli.runs.kickstart import create_kickstarter
from metta_cli.runs.league import begin_league
from metta_cli.runs.machine import (
    choose_device,
    choose_num_workers,
    configure_threads,
    keep_freed_memory,
)
from metta_cli.runs.monitoring import create_monitors
from metta_cli.runs.policies import NO_TRUST, Trust, load_weights
from metta_cli.runs.provenance import git_state, versions
from metta_cli.runs.session import Progress, Session, TrainResult
from metta_cli.runs.signals import StopSignals
from metta_cli.runs.starting_point import (
    check_fit,
    go_on,
    initial_checkpoint,
    newest_checkpoint,
    with_architecture_of,
)
from metta_cli.tracking.jsonl import JsonlTracker
from metta_cli.tracking.tracker import Tracker, TrackerGroup
from metta_cli.training.callbacks import Callback
from metta_cli.training.distributed import World, join_world, leave_world, rank_device
from metta_cli.training.environment import TrainingEnvironment
from metta_cli.training.kickstarter import Kickstarter
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.rollout import RolloutStopped
from metta_cli.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    resolved: ResolvedConfig, *, resume: bool, progress: Progress, npc_trust: Trust = NO_TRUST
) -> TrainResult | None:
    """Train a policy, or go on training it; together with other processes if `torchrun` started several.

    Args:
        resolved: the configuration; a run that exists goes on from its newest valid checkpoint.
        resume: False refuses to touch a run that exists.
        progress: shows the run; started and closed here.
        npc_trust: what the user vouches for in the file of an opponent.

    Returns:
        What the run left behind; None in all processes but the first.

    Raises:
        MettaError: for everything that a user can mend, before anything is written where possible.
        Interrupted: after SIGINT or SIGTERM, when everything is saved.
    """
    resolved = with_curriculum(resolved)
    device = rank_device(choose_device(resolved.config.device))
    world = join_world(device)
    if not world.is_first:
        logging.disable(logging.WARNING)  # the first process says it for all
    try:
        return _train_together(resolved, resume, progress, npc_trust, device, world)
    finally:
        leave_world()


def _train_together(
    resolved: ResolvedConfig,
    resume: bool,
    progress: Progress,
    npc_trust: Trust,
    device: torch.device,
    world: World,
) -> TrainResult | None:
    """Train as one of the processes of `world`; see `train`."""
    config = resolved.config
    run = world.gather(config.run or time.strftime("run_%Y%m%d_%H%M%S"))[0]
    directory = RunDirectory(config.data_dir, run)
    if world.is_first and directory.exists and not resume:
        raise UsageError(
            f"run '{directory.run}' exists already ({directory.path})",
            "choose another name with --run, or leave out --no-resume to go on with it",
        )
    configure_threads()
    keep_freed_memory()
    prepared = _prepare(resolved, device, npc_trust, world)
    opponents = prepared.opponents
    if world.is_first:
        directory.create()
    world.wait_for_all()
    with directory.lock() if world.is_first else nullcontext(), StopSignals() as stop:
        checkpoint = newest_checkpoint(directory, config)
        resolved = with_architecture_of(checkpoint, prepared.resolved)
        share = share_of_config(resolved.config, world)
        seed = _session_seed(config.seed, checkpoint.manifest.epoch if checkpoint else 0)
        training = create_training_tasks(share, directory.path, _rank_seed(seed, world), checkpoint)
        with _create_environment(share, seed, opponents, training, world) as environment:
            played, callbacks = add_opponents(
                opponents,
                environment,
                seed,
                config=resolved.config,
                directory=directory,
                device=device,
                checkpoint=checkpoint,
            )
            training.follow(played)
            callbacks |= training.callbacks
            start = checkpoint or prepared.initial
            trainer = _create_trainer(
                share, directory, played, device, start, stop, callbacks, prepared.kickstarter, world
            )
            if checkpoint is not None:
                go_on(trainer, checkpoint)
            if not world.is_first:
                _follow(trainer)
                return None
            _describe(directory, resolved)
            tracker = _create_tracker(resolved.config, directory)
            is_trained = checkpoint is None and prepared.initial is not None
            session = Session(
                resolved.config, directory, trainer, tracker, progress, stop, evaluates_first=is_trained
            )
            return session.execute()


@dataclass(frozen=True)
class _Prepared:
    """What was loaded and tried before anything is written.

    Attributes:
        resolved: the configuration, with the architecture of the initial policy.
        initial: the policy that a new run begins with.
        opponents: None if there are none.
        kickstarter: None if there are no teachers.
    """

    resolved: ResolvedConfig
    initial: Checkpoint | None
    opponents: Opponents | None
    kickstarter: Kickstarter | None


def _prepare(resolved: ResolvedConfig, device: torch.device, npc_trust: Trust, world: World) -> _Prepared:
    initial = initial_checkpoint(resolved.config)
    resolved = with_architecture_of(initial, resolved)
    opponents = load_opponents(resolved.config, device, npc_trust)
    _check_before_writing(resolved.config, initial, opponents, world)
    return _Prepared(resolved, initial, opponents, create_kickstarter(resolved.config, device))


def _follow(trainer: Trainer) -> None:
    """Train along with the first process, which does all else."""
    with suppress(RolloutStopped):
        trainer.train()


def share_of_config(config: MettaConfig, world: World) -> MettaConfig:
    """Return what one process makes of a configuration: its share of the batch, if that is for all together.

    Args:
        config: with `trainer.scale_batches_by_world_size` the sizes of batches are those of all processes.
        world: the processes.

    Raises:
        ConfigError: if a size cannot be divided.
    """
    trainer = config.trainer
    if not trainer.scale_batches_by_world_size:
        return config
    sizes = {name: getattr(trainer, name) for name in ("batch_size", "minibatch_size", "max_minibatch_size")}
    for name, size in sizes.items():
        if size is not None and size % (world.size * trainer.bptt_horizon):
            raise ConfigError(
                f"trainer.{name} ({size}) cannot be divided among {world.size} processes in segments of "
                f"{trainer.bptt_horizon} steps",
                f"make it a multiple of {world.size * trainer.bptt_horizon}, or leave out "
                "trainer.scale_batches_by_world_size",
            )
    shares = {name: size and size // world.size for name, size in sizes.items()}
    return config.model_copy(update={"trainer": trainer.model_copy(update=shares)})


def _check_before_writing(
    config: MettaConfig, initial: Checkpoint | None, opponents: Opponents | None, world: World
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
    count_environments(share_of_config(config, world))
    interface = training_interface(config)
    create_policy(config.policy.name, interface, config.policy.args)
    if initial is not None:
        check_fit(config, interface, initial)


def _session_seed(seed: int, epoch: int) -> int:
    """Return the seed of a session of a run, from the run's and the epoch that it starts at."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _rank_seed(seed: int, world: World) -> int:
    """Return a seed for what every process chooses by itself."""
    return int(np.random.SeedSequence([seed, world.rank]).generate_state(1)[0])


def _create_environment(
    config: MettaConfig, seed: int, opponents: Opponents | None, training: TrainingTasks, world: World
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
        shard=(world.rank, world.size),
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
    world: World,
) -> Trainer:
    torch.manual_seed(config.seed)
    policy = create_policy(config.policy.name, environment.interface, config.policy.args)
    if start is not None:
        check_fit(config, environment.interface, start)
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
        callbacks=callbacks | create_cost_meter() | create_monitors(config.trainer, policy, directory, world),
        kickstarter=kickstarter,
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
