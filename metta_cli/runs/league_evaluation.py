"""`metta league evaluate`: everybody of a league against everybody, with weights that do not change."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.checkpoints import list_checkpoints, read_manifest
from metta_cli.config.dual_policy import DualPolicyConfig
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.errors import IncompatibleError, UnknownNameError, UsageError
from metta_cli.evaluation.crossplay import Match, play_matches, round_robin
from metta_cli.populations.payoff import PayoffTable
from metta_cli.populations.standings import Standings
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.league_files import FORMAT_VERSION, read_standings
from metta_cli.runs.machine import choose_device, choose_num_workers, configure_threads
from metta_cli.runs.opponents import load_opponent

Progress = Callable[[int, int], None]
"""Told how many of how many matches have ended."""


def evaluate_league(
    directory: RunDirectory,
    *,
    episodes: int,
    only: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    num_workers: int | None = None,
    progress: Progress = lambda finished, total: None,
) -> Standings:
    """Play the members of a league and the newest checkpoint of its run against each other.

    They play where the run was trained, with its shares. The matches replace those of an earlier
    evaluation in `RUN/league_evaluation.json`.

    Args:
        directory: of the run.
        episodes: for each pair.
        only: names of those who play; empty means all.
        seed: the same seed gives the same matches.
        device: where policies compute.
        num_workers: processes that step environments; None suits the machine.
        progress: told about every match.

    Returns:
        How the league stands now.

    Raises:
        MettaError: for everything that a user can mend.
    """
    standings = read_standings(directory)
    spec, dual = _settings(directory)
    players = _choose(_players(directory, standings), only)
    configure_threads()
    place, data_dir = choose_device(device), directory.path.parent
    sources = {each["id"]: load_opponent(each["uri"], place, data_dir=data_dir) for each in players}
    schedule = round_robin(list(sources), episodes)
    matches = play_matches(
        spec,
        sources,
        schedule,
        share=dual.policy_a_percentage,
        assignment=dual.assignment,
        seed=seed,
        num_workers=choose_num_workers(num_workers, len(schedule)),
        on_match=lambda finished: progress(finished, len(schedule)),
    )
    evaluation = {
        "format_version": FORMAT_VERSION,
        "run": directory.run,
        "environment": spec.model_dump(mode="json"),
        "share": dual.policy_a_percentage,
        "assignment": dual.assignment,
        "episodes": episodes,
        "seed": seed,
        "players": players,
        "matches": _tabulate(matches).to_json(),
    }
    write_file(directory.league_evaluation, json.dumps(evaluation, indent=1, allow_nan=False) + "\n")
    return Standings(standings.report, evaluation)


def _tabulate(matches: Sequence[Match]) -> PayoffTable:
    table = PayoffTable()
    for match in matches:
        table.add(match.first, match.second, match.first_return, match.second_return)
    return table


def _settings(directory: RunDirectory) -> tuple[EnvironmentSpec, DualPolicyConfig]:
    """Return where and with which shares a run was trained."""
    try:
        config: dict[str, Any] = yaml.safe_load(directory.config.read_text())
        dual = config.get("trainer", {}).get("dual_policy", {})
        return EnvironmentSpec.model_validate(config["env"]), DualPolicyConfig.model_validate(dual)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IncompatibleError(
            f"{directory.config} does not say how the run was trained: {error}",
            "every session of a run writes it; was it changed by hand?",
        ) from error


def _players(directory: RunDirectory, standings: Standings) -> list[dict[str, Any]]:
    """Return the members, and the newest checkpoint unless it is one of them."""
    found = []
    for member in sorted(standings.members, key=lambda member: int(member["epoch"])):
        is_snapshot = member["kind"] == "snapshot"
        uri = str(directory.league / f"{directory.run}:{member['id']}") if is_snapshot else member["uri"]
        known = {key: member[key] for key in ("id", "kind", "epoch", "agent_steps")}
        found.append(known | {"uri": uri})
    checkpoints = list_checkpoints(directory.checkpoints)
    if checkpoints and f"v{checkpoints[-1].epoch}" not in {player["id"] for player in found}:
        found.append(_newest(checkpoints[-1].path))
    return found


def _newest(path: Path) -> dict[str, Any]:
    manifest = read_manifest(path)
    progress = {"epoch": manifest.epoch, "agent_steps": manifest.agent_steps}
    return {"id": f"v{manifest.epoch}", "kind": "checkpoint", "uri": str(path), **progress}


def _choose(players: list[dict[str, Any]], only: Sequence[str]) -> list[dict[str, Any]]:
    names = [player["id"] for player in players]
    for name in only:
        if name not in names:
            raise UnknownNameError("player of this league", name, names)
    chosen = [player for player in players if not only or player["id"] in only]
    if len(chosen) < 2:
        raise UsageError("a league of one has nobody to play against", f"there is: {', '.join(names)}")
    return chosen
