"""Evaluations and recordings in the middle of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metta_cli.config.schema import MettaConfig
from metta_cli.config.simulation import SingleEnvSimulationConfig
from metta_cli.evaluation.episodes import Recording
from metta_cli.evaluation.files import save_results
from metta_cli.evaluation.replay import write_replays
from metta_cli.evaluation.results import SuiteResult
from metta_cli.evaluation.suite import BaselineEpisodes, evaluate_policy
from metta_cli.runs.curriculum import evaluated_suite
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.evaluate import choose_workers
from metta_cli.runs.signals import StopSignals
from metta_cli.training.rollout import RolloutStopped
from metta_cli.training.trainer import Metrics, Trainer


class Evaluator:
    """Plays with the policy of a run on `evals`, or on its training environment, and on some of its tasks.

    Args:
        config: of the run.
        directory: results go to its `evals/vEPOCH`, recordings to its `replays/vEPOCH`.
        stop: an evaluation ends between two episodes once a signal has come.
    """

    def __init__(self, config: MettaConfig, directory: RunDirectory, stop: StopSignals) -> None:
        self.config, self.directory, self.stop = config, directory, stop
        self.suite = evaluated_suite(config)
        self.num_workers = choose_workers(self.suite, config.trainer.num_workers)
        self.baselines = BaselineEpisodes()

    def evaluate(self, trainer: Trainer) -> Metrics:
        """Return the scores of the policy, beside the baselines, under their logged names.

        Raises:
            RolloutStopped: if a signal came meanwhile.
        """
        result = self._play(trainer, self.suite.simulations, self.baselines)
        save_results(result, self.directory.evals / f"v{trainer.state.epoch}")
        return result.scores()

    def record(self, trainer: Trainer) -> None:
        """Write a replay of one episode of the first simulation.

        Raises:
            RolloutStopped: if a signal came meanwhile.
            StorageError: if it cannot be written.
        """
        name, simulation = next(iter(self.suite.simulations.items()))
        recordings = {name: Recording()}
        result = self._play(
            trainer, {name: simulation.model_copy(update={"num_episodes": 1})}, None, recordings
        )
        chosen = self.config.trainer.simulation.replay_dir
        directory = Path(chosen) if chosen else self.directory.replays
        write_replays(result, recordings, directory / f"v{trainer.state.epoch}")

    def _play(
        self,
        trainer: Trainer,
        simulations: Mapping[str, SingleEnvSimulationConfig],
        baselines: BaselineEpisodes | None,
        recordings: Mapping[str, Recording] | None = None,
    ) -> SuiteResult:
        return evaluate_policy(
            trainer.policy,
            trainer.environment.interface,
            self.suite.model_copy(update={"simulations": simulations}),
            seed=self.config.seed,
            device=trainer.device,
            name=f"{self.directory.run}:v{trainer.state.epoch}",
            num_workers=self.num_workers,
            baselines=baselines,
            recordings=recordings,
            progress=self._watch,
        )

    def _watch(self, simulation: str, player: str, num_finished: int, num_episodes: int) -> None:
        if self.stop.requested is not None:
            raise RolloutStopped
