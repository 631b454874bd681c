"""Recorded episodes, played again."""

import io
import json
import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
from mettagrid.simulator import Simulation
from PIL import Image, ImageSequence

from metta_cli.config.layers import load_config
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.environments.actions import ActionCodec
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import SimulatorError, UsageError
from metta_cli.evaluation.animation import COLOURS, FIRST_TEAM, ICE, animate, cell_pixels, shown_steps
from metta_cli.evaluation.episodes import Recording, environment_of, play_simulation
from metta_cli.evaluation.mettascope import mettagrid_replay
from metta_cli.evaluation.replay import replay_data, replay_page
from metta_cli.evaluation.suite import play_suite
from metta_cli.populations.players import BUILTIN_PLAYERS
from metta_cli.runs.evaluate import evaluate

SIMULATION = SingleEnvSimulationConfig(env="laser_tag", num_episodes=3, env_overrides={"max_steps": 120})


@pytest.fixture(scope="module")
def recording():
    recorded = Recording(episode=1)
    play_simulation(SIMULATION, BUILTIN_PLAYERS["scripted"], seed=4, recording=recorded)
    return recorded


@pytest.fixture(scope="module")
def data(recording):
    return replay_data(environment_of(SIMULATION), recording, 4)


def frame_at(thing, step):
    return [frame for frame in thing["frames"] if frame[0] <= step][-1][1:]


def agents_of(replay):
    return [thing for thing in replay["objects"] if "agent_id" in thing]


def value_at(changes, step):
    """Return a value of MettaGrid's file: either it never changed, or it is [[step, value], ...]."""
    if not (changes and isinstance(changes[0], list) and isinstance(changes[0][1], list)):
        return changes
    return [value for changed, value in changes if changed <= step][-1]


def test_everything_is_where_mettagrids_own_simulation_has_it(recording, data):
    config = build(environment_of(SIMULATION))
    codec = ActionCodec(interface_of(config).action_names)
    config.game.map_builder.seed = recording.result.map_seed
    theirs = Simulation(config, seed=recording.result.simulation_seed)
    for step, actions in enumerate(recording.actions, start=1):
        theirs._c_sim.actions()[:], theirs._c_sim.vibe_actions()[:] = codec.split(actions)
        theirs._c_sim.step()
        if step not in (1, 60, 120):
            continue
        things = [each for each in theirs._c_sim.grid_objects().values() if each["type_name"] != "wall"]
        expected = sorted(
            [
                each["type_name"],
                each["r"],
                each["c"],
                each.get("vibe", 0),
                {str(k): v for k, v in each["inventory"].items()},
            ]
            for each in things
        )
        assert sorted([thing["type"], *frame_at(thing, step)] for thing in data["things"]) == expected
    walls = {(e["r"], e["c"]) for e in theirs._c_sim.grid_objects().values() if e["type_name"] == "wall"}
    assert {(r, c + i) for r, c, length in data["walls"] for i in range(length)} == walls


def test_recorded_returns_end_where_the_episode_ended(recording, data):
    assert [entries[-1][1] for entries in data["returns"]] == pytest.approx(
        recording.result.agent_returns, abs=1e-3
    )
    assert all(entries[0] == [0, 0.0] for entries in data["returns"])
    assert any(len(entries) > 1 for entries in data["returns"])
    assert data["num_steps"] == len(data["actions"]) == 120
    assert data["vibe_names"] == ["default", "laser"]


def test_nothing_is_written_down_twice(data):
    for thing in data["things"]:
        states = [frame[1:] for frame in thing["frames"]]
        assert all(before != after for before, after in pairwise(states))
    assert [thing["agent"] for thing in data["things"]][-8:] == list(range(8))


def test_other_actions_are_found_out(recording):
    idle = Recording(episode=1, actions=[np.zeros(8, int)] * 120, result=recording.result)
    with pytest.raises(SimulatorError, match="came out differently"):
        replay_data(environment_of(SIMULATION), idle, 4)


def test_page_holds_the_episode_and_asks_for_nothing_else(data):
    page = replay_page(data | {"simulation": "</script><b>", "policy": "scripted"})
    assert not re.search(r"https?://|src=|href=|@import|url\(", page)
    (inlined,) = re.findall(r"^const replay = (.*);$", page, re.MULTILINE)
    assert json.loads(inlined) == json.loads(json.dumps(data)) | {
        "simulation": "</script><b>",
        "policy": "scripted",
    }
    assert page.count("</script>") == 1
    assert "{{" not in page


