"""A recorded episode as MettaGrid's own replay file, which its viewer MettaScope and other tools read."""

from __future__ import annotations

import json
import zlib

import numpy as np
from mettagrid.simulator import Simulation
from mettagrid.simulator.replay_log_writer import InMemoryReplayWriter

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.actions import ActionCodec
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.maps import set_seed
from metta_cli.evaluation.episodes import Recording, require_same_returns

SUFFIX = ".json.z"


def mettagrid_replay(spec: EnvironmentSpec, recording: Recording) -> bytes:
    """Play a recorded episode again in MettaGrid's own `Simulation`, and return what its replay writer noted.

    MettaGrid notes the state after each step: its step 0 is what the first action led to, and the start
    itself is not in the file. Of an agent's two actions only the primary one is noted; vibes are seen in
    the state.

    Args:
        spec: the environment.
        recording: its seeds and actions, with the result that it must come to again.

    Returns:
        The content of a `.json.z` file: JSON, compressed by zlib.

    Raises:
        SimulatorError: if the returns differ from the recorded ones.
    """
    result = recording.result
    if result is None:
        raise ValueError("the recorded episode has not finished")
    config = build(spec)
    codec = ActionCodec(interface_of(config).action_names)
    set_seed(config.game.map_builder, result.map_seed)
    writer = InMemoryReplayWriter()
    simulation = Simulation(config, seed=result.simulation_seed, event_handlers=[writer])
    try:
        grid = simulation._c_sim  # only here can both actions of an agent be set as numbers
        for actions in recording.actions:
            grid.actions()[:], grid.vibe_actions()[:] = codec.split(actions)
            simulation.step()
        require_same_returns(spec, recording, np.asarray(simulation.episode_rewards))
        (replay,) = writer.get_completed_replays()
        return zlib.compress(json.dumps(replay.get_replay_data(), separators=(",", ":")).encode(), level=9)
    finally:
        simulation.close()
