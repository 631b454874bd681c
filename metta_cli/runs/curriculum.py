"""The environment that a run trains in: one, or the tasks of a curriculum; and what of it is evaluated."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.checkpoints import Checkpoint
from metta_cli.config.curriculum import CurriculumConfig, Task
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.config.tasks import create_tasks, task_weights
from metta_cli.environments.builders import build, return_max
from metta_cli.environments.interface import interface_of
from metta_cli.environments.tasks import TaskSet, extremes
from metta_cli.errors import ConfigError
from metta_cli.populations.environment import OpponentEnvironment
from metta_cli.runs.evaluate import suite_of
from metta_cli.training.callbacks import Callback
from metta_cli.training.curricula import Curriculum, CurriculumSource, WeightedCurriculum
from metta_cli.training.curricula_adaptive import (
    LearningProgressCurriculum,
    PrioritizeRegressedCurriculum,
    ProgressiveCurriculum,
)
from metta_cli.training.environment import TrainingEnvironment

if TYPE_CHECKING:
    from metta_cli.training.trainer import Metrics, Trainer

FILE_NAME = "curriculum.csv"


@dataclass(frozen=True)
class TrainingTasks:
    """What an environment and a trainer have to be given for a curriculum; nothing without one.

    Attributes:
        tasks: what episodes are drawn from.
        source: draws them.
        callbacks: keep the curriculum in checkpoints and in a file, by name.
    """

    tasks: list[Task] | None = None
    source: CurriculumSource | None = None
    callbacks: dict[str, Callback] = field(default_factory=dict)

    def follow(self, environment: TrainingEnvironment) -> None:
        """Let only the scores of learners count, if there are opponents in the environment."""
        if self.source is not None and isinstance(environment, OpponentEnvironment):
            self.source.learner_rows = environment.learner_rows


def with_curriculum(resolved: ResolvedConfig) -> ResolvedConfig:
    """Return the configuration with the environment of its curriculum, if it has one; all tasks are tried.

    The environment is then what is evaluated and described, while training draws from the tasks.

    Raises:
        UnknownNameError: if the curriculum names an environment that does not exist.
        ConfigError: if a task cannot be built, tasks do not fit together, or a score has no maximum.
    """
    config = resolved.config
    curriculum = config.trainer.curriculum
    if curriculum is None:
        return resolved
    for task in TaskSet(training_tasks(config) or []).tasks:
        _check_score(task, curriculum)
    if resolved.is_chosen("env") or not (curriculum.env or curriculum.tasks):
        return resolved
    environment = typical(create_tasks(curriculum, config.env)[0])
    return replace(resolved, config=config.model_copy(update={"env": environment}))


def training_tasks(config: MettaConfig) -> list[Task] | None:
    """Return the tasks of the curriculum, with `trainer.env_overrides`; None without a curriculum."""
    curriculum = config.trainer.curriculum
    if curriculum is None:
        return None
    return create_tasks(curriculum, config.env, config.trainer.env_overrides)


def training_spec(config: MettaConfig) -> EnvironmentSpec:
    """Return the environment that is trained in; with a curriculum, one episode of its first task."""
    tasks = training_tasks(config)
    if tasks is not None:
        return next(extremes(tasks[0]))
    arguments = {**config.env.args, **config.trainer.env_overrides}
    return config.env.model_copy(update={"args": arguments})


def training_interface(config: MettaConfig) -> EnvironmentInterface:
    """Return what a policy sees in training, in every task."""
    tasks = training_tasks(config)
    return interface_of(build(training_spec(config))) if tasks is None else TaskSet(tasks).interface


def create_training_tasks(
    config: MettaConfig, directory: Path, seed: int, checkpoint: Checkpoint | None
) -> TrainingTasks:
    """Return the curriculum of a session.

    Args:
        config: its `trainer.curriculum`.
        directory: of the run; `curriculum.csv` is written there.
        seed: of the choices of this session.
        checkpoint: where the run goes on; its first tasks are chosen by what was known then.
    """
    tasks = training_tasks(config)
    if tasks is None or config.trainer.curriculum is None:
        return TrainingTasks()
    curriculum = create_curriculum(config.trainer.curriculum, [task.name for task in tasks])
    state = checkpoint.trainer_state if checkpoint is not None else None
    known = (state or {}).get("callbacks", {}).get("curriculum")
    if known is not None:
        curriculum.load_state_dict(known)
    interval = config.trainer.checkpoint.checkpoint_interval
    callbacks = {
        "curriculum": curriculum,
        "curriculum_file": CurriculumFile(curriculum, directory / FILE_NAME, interval),
    }
    return TrainingTasks(tasks, CurriculumSource(curriculum, seed), callbacks)


def create_curriculum(config: CurriculumConfig, names: list[str]) -> Curriculum:
    """Return the rule by which tasks are drawn.

    Args:
        config: which rule, and its numbers.
        names: of the tasks, in the order of `create_tasks`.
    """
    match config.algorithm:
        case "learning_progress":
            return LearningProgressCurriculum(names, config.learning_progress)
        case "prioritize_regressed":
            return PrioritizeRegressedCurriculum(names, config.prioritize_regressed)
        case "progressive":
            return ProgressiveCurriculum(names, config.progressive)
        case "random":
            return WeightedCurriculum(names, task_weights(config))


def evaluated_suite(config: MettaConfig) -> SimulationSuiteConfig:
    """Return what is evaluated during training: `evals`, and some tasks of the curriculum.

    The tasks are spread over the list of all of them, the same ones in every evaluation; what is drawn for
    every episode in training is half way up its range there. Without `evals` and such tasks it is the
    training environment.
    """
    simulations = {f"training_task/{task.name}": _simulation(task) for task in _evaluated_tasks(config)}
    if config.evals is not None:
        return config.evals.model_copy(update={"simulations": {**config.evals.simulations, **simulations}})
    if simulations:
        return SimulationSuiteConfig(name="training_tasks", simulations=simulations)
    return suite_of(config.env)


def typical(task: Task) -> EnvironmentSpec:
    """Return the environment of a task with everything half way up its range."""
    return task.with_arguments(**task.draw(lambda _: 0.5))


def _evaluated_tasks(config: MettaConfig) -> list[Task]:
    if config.trainer.curriculum is None:
        return []
    tasks = create_tasks(config.trainer.curriculum, config.env)
    count = min(config.trainer.simulation.num_training_tasks, len(tasks))
    return [tasks[(2 * place + 1) * len(tasks) // (2 * count)] for place in range(count)]


def _simulation(task: Task) -> SingleEnvSimulationConfig:
    spec = typical(task)
    return SingleEnvSimulationConfig(env=spec.name, env_overrides=spec.args)


def _check_score(task: Task, curriculum: CurriculumConfig) -> None:
    """Refuse a rule that compares scores with 1 where nobody knows what 1 is."""
    by_time = curriculum.algorithm == "progressive" and curriculum.progressive.progression == "time"
    if curriculum.algorithm in ("random", "prioritize_regressed") or by_time or task.score_max is not None:
        return
    if return_max(next(extremes(task))) is None:
        raise ConfigError(
            f"task '{task.name}' has no greatest return, and algorithm: {curriculum.algorithm} needs scores "
            "from 0 to 1",
            "set trainer.curriculum.score_max to the return per agent that counts as 1",
        )


class CurriculumFile(Callback):
    """Writes what a curriculum knows of every task to a file for people, at the interval of checkpoints.

    Args:
        curriculum: what is written about.
        path: of the file.
        interval: in epochs; it is written after the last one as well.
    """

    def __init__(self, curriculum: Curriculum, path: Path, interval: int) -> None:
        self.curriculum, self.path, self.interval = curriculum, path, interval

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """Write the file when it is due; of several processes the first one does."""
        state = trainer.state
        is_last = state.agent_steps >= trainer.config.total_timesteps
        is_due = is_last or (self.interval and state.epoch % self.interval == 0)
        if is_due and trainer.world.is_first:
            write_file(self.path, table(self.curriculum))
        return {}


def table(curriculum: Curriculum) -> str:
    """Return one line of comma-separated values per task, under a line of names."""
    rows = curriculum.report()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
