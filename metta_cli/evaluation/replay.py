"""Recorded episodes, as pages that play them in a browser, as animations, and as MettaGrid's files.

Worker processes keep nothing of what they simulate, so an episode is played again here, from its seeds
and the recorded actions, while the simulator is asked where everything is. A page is one file with the
episode inside; it needs no network and no other file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from mettagrid.config.mettagrid_config import MettaGridConfig

from metta_cli.artifacts.atomic import make_directory, write_file
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.actions import ActionCodec
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.simulator import CompiledGame, Simulator
from metta_cli.environments.slab import Slab, SlabLayout
from metta_cli.evaluation.animation import animate
from metta_cli.evaluation.episodes import Recording, environment_seed, require_same_returns
from metta_cli.evaluation.mettascope import SUFFIX, mettagrid_replay
from metta_cli.evaluation.results import SuiteResult

WALL = "wall"
FORMAT_VERSION = 1


def write_replays(
    result: SuiteResult, recordings: Mapping[str, Recording], directory: Path
) -> dict[str, str]:
    """Write a page and, beside it, a GIF and MettaGrid's own file for every recorded episode.

    Args:
        result: of the evaluation that filled the recordings.
        recordings: simulation -> recording; one whose episode did not finish is left out.
        directory: made if it does not exist.

    Returns:
        Simulation -> path of its page.

    Raises:
        SimulatorError: if an episode does not repeat itself.
        StorageError: if a file cannot be written.
    """
    make_directory(directory)
    paths = {}
    for simulation in result.simulations:
        recording = recordings.get(simulation.name)
        if recording is None or recording.result is None:
            continue
        data = replay_data(simulation.environment, recording, result.seed)
        data |= {"simulation": simulation.name, "policy": result.policy_uri}
        stem = f"{simulation.name.replace('/', '_')}_episode_{recording.episode}"
        write_file(directory / f"{stem}.gif", animate(data))
        write_file(directory / f"{stem}{SUFFIX}", mettagrid_replay(simulation.environment, recording))
        page = directory / f"{stem}.html"
        write_file(page, replay_page(data))
        paths[simulation.name] = str(page)
    return paths


def replay_page(data: Mapping[str, Any]) -> str:
    """Return the page that plays an episode.

    Args:
        data: from `replay_data`, with `simulation` and `policy` for the title.
    """
    template = resources.files("metta_cli.evaluation").joinpath("replay.html").read_text("utf-8")
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no "</script>" inside the script
    return template.replace("{{DATA}}", text)


def replay_data(spec: EnvironmentSpec, recording: Recording, seed: int) -> dict[str, Any]:
    """Play a recorded episode again and return where everything was.

    Args:
        spec: the environment.
        recording: its seeds and actions, with the result that it must come to again.
        seed: of the evaluation.

    Returns:
        JSON data: names, walls as runs `[row, column, length]`, and for every other thing its `frames`
        `[step, row, column, vibe, {resource: amount}]`, one whenever something of it changed. Step 0 is
        the start, step `t` what the `t`-th action led to.

    Raises:
        SimulatorError: if the returns differ from the recorded ones.
    """
    result = recording.result
    if result is None:
        raise ValueError("the recorded episode has not finished")
    config = build(spec)
    interface = interface_of(config)
    simulator, slab = _open(config, interface)
    simulator.start(recording.episode, EpisodeSeeds(environment_seed(seed)))
    codec = ActionCodec(interface.action_names)
    things = _Things()
    things.look(simulator, 0)
    returns = np.zeros(slab.rewards.shape)
    earned: list[list[list[float]]] = [[[0, 0.0]] for _ in returns]
    for step, actions in enumerate(recording.actions, start=1):
        slab.primary_actions[:], slab.vibe_actions[:] = codec.split(actions)
        simulator.step()
        things.look(simulator, step)
        returns += slab.rewards
        for agent in np.flatnonzero(slab.rewards):
            earned[agent].append([step, round(float(returns[agent]), 4)])
    require_same_returns(spec, recording, returns)
    return {
        "format": FORMAT_VERSION,
        "environment": spec.name,
        "episode": result.episode,
        "map_seed": result.map_seed,
        "simulation_seed": result.simulation_seed,
        "score": result.score,
        "num_steps": len(recording.actions),
        **_names(config, interface),
        "height": simulator.grid.map_height,
        "width": simulator.grid.map_width,
        "walls": runs_of_walls(_wall_cells(simulator)),
        "things": things.to_json(),
        "actions": [actions.tolist() for actions in recording.actions],
        "returns": earned,
    }


def _open(config: MettaGridConfig, interface: EnvironmentInterface) -> tuple[Simulator, Slab]:
    """Return one environment in this process, and its arrays."""
    layout = SlabLayout(1, interface.agents_per_environment, interface.num_tokens, 0)
    slab = Slab(layout, bytearray(layout.num_bytes))
    return Simulator(CompiledGame(config, keep_maps=False), slab, 0), slab


def _names(config: MettaGridConfig, interface: EnvironmentInterface) -> dict[str, Any]:
    """Return what the numbers of actions, vibes and resources stand for."""
    vibes = interface.action_names[interface.num_primary_actions :]
    return {
        "action_names": interface.action_names,
        "vibe_names": [name.removeprefix("change_vibe_") for name in vibes],
        "resource_names": config.game.resource_names,
    }


class _Things:
    """Everything but the walls, and when it changed."""

    def __init__(self) -> None:
        self._things: dict[int, dict[str, Any]] = {}

    def look(self, simulator: Simulator, step: int) -> None:
        """Note what is different from the last time."""
        for key, thing in simulator.grid.grid_objects(ignore_types=[WALL]).items():
            inventory = {str(resource): amount for resource, amount in thing["inventory"].items()}
            state = [thing["r"], thing["c"], thing.get("vibe", 0), inventory]
            if key not in self._things:
                self._things[key] = {
                    "type": thing["type_name"],
                    "agent": thing.get("agent_id", -1),
                    "team": thing.get("group_id", -1),
                    "team_name": thing.get("group_name", ""),
                    "frames": [],
                }
            frames = self._things[key]["frames"]
            if not frames or frames[-1][1:] != state:
                frames.append([step, *state])

    def to_json(self) -> list[dict[str, Any]]:
        """Return the things, agents last and in their order, so that they are drawn on top."""
        return sorted(self._things.values(), key=lambda thing: thing["agent"])


def _wall_cells(simulator: Simulator) -> list[tuple[int, int]]:
    things = simulator.grid.grid_objects().values()
    return [(thing["r"], thing["c"]) for thing in things if thing["type_name"] == WALL]


def runs_of_walls(cells: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the walls as horizontal runs `[row, column, length]`.

    Args:
        cells: row and column of every wall, in any order.
    """
    runs: list[list[int]] = []
    for row, column in sorted(cells):
        if runs and runs[-1][0] == row and sum(runs[-1][1:]) == column:
            runs[-1][2] += 1
        else:
            runs.append([row, column, 1])
    return runs
