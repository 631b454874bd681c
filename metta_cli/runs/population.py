"""`metta eval --npc`: a policy among opponents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig
from metta_cli.config.simulation import SimulationSuiteConfig
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.evaluation.episodes import environment_of
from metta_cli.evaluation.files import prepare_directory, results_directory, save_results
from metta_cli.evaluation.population import PopulationResult, check_population, play_population
from metta_cli.evaluation.suite import SuiteProgress
from metta_cli.populations.assignment import AssignmentName
from metta_cli.populations.opponents import OpponentSource
from metta_cli.populations.players import is_builtin
from metta_cli.runs.evaluate import choose_suite, choose_workers, provenance
from metta_cli.runs.machine import choose_device, configure_threads
from metta_cli.runs.opponents import builtin_opponent, load_opponent, policy_opponent
from metta_cli.runs.policies import NO_TRUST, Trust, load_policy


def evaluate_population(
    resolved: ResolvedConfig,
    *,
    uri: str,
    npcs: Sequence[str],
    share: float = 0.5,
    assignment: AssignmentName = "fraction",
    suite: str | None = None,
    environment: str | None = None,
    episodes: int | None = None,
    num_workers: int | None = None,
    output_dir: Path | str | None = None,
    trust: Trust = NO_TRUST,
    progress: SuiteProgress | None = None,
) -> PopulationResult:
    """Evaluate a policy that plays a share of the agents while an opponent plays the others.

    Args:
        resolved: the configuration; also says seed and device.
        uri: who is evaluated: a checkpoint, or a built-in player.
        npcs: addresses of the opponents, at least one; each plays all episodes.
        share: of the agents that the policy plays; unless it is one half, its mirror is played as well.
        assignment: whether that is of single agents or of whole teams.
        suite: name of a suite; see `metta_cli.runs.evaluate.evaluate` for what is played without it.
        environment: name of an environment.
        episodes: of every opponent and split.
        num_workers: processes that step environments; None suits machine and work. Changes no score.
        output_dir: a directory for the result is made there; None writes nothing.
        trust: what the user vouches for in files of other tools.
        progress: told about every finished episode.

    Raises:
        MettaError: for everything that a user can mend; before anything is played, where possible.
    """
    config = resolved.config
    chosen = choose_suite(resolved, suite, environment, episodes)
    check_population(chosen, share, assignment)
    configure_threads()
    focal, opponents = _load(config, uri, npcs, trust)
    _check_fit(chosen, (focal, *opponents))
    directory = None
    if output_dir is not None:
        directory = results_directory(Path(output_dir), uri, f"{chosen.name}_npc", None)
        prepare_directory(directory)
    started = datetime.now(UTC)
    result = play_population(
        chosen,
        focal,
        opponents,
        share=share,
        assignment=assignment,
        seed=config.seed,
        num_workers=choose_workers(chosen, num_workers),
        progress=progress,
    )
    described = {"npcs": [dict(opponent.description) for opponent in opponents]}
    result = result.with_provenance(provenance(focal.description, started) | described)
    return result if directory is None else save_results(result, directory)


def _load(
    config: MettaConfig, uri: str, npcs: Sequence[str], trust: Trust
) -> tuple[OpponentSource, list[OpponentSource]]:
    """Return who is evaluated, and the opponents."""
    device, data_dir = choose_device(config.device), Path(config.data_dir)
    if is_builtin(uri):
        focal = builtin_opponent(uri)
    else:
        policy = load_policy(uri, device, data_dir=data_dir, architecture=config.pytorch, trust=trust)
        focal = policy_opponent(uri, policy, device)
    npc_trust = Trust(trust.allow_pickle)  # the digest is that of the policy
    addresses = dict.fromkeys(npcs)
    return focal, [load_opponent(npc, device, data_dir=data_dir, trust=npc_trust) for npc in addresses]


def _check_fit(suite: SimulationSuiteConfig, players: Sequence[OpponentSource]) -> None:
    for simulation in suite.simulations.values():
        interface = interface_of(build(environment_of(simulation)))
        for player in players:
            player.create(interface, 1)
