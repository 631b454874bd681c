"""One session of a training run: the trainer, and everything that watches, saves and evaluates it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metta_cli.artifacts.checkpoints import (
    Architecture,
    CheckpointManifest,
    list_checkpoints,
    prune_checkpoints,
    read_manifest,
    save_checkpoint,
)
from metta_cli.artifacts.wandb_client import checkpoint_metadata
from metta_cli.config.schema import MettaConfig
from metta_cli.errors import MettaError
from metta_cli.populations.opponents import OpponentError
from metta_cli.runs.cost import cost_of
from metta_cli.runs.curves import plot_run
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.evaluator import Evaluator
from metta_cli.runs.provenance import versions
from metta_cli.runs.signals import Interrupted, StopSignals
from metta_cli.tracking.tracker import Tracker
from metta_cli.training.rollout import RolloutStopped
from metta_cli.training.trainer import Metrics, Trainer

SCORE = "avg_simulation_score"
"""What the best checkpoints are chosen by."""

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
        environment: name of the environment that it is described by.
        environment_args: the arguments of that environment, those that the user changed among them.
        cost: of all sessions of the run, where METTA_HOURLY_COST says what an hour costs.
    """

    run: str
    run_dir: Path
    checkpoint: Path
    agent_steps: int
    epoch: int
    seconds: float
    return_mean: float | None
    environment: str
    environment_args: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None


