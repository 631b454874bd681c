"""What a training loop of one's own does now and then: save, go on, evaluate, record a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metta_cli.artifacts.checkpoints import latest_valid_checkpoint
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.errors import CheckpointError, ConfigError
from metta_cli.evaluation import suite as suites
from metta_cli.evaluation.episodes import Recording
from metta_cli.evaluation.files import save_results
from metta_cli.evaluation.replay import write_replays
from metta_cli.evaluation.results import SuiteResult
from metta_cli.policies.registry import recipe_of
from metta_cli.runs.agents import LoadedAgent
from metta_cli.runs.policies import load_weights
from metta_cli.runs.policy_store import PolicyStore, bare
from metta_cli.runs.records import PolicyRecord
from metta_cli.runs.session import is_due
from metta_cli.training.optimizers import Optimizer
from metta_cli.training.trainer import TrainerState


def save_checkpoint(
    epoch: int,
    agent_step: int,
    agent: nn.Module,
    optimizer: Optimizer,
    policy_store: PolicyStore,
    *,
    checkpoint_interval: int = 1,
    stats: Mapping[str, Any] | None = None,
    force_save: bool = False,
) -> PolicyRecord | None:
    """Save a policy and what it takes to go on, if it is time; `metta train` can go on from it too.

    Args:
        epoch: epochs finished.
        agent_step: agent steps taken.
        agent: the policy, made by `Agent`.
        optimizer: of its parameters.
        policy_store: knows where to save.
        checkpoint_interval: epochs between checkpoints; 0 is never.
        stats: further metadata, such as `score` or `train_time` (seconds).
        force_save: save although it is not time, as at the end of a run.

    Returns:
        What was saved; None if it was not time.

    Raises:
        MettaError: see `PolicyStore.save`.
    """
    if not force_save and not is_due(epoch, checkpoint_interval, False):
        return None
    metadata = {**(stats or {}), "epoch": epoch, "agent_step": agent_step}
    record = policy_store.create_empty_policy_record(policy_store.make_model_name(epoch))
    record.metadata, record.policy = metadata, agent
    counters = TrainerState(agent_step, epoch, float(metadata.get("train_time", 0.0)))
    state = {
        "counters": asdict(counters),
        "recent_returns": [],
        "optimizer": optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    return policy_store.save(record, state)


def load_checkpoint(
    checkpoint_dir: Path | str, agent: nn.Module, optimizer: Optimizer | None = None
) -> tuple[int, int, Path | None]:
    """Go on from the newest valid checkpoint of a directory, if there is one.

    Args:
        checkpoint_dir: where checkpoints are; may be missing.
        agent: gets the weights; of the same architecture.
        optimizer: gets its state; None leaves it aside.

    Returns:
        Agent steps, epochs, and the checkpoint: `(0, 0, None)` if there is none.

    Raises:
        CheckpointError: if all are damaged, or the newest is of another architecture or optimizer.
    """
    directory = Path(checkpoint_dir)
    checkpoint, _ = latest_valid_checkpoint(directory)
    if checkpoint is None:
        return 0, 0, None
    manifest = checkpoint.manifest
    load_weights(bare(agent), checkpoint.weights, manifest.name)
    if optimizer is not None:
        if checkpoint.trainer_state is None:
            raise CheckpointError(
                f"{manifest.name} holds a policy only, and no state of an optimizer", "leave out optimizer="
            )
        optimizer.load_state_dict(checkpoint.trainer_state["optimizer"])
    return manifest.agent_steps, manifest.epoch, directory / manifest.name


def evaluate_policy(
    policy: PolicyRecord | nn.Module,
    simulation_suite: SimulationSuiteConfig,
    device: torch.device | str = "cpu",
    *,
    seed: int = 1,
    num_workers: int = 0,
    stats_dir: Path | str | None = None,
    name: str | None = None,
) -> SuiteResult:
    """Play a suite with a policy, as `metta eval` does.

    Args:
        policy: a record, or an agent on `device`.
        simulation_suite: what is played; environments that it was not made for are matched by name.
        device: where the policy lies.
        seed: the same seed gives the same scores.
        num_workers: processes that step the environments; 0 steps them here.
        stats_dir: the result is written to `stats_dir/NAME`; None writes nothing.
        name: what the result calls the policy; None takes that of the record, or of the class.

    Raises:
        ConfigError: if it is not known what the policy was made for.
        CheckpointError: if it cannot act in one of the environments.
    """
    agent, passport, name = _contestant(policy, name)
    result = suites.evaluate_policy(
        agent, passport, simulation_suite, seed=seed, device=device, name=name, num_workers=num_workers
    )
    return result if stats_dir is None else save_results(result, Path(stats_dir) / name)


def record_replay(
    policy: PolicyRecord | nn.Module,
    simulation: SingleEnvSimulationConfig,
    replay_dir: Path | str,
    device: torch.device | str = "cpu",
    *,
    seed: int = 1,
    name: str | None = None,
) -> list[Path]:
    """Play one episode and write it as a page, a GIF and MettaGrid's own file; return the pages.

    Args:
        policy: a record, or an agent on `device`.
        simulation: where it plays.
        replay_dir: the files go to `replay_dir/NAME`.
        device: where the policy lies.
        seed: of the episode.
        name: see `evaluate_policy`.

    Raises:
        MettaError: see `evaluate_policy`; StorageError if the files cannot be written.
    """
    agent, passport, name = _contestant(policy, name)
    one = simulation.model_copy(update={"num_episodes": 1})
    suite = SimulationSuiteConfig(name="replay", simulations={simulation.env: one})
    recordings = {simulation.env: Recording()}
    result = suites.evaluate_policy(
        agent, passport, suite, seed=seed, device=device, name=name, recordings=recordings
    )
    return [Path(page) for page in write_replays(result, recordings, Path(replay_dir) / name).values()]


def _contestant(
    policy: PolicyRecord | nn.Module, name: str | None
) -> tuple[nn.Module, EnvironmentInterface, str]:
    """Return the module that plays, what it was made for, and its name."""
    agent: nn.Module
    if isinstance(policy, PolicyRecord):
        name, agent = name or policy.run_name, policy.policy
    else:
        name, agent = name or type(policy).__name__, policy
    agent = bare(agent)
    if isinstance(agent, LoadedAgent):
        passport = agent.loaded.passport
        agent = agent.acting if passport is None else agent.loaded.fit(passport)[0]
    else:
        recipe = recipe_of(agent)
        passport = recipe.interface if recipe else getattr(agent, "env", None)
    if not isinstance(passport, EnvironmentInterface):
        raise ConfigError(f"it is not known what environment {name} was made for", "make it with Agent(env)")
    return agent, passport, name