def test_animation_shows_every_agent_where_the_simulator_has_it(data):
    animation = Image.open(io.BytesIO(animate(data)))
    assert animation.n_frames == 121
    edge = cell_pixels(data)
    agents = [thing for thing in data["things"] if thing["agent"] >= 0]
    frozen = str(data["resource_names"].index("frozen"))
    seen = {}
    for step, frame in enumerate(ImageSequence.Iterator(animation)):
        picture = frame.convert("RGB")
        for agent in agents:
            row, column, _, inventory = frame_at(agent, step)
            index = ICE if frozen in inventory else FIRST_TEAM + agent["team"]
            pixel = picture.getpixel((column * edge + edge // 2, row * edge + edge // 2))
            assert "#{:02x}{:02x}{:02x}".format(*pixel) == COLOURS[index], step
            seen.setdefault(agent["agent"], set()).add((row, column))
    assert max(map(len, seen.values())) > 10


def test_mettagrids_file_has_every_agent_where_the_simulator_has_it(recording, data):
    replay = json.loads(zlib.decompress(mettagrid_replay(environment_of(SIMULATION), recording)))
    assert replay["version"] == 4
    assert replay["max_steps"] == 120
    assert replay["map_size"] == [data["width"], data["height"]]
    assert replay["action_names"] == list(data["action_names"])
    assert replay["infos"]["episode_rewards"] == pytest.approx(recording.result.agent_returns, abs=1e-3)
    theirs = {thing["agent_id"]: thing for thing in agents_of(replay)}
    ours = {thing["agent"]: thing for thing in data["things"] if thing["agent"] >= 0}
    assert sorted(theirs) == sorted(ours) == list(range(8))
    for agent, thing in ours.items():
        for step in range(1, 121):
            row, column, _, inventory = frame_at(thing, step)
            assert value_at(theirs[agent]["location"], step - 1) == [column, row]
            assert dict(value_at(theirs[agent]["inventory"], step - 1)) == {
                int(resource): amount for resource, amount in inventory.items()
            }


def test_mettagrids_file_finds_other_actions_out(recording):
    idle = Recording(episode=1, actions=[np.zeros(8, int)] * 120, result=recording.result)
    with pytest.raises(SimulatorError, match="came out differently"):
        mettagrid_replay(environment_of(SIMULATION), idle)


@pytest.mark.parametrize("env", ["navigation/terrain_small", "memory/memory_one_apple", "arena/combat_2x4"])
def test_every_kind_of_map_repeats_in_mettagrids_own_simulation(env):
    simulation = SingleEnvSimulationConfig(env=env, num_episodes=1, env_overrides={"max_steps": 42})
    recorded = Recording()
    play_simulation(simulation, BUILTIN_PLAYERS["scripted"], seed=4, recording=recorded)
    data = replay_data(environment_of(simulation), recorded, 4)
    replay = json.loads(zlib.decompress(mettagrid_replay(environment_of(simulation), recorded)))
    for thing in agents_of(replay):
        (ours,) = [each for each in data["things"] if each["agent"] == thing["agent_id"]]
        row, column = frame_at(ours, data["num_steps"])[:2]
        assert value_at(thing["location"], data["num_steps"] - 1) == [column, row]


def test_animation_of_a_long_episode_skips_evenly_and_keeps_both_ends():
    assert shown_steps(120) == list(range(121))
    assert shown_steps(500) == list(range(0, 501, 2))
    assert shown_steps(1000) == [*range(0, 1000, 4), 1000]
    assert shown_steps(301) == [*range(0, 301, 2), 301]
    assert shown_steps(0) == [0]
    assert all(len(shown_steps(n)) <= 300 for n in range(1, 3000))


@pytest.mark.parametrize(("words", "options"), [((), {"save_replays": True}), (("sim.render=true",), {})])
def test_first_episode_of_every_simulation_gets_a_page(tmp_path, words, options):
    resolved = load_config(files=[], words=list(words), options={}, environ={})
    result = evaluate(
        resolved,
        uri="random",
        suite="navigation_single",
        episodes=2,
        baselines=False,
        output_dir=tmp_path,
        **options,
    )
    directory = tmp_path / "eval_random_navigation_single"
    assert result.replays == {
        "navigation/simple": str(directory / "replays" / "navigation_simple_episode_0.html"),
        "navigation/intermediate": str(directory / "replays" / "navigation_intermediate_episode_0.html"),
    }
    assert sorted(path.name for path in (directory / "replays").iterdir()) == [
        f"navigation_{name}_episode_0.{suffix}"
        for name in ("intermediate", "simple")
        for suffix in ("gif", "html", "json.z")
    ]
    assert f"Replay of navigation/simple: {directory}" in result.to_text()
    assert json.loads((directory / "evaluation_results.json").read_text())["replays"] == result.replays


def test_replays_without_a_place_are_refused_before_anything_is_played():
    resolved = load_config(files=[], words=[], options={}, environ={})
    with pytest.raises(UsageError, match="need a place"):
        evaluate(resolved, uri="random", environment="laser_tag", save_replays=True)


def test_suite_records_only_what_it_is_asked_for():
    suite = SimulationSuiteConfig(
        name="s", simulations={"a/laser_tag": SIMULATION, "b/laser_tag": SIMULATION}
    )
    recordings = {"b/laser_tag": Recording()}
    play_suite(suite, BUILTIN_PLAYERS["noop"], seed=0, recordings=recordings)
    assert len(recordings["b/laser_tag"].actions) == 120