class Session:
    """Trains to the end, or until a signal, and leaves the run in order either way.

    Args:
        config: of the run.
        directory: of the run; the caller holds its lock.
        trainer: ready to train.
        tracker: takes the metrics; closed here.
        progress: shows them; started and closed here.
        stop: asked for signals.
        evaluates_first: whether the policy is evaluated before anything is learned, as one that was
            trained before should be.
    """

    def __init__(
        self,
        config: MettaConfig,
        directory: RunDirectory,
        trainer: Trainer,
        tracker: Tracker,
        progress: Progress,
        stop: StopSignals,
        *,
        evaluates_first: bool = False,
    ) -> None:
        self.config, self.directory, self.trainer = config, directory, trainer
        self.tracker, self.progress, self.stop = tracker, progress, stop
        self.evaluator = Evaluator(config, directory, stop)
        self.evaluates_first = evaluates_first and config.trainer.simulation.evaluate_interval > 0
        self.records = config.trainer.simulation.replay_interval > 0
        self.scores: Metrics = {}
        self.seconds_between: Metrics = {}
        self.saved_epoch = trainer.state.epoch or None
        self.checkpoint = directory.checkpoints / f"{directory.run}:v{trainer.state.epoch}"

    def execute(self) -> TrainResult:
        """Train, save, and draw the learning curve.

        Raises:
            Interrupted: after a signal, when everything is saved.
        """
        self.progress.start(self.config.trainer.total_timesteps, self.directory.run)
        try:
            try:
                if self.evaluates_first:
                    self._evaluate_first()
                self.trainer.train(self._after_epoch)
            except RolloutStopped:
                logger.info("stopping: what was not finished is dropped")
                self.stop.requested = self.stop.requested or signal.SIGTERM  # another process was asked to
            except OpponentError:
                self._save()
                raise
            self._save()
        finally:
            self.progress.close()
            self.tracker.close()
        if self.trainer.state.epoch:
            plot_run(self.directory.path, self.directory.curve)
        if self.stop.requested is not None:
            again = f"metta train run={self.directory.run}"
            if self.config.trainer.dual_policy.enabled:
                again += " and the settings of its opponents"
            raise Interrupted(self.stop.requested, f"go on with: {again}")
        return self._result()

    def _evaluate_first(self) -> None:
        self.scores = self.evaluator.evaluate(self.trainer)
        self.tracker.log(self.scores, agent_steps=0, epoch=0)
        self.progress.update(self.scores | {"agent_steps": 0, "epoch": 0})

    def _after_epoch(self, trainer: Trainer, metrics: Metrics) -> None:
        state, config = trainer.state, self.config.trainer
        is_last = state.agent_steps >= config.total_timesteps
        evaluates = is_due(state.epoch, config.simulation.evaluate_interval, is_last)
        metrics = metrics | self.seconds_between
        self.seconds_between = {}
        self.scores = {}
        try:
            if evaluates:
                with self._timed("evaluation", metrics):
                    self.scores = self.evaluator.evaluate(trainer)
        finally:
            metrics |= self.scores
            self.tracker.log(metrics, agent_steps=state.agent_steps, epoch=state.epoch)
            self.progress.update(metrics | {"agent_steps": state.agent_steps, "epoch": state.epoch})
        if evaluates or is_due(state.epoch, config.checkpoint.checkpoint_interval, is_last):
            with self._timed("checkpoint", self.seconds_between):
                self._save()
        if self.records and is_due(state.epoch, config.simulation.replay_interval, is_last):
            with self._timed("replay", self.seconds_between):
                self._record()

    @contextmanager
    def _timed(self, task: str, metrics: Metrics) -> Iterator[None]:
        """Add the seconds that a task between two epochs takes, as `time/TASK_seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            metrics[f"time/{task}_seconds"] = time.perf_counter() - started

    def _record(self) -> None:
        """Write a replay; a run goes on without."""
        try:
            self.evaluator.record(self.trainer)
        except MettaError as error:
            self.records = False
            logger.warning("no more replays are written: %s", error)

    def _save(self) -> None:
        state = self.trainer.state
        if state.epoch == self.saved_epoch:
            return
        manifest = CheckpointManifest(
            run=self.directory.run,
            epoch=state.epoch,
            agent_steps=state.agent_steps,
            architecture=Architecture.installed(self.config.policy.name, self.config.policy.args),
            passport=self.trainer.environment.interface,
            environment=self.config.env,
            config=self.config.model_dump(mode="json"),
            scores=self._scores(),
            versions=versions(),
        )
        self.checkpoint = save_checkpoint(
            self.directory.checkpoints, manifest, self.trainer.policy.state_dict(), self.trainer.state_dict()
        )
        self.saved_epoch = state.epoch
        self.tracker.save_checkpoint(
            self.checkpoint,
            epoch=state.epoch,
            metadata=checkpoint_metadata(manifest),
            is_last=state.agent_steps >= self.config.trainer.total_timesteps,
        )
        keep = self.config.trainer.checkpoint.keep
        if keep:
            best = best_checkpoints(self.directory.checkpoints, self.config.trainer.checkpoint.keep_best)
            prune_checkpoints(self.directory.checkpoints, keep=keep, protect=[self.checkpoint, *best])

    def _scores(self) -> Metrics:
        """Return what is known of these weights: the return in training, and their evaluation if any."""
        return_mean = self._return_mean()
        training = {} if return_mean is None else {"episode/recent_return_mean": return_mean}
        return training | self.scores

    def _return_mean(self) -> float | None:
        recent = self.trainer.recent_returns
        return float(np.mean(recent)) if recent else None

    def _result(self) -> TrainResult:
        state = self.trainer.state
        return TrainResult(
            run=self.directory.run,
            run_dir=self.directory.path,
            checkpoint=self.checkpoint,
            agent_steps=state.agent_steps,
            epoch=state.epoch,
            seconds=state.seconds,
            return_mean=self._return_mean(),
            environment=self.config.env.name,
            environment_args=self.config.env.args,
            cost=cost_of(self.trainer),
        )


def best_checkpoints(checkpoints_dir: Path, count: int) -> list[Path]:
    """Return the checkpoints that were evaluated best, the newer first where scores are equal.

    Args:
        checkpoints_dir: of a run.
        count: how many at most.
    """
    scores = []
    for info in list_checkpoints(checkpoints_dir):
        score = read_manifest(info.path).scores.get(SCORE)
        if score is not None:
            scores.append((score, info.epoch, info.path))
    return [path for *_, path in sorted(scores, reverse=True)[:count]]


def is_due(epoch: int, interval: int, is_last: bool) -> bool:
    """Return whether something that happens every `interval` epochs, and at the end, happens now.

    Args:
        epoch: epochs finished.
        interval: 0 is never.
        is_last: whether training ends with this epoch.
    """
    return interval > 0 and (is_last or epoch % interval == 0)
