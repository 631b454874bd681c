"""`metta eval`: find the policy and the suite, check that they fit, play, and keep the result."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from metta_cli.config.catalogue import find_environment, find_suite
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.environments.builders import build
from metta_cli.errors import CheckpointError, StorageError, UsageError
from metta_cli.evaluation.episodes import Recording, environment_of, num_slots
from metta_cli.evaluation.files import prepare_directory, results_directory, save_results
from metta_cli.evaluation.replay import replay_data, write_replays
from metta_cli.evaluation.results import SuiteResult
from metta_cli.evaluation.suite import (
    BaselineEpisodes,
    SuiteProgress,
    play_suite,
)
from metta_cli.populations.players import Player, PlayerSource, PolicyPlayer, builtin_source, is_builtin
from metta_cli.runs.machine import choose_device, choose_num_workers, configure_threads
from metta_cli.runs.policies import NO_TRUST, LoadedPolicy, Trust, failed_to_load, load_policy, suite_fits
from metta_cli.runs.provenance import git_state, versions

WORTHWHILE_AGENT_STEPS = 400_000
"""A simulation with fewer is stepped in this process: a worker takes seconds to start."""

ShowReplay = Callable[[Mapping[str, Any]], None]

logger = logging.getLogger(__name__)


def evaluate(
    resolved: ResolvedConfig,
    *,
    uri: str,
    suite: str | None = None,
    environment: str | None = None,
    episodes: int | None = None,
    seed: int | None = None,
    num_workers: int | None = None,
    device: str | None = None,
    output_dir: Path | str | None = None,
    run_name: str | None = None,
    baselines: bool = True,
    save_replays: bool = False,
    trust: Trust = NO_TRUST,
    progress: SuiteProgress | None = None,
    show: ShowReplay | None = None,
) -> SuiteResult:
    """Evaluate a policy on a suite, or on one environment.

    Args:
        resolved: the configuration; what is None below comes from it.
        uri: a checkpoint, or `random`, `noop`, `scripted`.
        suite: name of a suite; without it and `environment` the configuration says what is played.
        environment: name of an environment.
        episodes: episodes of every simulation.
        seed: the same seed gives the same scores.
        num_workers: processes that step environments; None suits machine and work. Changes no score.
        device: where the policy computes.
        output_dir: `eval_STEM_SUITE/` is written there; None writes nothing.
        run_name: what to call that directory instead.
        baselines: whether random and scripted play the same episodes.
        save_replays: whether the first episode of every simulation is recorded, as `sim.render` does.
        trust: what the user vouches for in the file of another tool.
        progress: told about every finished episode.
        show: given the data of a replay when a simulation has been played, if `sim.render` says so.

    Raises:
        MettaError: for everything that a user can mend; before anything is played, where possible.
    """
    config = resolved.config
    seed = config.seed if seed is None else seed
    chosen = choose_suite(resolved, suite, environment, episodes)
    directory = results_directory(Path(output_dir), uri, chosen.name, run_name) if output_dir else None
    recordings = _recordings(chosen, directory, save_replays or config.sim.render)
    if show is not None and config.sim.render:
        progress = showing(progress, show, chosen, recordings, uri, seed)
    contestant = _Contestant(uri, config, device or config.device, trust)
    contestant.check(chosen)
    if directory is not None:
        prepare_directory(directory)
    result = contestant.play(
        chosen,
        seed=seed,
        num_workers=choose_workers(chosen, num_workers),
        baselines=BaselineEpisodes() if baselines else None,
        recordings=recordings,
        progress=progress,
    )
    return _save(result, directory, recordings)


def showing(
    progress: SuiteProgress | None,
    show: ShowReplay,
    suite: SimulationSuiteConfig,
    recordings: Mapping[str, Recording],
    policy: str,
    seed: int,
) -> SuiteProgress:
    """Return a progress that also shows the recorded episode when all of a simulation have been played."""

    def on_episode(simulation: str, player: str, num_finished: int, num_episodes: int) -> None:
        if progress is not None:
            progress(simulation, player, num_finished, num_episodes)
        recording = recordings.get(simulation)
        is_played = player == policy and num_finished == num_episodes
        if is_played and recording is not None and recording.result is not None:
            spec = environment_of(suite.simulations[simulation])
            show(replay_data(spec, recording, seed) | {"simulation": simulation, "policy": policy})

    return on_episode


def provenance(policy: Mapping[str, Any], started: datetime) -> dict[str, Any]:
    """Return what it takes to repeat an evaluation that has just ended."""
    return {
        "command": shlex.join(sys.argv),
        "started_at": started.isoformat(timespec="seconds"),
        "elapsed_seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        "policy": dict(policy),
        "versions": versions(),
        "git": git_state(),
    }


def _recordings(
    suite: SimulationSuiteConfig, directory: Path | None, is_asked_for: bool
) -> dict[str, Recording]:
    if not is_asked_for:
        return {}
    if directory is None:
        raise UsageError("replays need a place to be written to", "give an output directory")
    return {name: Recording() for name in suite.simulations}


def _save(result: SuiteResult, directory: Path | None, recordings: Mapping[str, Recording]) -> SuiteResult:
    if directory is None:
        return result
    try:
        result = save_results(result, directory)
        if not recordings:
            return result
        replays = write_replays(result, recordings, directory / "replays")
        return save_results(result.with_replays(replays), directory)
    except StorageError:
        logger.error("not saved:\n%s", result.to_text())  # what was played shall not be lost
        raise


def choose_suite(
    resolved: ResolvedConfig, suite: str | None, environment: str | None, episodes: int | None
) -> SimulationSuiteConfig:
    """Return what is evaluated, with the settings of the configuration where it names the same thing.

    Without `suite` and `environment` it is `env` if the user chose one and no suite, else `sim.suite`, else
    `env` after all.

    Raises:
        UnknownNameError: if there is no such suite or environment.
    """
    config, configured = resolved.config, resolved.config.sim.suite
    if suite is not None:
        chosen = find_suite(suite)
        if configured is not None and configured.name == chosen.name:
            chosen = configured
    elif environment is not None:
        spec = find_environment(environment)
        chosen = suite_of(config.env if config.env.name == spec.name else spec)
    elif configured is None or (resolved.is_chosen("env") and not resolved.is_chosen("sim.suite")):
        chosen = suite_of(config.env)
    else:
        chosen = configured
    if episodes is None:
        return chosen
    simulations = {
        name: simulation.model_copy(update={"num_episodes": episodes})
        for name, simulation in chosen.simulations.items()
    }
    return chosen.model_copy(update={"num_episodes": episodes, "simulations": simulations})


def suite_of(spec: EnvironmentSpec) -> SimulationSuiteConfig:
    """Return a suite with one simulation, both named after the environment."""
    simulation = SingleEnvSimulationConfig(env=spec.name, env_overrides=spec.args)
    return SimulationSuiteConfig(name=spec.name, simulations={spec.name: simulation})


def choose_workers(suite: SimulationSuiteConfig, requested: int | None) -> dict[str, int]:
    """Return simulation -> number of worker processes.

    Args:
        suite: what is played.
        requested: the user's number, or None for one that suits the machine and the work.
    """
    return {name: _workers(simulation, requested) for name, simulation in suite.simulations.items()}


def _workers(simulation: SingleEnvSimulationConfig, requested: int | None) -> int:
    game = build(environment_of(simulation)).game
    agent_steps = simulation.num_episodes * game.max_steps * game.num_agents
    if requested is None and agent_steps < WORTHWHILE_AGENT_STEPS:
        return 0
    return choose_num_workers(requested, num_slots(simulation.num_episodes))


class _Contestant:
    """Who is evaluated: a built-in player, or a policy."""

    def __init__(self, uri: str, config: MettaConfig, device: str, trust: Trust) -> None:
        self.uri = uri
        self.description: dict[str, Any] = {"uri": uri}
        self._policy: LoadedPolicy | None = None
        if is_builtin(uri):
            self._source = builtin_source(uri)
            return
        self._device = choose_device(device)
        configure_threads()
        self._policy = load_policy(
            uri,
            self._device,
            data_dir=Path(config.data_dir),
            architecture=config.pytorch,
            trust=trust,
        )
        self._source = policy_source(self._policy, self._device, uri)
        self.description |= self._policy.description | {"device": str(self._device)}

    def check(self, suite: SimulationSuiteConfig) -> None:
        """Warn about names that do not match.

        Raises:
            CheckpointError: if the policy cannot play one of the simulations.
            PluginError: if the plugin that it needs is broken.
        """
        if self._policy is None:
            return
        with failed_to_load():
            fits = suite_fits(self._policy, suite)
        for simulation, fit in fits.items():
            if fit.obstacle is not None:
                raise CheckpointError(
                    f"Failed to load policy: {self.uri} cannot play {simulation}: {fit.obstacle.message}",
                    fit.obstacle.cure,
                )
            if fit.differences:
                lines = "; ".join(fit.differences)
                logger.warning("%s is matched by name to %s: %s", self.uri, simulation, lines)

    def play(self, suite: SimulationSuiteConfig, **options: Any) -> SuiteResult:
        """Play the suite; see `play_suite` for the options."""
        started = datetime.now(UTC)
        result = play_suite(suite, self._source, **options)
        return result.with_provenance(provenance(self.description, started))


def policy_source(policy: LoadedPolicy, device: torch.device, name: str) -> PlayerSource:
    """Return a source whose players share a policy, each fitted to its environment."""

    def create(interface: EnvironmentInterface, num_agents: int) -> Player:
        return PolicyPlayer(policy.fit(interface)[0].eval(), num_agents, device, name)

    return PlayerSource(name, create)
