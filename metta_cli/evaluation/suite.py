"""Evaluate a player on a suite of simulations, beside the random and the scripted player."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import CheckpointError
from metta_cli.evaluation.episodes import Recording, environment_of, play_simulation
from metta_cli.evaluation.outcomes import EpisodeResult, SimulationResult
from metta_cli.evaluation.results import SuiteResult
from metta_cli.policies.remapping import RemappedPolicy, interface_differences
from metta_cli.populations.players import BUILTIN_PLAYERS, Player, PlayerSource, PolicyPlayer

BASELINES = ("random", "scripted")


class SuiteProgress(Protocol):
    """Is told about every finished episode."""

    def __call__(self, simulation: str, player: str, num_finished: int, num_episodes: int) -> None:
        """Say that `player` has finished so many of its episodes of `simulation`."""
        ...


class BaselineEpisodes:
    """The episodes of the random and the scripted player, kept in memory after the first time."""

    def __init__(self) -> None:
        self._episodes: dict[tuple[str, str, int], tuple[EpisodeResult, ...]] = {}

    def play(
        self,
        name: str,
        baseline: str,
        simulation: SingleEnvSimulationConfig,
        *,
        seed: int,
        num_workers: int = 0,
        progress: SuiteProgress | None = None,
    ) -> tuple[EpisodeResult, ...]:
        """Return the episodes of a baseline, playing them if need be.

        Args:
            name: of the simulation, for `progress`.
            baseline: one of `BASELINES`.
            simulation: what to play.
            seed: of the evaluation.
            num_workers: processes that step the environments.
            progress: told about every episode that is played now.
        """
        key = (baseline, simulation.model_dump_json(), seed)
        if key not in self._episodes:
            self._episodes[key] = _play(
                name,
                simulation,
                BUILTIN_PLAYERS[baseline],
                seed=seed,
                num_workers=num_workers,
                progress=progress,
            )
        return self._episodes[key]


def play_suite(
    suite: SimulationSuiteConfig,
    source: PlayerSource,
    *,
    seed: int,
    num_workers: int | Mapping[str, int] = 0,
    baselines: BaselineEpisodes | None = None,
    recordings: Mapping[str, Recording] | None = None,
    progress: SuiteProgress | None = None,
) -> SuiteResult:
    """Play every simulation of a suite.

    Every simulation uses the same seed, so that its score does not depend on the suite it is in.

    Args:
        suite: at least one simulation.
        source: who is evaluated.
        seed: not negative; the same seed gives the same scores for any number of workers.
        num_workers: processes that step the environments, for each simulation or for all; 0 steps them
            in this one.
        baselines: play the baselines on the same seeds as well; None leaves them out.
        recordings: simulation -> the recording to fill.
        progress: told about every finished episode.

    Raises:
        SimulatorError: if the simulator, or a worker that runs it, fails.
    """
    results = []
    for name, simulation in suite.simulations.items():
        workers = num_workers if isinstance(num_workers, int) else num_workers[name]
        options: dict[str, Any] = {"seed": seed, "num_workers": workers, "progress": progress}
        recording = None if recordings is None else recordings.get(name)
        episodes = _play(name, simulation, source, recording=recording, **options)
        beside: dict[str, tuple[EpisodeResult, ...]] = {}
        if baselines is not None:
            for baseline in BASELINES:
                is_itself = baseline == source.name
                beside[baseline] = (
                    episodes if is_itself else baselines.play(name, baseline, simulation, **options)
                )
        results.append(
            SimulationResult(name, environment_of(simulation), simulation.num_episodes, episodes, beside)
        )
    return SuiteResult(suite.name, source.name, seed, tuple(results))


def _play(
    name: str,
    simulation: SingleEnvSimulationConfig,
    source: PlayerSource,
    *,
    seed: int,
    num_workers: int,
    progress: SuiteProgress | None,
    recording: Recording | None = None,
) -> tuple[EpisodeResult, ...]:
    def on_episode(num_finished: int) -> None:
        if progress is not None:
            progress(name, source.name, num_finished, simulation.num_episodes)

    return tuple(
        play_simulation(
            simulation,
            source,
            seed=seed,
            num_workers=num_workers,
            recording=recording,
            on_episode=on_episode,
        )
    )


def evaluate_policy(
    policy: nn.Module,
    passport: EnvironmentInterface,
    suite: SimulationSuiteConfig,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    name: str = "policy",
    num_workers: int | Mapping[str, int] = 0,
    baselines: BaselineEpisodes | None = None,
    recordings: Mapping[str, Recording] | None = None,
    progress: SuiteProgress | None = None,
) -> SuiteResult:
    """Evaluate a policy that is in memory, as the trainer does now and then.

    The policy is put into evaluation mode meanwhile; neither its modes, nor its gradients, nor torch's
    random generators are different afterwards.

    Args:
        policy: follows `metta_cli.policies.contract.Policy`.
        passport: the interface that the policy was made for.
        suite: what to play; every environment must share actions and window with the passport.
        seed: not negative.
        device: where the policy lives.
        name: what the result calls the policy; a URI if it has one.
        num_workers: processes that step the environments, for each simulation or for all; 0 steps them
            in this one.
        baselines: kept by the caller, so that the baselines are played once; None leaves them out.
        recordings: simulation -> the recording to fill.
        progress: told about every finished episode.

    Raises:
        CheckpointError: if the policy cannot act in one of the environments.
        SimulatorError: if the simulator, or a worker that runs it, fails.
    """
    suite_differences(passport, suite, name)
    source = policy_source(policy, passport, device=device, name=name)
    with _evaluation_mode(policy):
        return play_suite(
            suite,
            source,
            seed=seed,
            num_workers=num_workers,
            baselines=baselines,
            recordings=recordings,
            progress=progress,
        )


def policy_source(
    policy: nn.Module, passport: EnvironmentInterface, *, device: torch.device | str, name: str
) -> PlayerSource:
    """Return a source whose players share the policy, each fitted by name to its environment."""

    def create(interface: EnvironmentInterface, num_agents: int) -> Player:
        fitted: nn.Module = policy
        if interface_differences(passport, interface):
            fitted = RemappedPolicy(policy, passport, interface).to(device)
        return PolicyPlayer(fitted, num_agents, device, name)

    return PlayerSource(name, create)


def suite_differences(
    passport: EnvironmentInterface, suite: SimulationSuiteConfig, name: str
) -> dict[str, list[str]]:
    """Say how the environments of a suite differ from what a policy was made for.

    Args:
        passport: what the policy knows.
        suite: what it is to play.
        name: what the message calls the policy.

    Returns:
        Simulation -> differences, a line each; only those that differ. All can be mended by name.

    Raises:
        CheckpointError: if the policy cannot act in one of the environments at all.
    """
    found = {}
    for simulation_name, simulation in suite.simulations.items():
        interface = interface_of(build(environment_of(simulation)))
        differences = interface_differences(passport, interface)
        try:
            RemappedPolicy(nn.Identity(), passport, interface)
        except ValueError as error:
            raise CheckpointError(
                f"{name} cannot play {simulation_name}: {error}; " + "; ".join(differences),
                "evaluate it on an environment like the one that it was trained on",
            ) from None
        if differences:
            found[simulation_name] = differences
    return found


@contextmanager
def _evaluation_mode(policy: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in policy.modules()]
    policy.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
