"""The parts of a training run for programs that write their own: the same parts as those of `metta train`."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from metta_cli.artifacts.atomic import write_file
from metta_cli.config.catalogue import find_curriculum, find_environment
from metta_cli.config.curriculum import Task
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.section import plain
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.config.tasks import create_tasks
from metta_cli.config.trainer import TrainerConfig
from metta_cli.environments.tasks import extremes
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import ConfigError, suggestion
from metta_cli.policies.registry import create_policy
from metta_cli.runs.curriculum import create_curriculum
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.machine import choose_device, choose_num_workers
from metta_cli.runs.provenance import git_state, versions
from metta_cli.training.curricula import Curriculum, CurriculumSource
from metta_cli.training.distributed import World, join_world, leave_world, rank_device

DEFAULT_AGENT = {"hidden_size": 512, "num_layers": 1}
"""What `Agent` makes of `fast` where nothing else is said; it goes with `Experience(hidden_size=512)`."""
CELLS_PER_ALTAR, CELLS_PER_WALL = 100, 50
TERRAINS = ("terrain_small", "terrain_medium", "terrain_large")


class Environment(VectorEnvironment):
    """Environments of MettaGrid that are reset and ready for their first step.

    Without `env_config` and `curriculum_path` it is a rectangle with altars and single walls.

    Args:
        num_agents: agents in one environment; None leaves it to the configuration (4 in the rectangle).
        width: of the rectangle, in cells (default 32).
        height: of the rectangle, in cells (default 32).
        env_config: another environment: its name, an `EnvironmentSpec`, or a mapping with its fields.
        curriculum_path: name of a curriculum, such as `/env/mettagrid/curriculum/navigation/bucketed`; that
            of an environment is a curriculum of it alone.
        num_envs: how many side by side.
        num_workers: processes that step them; 0 steps them here, None suits the machine.
        device: where the policy will compute. It must exist; the arrays of an environment are in the memory
            of the CPU, and every step moves them.
        seed: of maps, simulations and the choices of the curriculum.
        is_training: whether first episodes are cut short, so that episodes do not all end at once.

    Attributes:
        curriculum: chooses the tasks; None without one. Hand it to a `Trainer` as a callback to keep it in
            checkpoints.

    Raises:
        MettaError: if there is no such environment, curriculum or device, or the numbers make no sense.
    """

    curriculum: Curriculum | None

    def __init__(
        self,
        num_agents: int | None = None,
        width: int | None = None,
        height: int | None = None,
        *,
        env_config: str | EnvironmentSpec | Mapping[str, Any] | None = None,
        curriculum_path: str | None = None,
        num_envs: int = 1,
        num_workers: int | None = 0,
        device: str | torch.device = "cpu",
        seed: int = 0,
        is_training: bool = True,
    ) -> None:
        choose_device(str(device))
        world = World.current()
        chosen = [
            name
            for name, value in (("env_config", env_config), ("curriculum_path", curriculum_path))
            if value
        ]
        if len(chosen) > 1 or (chosen and not (width is None and height is None)):
            named = [*chosen, *(name for name, value in (("width", width), ("height", height)) if value)]
            raise ConfigError(f"an environment has either {' or '.join(named)}", "leave the others out")
        self.curriculum = None
        tasks: list[Task] | None = None
        source: CurriculumSource | None = None
        overrides = {} if num_agents is None else {"num_agents": num_agents}
        if curriculum_path is not None:
            config = find_curriculum(curriculum_path)
            tasks = create_tasks(config, grid(4, 32, 32), overrides)
            self.curriculum = create_curriculum(config, [task.name for task in tasks])
            source = CurriculumSource(self.curriculum, seed + world.rank)
            spec = next(extremes(tasks[0]))
        elif env_config is not None:
            spec = _spec(env_config)
            spec = spec.model_copy(update={"args": {**spec.args, **overrides}})
        else:
            spec = grid(num_agents or 4, width or 32, height or 32)
        super().__init__(
            spec,
            num_environments=num_envs,
            num_workers=choose_num_workers(num_workers, num_envs),
            seed=seed,
            stagger_episodes=is_training,
            tasks=tasks,
            task_source=source,
            shard=(world.rank, world.size),
        )
        self.reset()


def grid(num_agents: int, width: int, height: int) -> EnvironmentSpec:
    """Return a rectangle with one altar in a hundred cells and one wall in fifty, at random places."""
    cells = width * height
    return EnvironmentSpec(
        name=f"grid_{width}x{height}",
        builder="grid",
        args={
            "num_agents": num_agents,
            "width": width,
            "height": height,
            "altars": max(1, cells // CELLS_PER_ALTAR),
            "walls": cells // CELLS_PER_WALL,
        },
        map_pool_size=0,
    )


def _spec(env_config: str | EnvironmentSpec | Mapping[str, Any]) -> EnvironmentSpec:
    if isinstance(env_config, EnvironmentSpec):
        return env_config
    if isinstance(env_config, str):
        return find_environment(env_config)
    if isinstance(env_config, Mapping):
        return EnvironmentSpec.model_validate(plain(env_config))
    raise ConfigError(
        f"env_config is a {type(env_config).__name__}",
        "give the name of an environment, or a builder and its arguments: docs/library.md",
    )


def Agent(  # noqa: N802  # the name that programs know it by
    env: VectorEnvironment, config: Mapping[str, Any] | None = None, device: str | torch.device | None = None
) -> nn.Module:
    """Return a new policy for an environment.

    By default it is `fast` with an LSTM of one layer and 512 units.

    Args:
        env: where it shall act.
        config: any mapping with `policy` (name of the architecture, default `fast`), `agent` (its
            arguments, such as `clip_range`, `hidden_size`) and `device`.
        device: where it lies; goes before that of `config`. Default `cpu`.

    Raises:
        UnknownNameError: if there is no such architecture.
        ConfigError: if it takes no such argument, or there is no such device.
    """
    settings = plain(config or {})
    unknown = sorted(set(settings) - {"policy", "agent", "device"})
    if unknown:
        raise ConfigError(
            f"the configuration of an agent has no '{unknown[0]}'",
            suggestion(unknown[0], ["policy", "agent", "device"]),
        )
    args = settings.get("agent") or {}
    if "components" in args:
        raise ConfigError(
            "agents are not put together from components",
            "name an architecture with 'policy', or write one: docs/plugins.md",
        )
    name = settings.get("policy", "fast")
    if "policy" not in settings:
        args = DEFAULT_AGENT | args
    policy = create_policy(name, env.interface, args)
    policy.environment_spec = env.spec  # type: ignore[assignment]  # for the manifest of its checkpoints
    return policy.to(choose_device(str(device or settings.get("device", "cpu"))))


@dataclass(frozen=True)
class RunDirectories:
    """Where a run keeps what it makes.

    Attributes:
        run_dir: all of it.
        checkpoint_dir: checkpoints.
        replay_dir: replays.
        stats_dir: results of evaluations.
        run_name: name of the run.
    """

    run_dir: Path
    checkpoint_dir: Path
    replay_dir: Path
    stats_dir: Path
    run_name: str


def setup_run_directories(run_name: str | None = None, data_dir: str | Path | None = None) -> RunDirectories:
    """Make the directories of a run, as `metta train` does.

    Args:
        run_name: None takes `METTA_RUN` of the environment, or the time.
        data_dir: where runs are; None takes `METTA_DATA_DIR` or `DATA_DIR` of the environment, or
            `./train_dir`.

    Raises:
        UsageError: if a run cannot be called that.
        StorageError: if they cannot be made or written.
    """
    run_name = run_name or os.environ.get("METTA_RUN") or time.strftime("run_%Y%m%d_%H%M%S")
    if data_dir is None:
        data_dir = os.environ.get("METTA_DATA_DIR") or os.environ.get("DATA_DIR") or "./train_dir"
    directory = RunDirectory(data_dir, run_name)
    directory.create()
    return RunDirectories(directory.path, directory.checkpoints, directory.replays, directory.evals, run_name)


def setup_device_and_distributed(device: str = "auto") -> tuple[torch.device, bool, int, int]:
    """Choose a device, and find the other processes that `torchrun` started, if it started this one.

    Environments, optimizers and steps that are made afterwards are those of one of several processes that
    train one policy: episodes are divided among them, gradients and statistics are taken over all. Give all
    the same seeds. End with `cleanup_distributed`.

    Args:
        device: `auto` takes CUDA where there is any, and of several the one of this process.

    Returns:
        The device, whether this process writes the files, how many processes there are, and its rank.

    Raises:
        ConfigError: if there is no such device, or the variables of torchrun make no sense.
        MettaError: if the other processes cannot be reached.
    """
    chosen = rank_device(choose_device(device))
    world = join_world(chosen)
    return chosen, world.is_first, world.size, world.rank


def cleanup_distributed() -> None:
    """Say goodbye to the other processes, if there are any."""
    leave_world()


def save_experiment_config(
    dirs: RunDirectories, device: torch.device | str, trainer_config: TrainerConfig
) -> Path:
    """Write `config.yaml`, `versions.json` and the command beside a run; return the path of the first.

    `metta train --config PATH` takes the file.

    Args:
        dirs: of `setup_run_directories`.
        device: where the policy computes.
        trainer_config: everything about the training.

    Raises:
        StorageError: if they cannot be written.
    """
    directory = RunDirectory(dirs.run_dir.parent, dirs.run_name)
    content = {
        "run": dirs.run_name,
        "data_dir": str(dirs.run_dir.parent),
        "device": str(device),
        "trainer": trainer_config.model_dump(mode="json"),
    }
    write_file(directory.config, yaml.safe_dump(content, sort_keys=False).encode())
    provenance = {"versions": versions(), "git": git_state()}
    write_file(directory.versions, json.dumps(provenance, indent=1).encode())
    with directory.command.open("a") as file:
        file.write(shlex.join(sys.argv) + "\n")
    return directory.config


def create_evaluation_config_suite() -> SimulationSuiteConfig:
    """Return the evaluation on three sizes of terrain: five episodes each, of 30 seconds at most."""
    return SimulationSuiteConfig(
        name="evaluation",
        simulations={
            f"navigation/{terrain}": SingleEnvSimulationConfig(
                env=f"navigation/{terrain}", num_episodes=5, max_time_s=30
            )
            for terrain in TERRAINS
        },
    )


def create_replay_config(terrain: str = "terrain_medium") -> SingleEnvSimulationConfig:
    """Return one episode in a terrain, for a replay.

    Args:
        terrain: of `navigation/`.
    """
    return SingleEnvSimulationConfig(env=f"navigation/{terrain}", num_episodes=1, max_time_s=60)
