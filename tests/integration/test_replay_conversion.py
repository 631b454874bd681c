"""Replay files, read again and written in another form."""

import json
import zlib

import pytest
from PIL import Image

from metta_cli.cli.main import main
from metta_cli.config.simulation import SingleEnvSimulationConfig
from metta_cli.errors import IncompatibleError, NotFoundError, UsageError
from metta_cli.evaluation.conversion import convert_replay, read_replay
from metta_cli.evaluation.episodes import Recording, environment_of, play_simulation
from metta_cli.evaluation.mettascope import mettagrid_replay
from metta_cli.evaluation.replay import replay_data, replay_page
from metta_cli.populations.players import BUILTIN_PLAYERS

SIMULATION = SingleEnvSimulationConfig(env="laser_tag", num_episodes=1, env_overrides={"max_steps": 90})


@pytest.fixture(scope="module")
def recording():
    recorded = Recording()
    play_simulation(SIMULATION, BUILTIN_PLAYERS["scripted"], seed=4, recording=recorded)
    return recorded


@pytest.fixture(scope="module")
def data(recording):
    return replay_data(environment_of(SIMULATION), recording, 4) | {"simulation": "s", "policy": "scripted"}


@pytest.fixture
def theirs(recording, tmp_path):
    path = tmp_path / "episode.json.z"
    path.write_bytes(mettagrid_replay(environment_of(SIMULATION), recording))
    return path


def frame_at(thing, step):
    return [frame for frame in thing["frames"] if frame[0] <= step][-1][1:]


def states(data, step):
    return sorted(
        [thing["type"], thing["agent"], thing["team"], *map(str, frame_at(thing, step))]
        for thing in data["things"]
    )


def test_mettagrids_file_tells_what_our_own_page_tells_one_step_later(theirs, data):
    read = read_replay(theirs)
    assert tuple(read["action_names"]) == tuple(data["action_names"])
    for name in ("vibe_names", "resource_names", "height", "width", "walls"):
        assert read[name] == data[name], name
    assert read["num_steps"] == 89
    for step in range(90):
        assert states(read, step) == states(data, step + 1)
    assert [each[-1][1] for each in read["returns"]] == pytest.approx(
        [each[-1][1] for each in data["returns"]]
    )
    assert (read["map_seed"], read["simulation_seed"]) == (data["map_seed"], data["simulation_seed"])
    assert read["score"] == pytest.approx(data["score"])


def test_page_is_read_back_as_it_was_written(tmp_path, data):
    path = tmp_path / "episode.html"
    path.write_text(replay_page(data))
    assert read_replay(path) == json.loads(json.dumps(data))


def test_each_file_becomes_a_page_or_an_animation_beside_it(theirs):
    page = convert_replay(theirs, "html", None)
    assert page == theirs.with_name("episode.html")
    animation = convert_replay(page, "gif", None)
    with Image.open(animation) as picture:
        assert picture.n_frames == 90
    with pytest.raises(UsageError, match="would replace itself"):
        convert_replay(page, "html", None)


def test_only_a_file_that_was_named_is_replaced(theirs):
    page = theirs.with_name("episode.html")
    page.write_text("of the evaluation")
    with pytest.raises(UsageError, match="is there already"):
        convert_replay(theirs, "html", None)
    assert page.read_text() == "of the evaluation"
    assert convert_replay(theirs, "html", page) == page
    assert page.read_text() != "of the evaluation"


def test_terminal_shows_every_step_with_everything_in_its_place(theirs, data, capsys):
    with pytest.raises(SystemExit) as end:
        main(["replay", str(theirs), "--to", "terminal"])
    assert not end.value.code
    pictures = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert len(pictures) == 90
    walls = {(row, column + i) for row, column, length in data["walls"] for i in range(length)}
    for step, picture in enumerate(pictures):
        *lines, summary = picture.split("\n")
        assert summary.startswith(f"step {step} / 89, mean return ")
        shown = {(r, c): cell for r, line in enumerate(lines) for c, cell in enumerate(line)}
        expected = dict.fromkeys(walls, "#")
        for thing in data["things"]:
            name = str(thing["agent"]) if thing["agent"] >= 0 else thing["type"][0]
            expected[tuple(frame_at(thing, step + 1)[:2])] = name
        assert {place: cell for place, cell in shown.items() if cell != "."} == expected
        assert len(shown) == data["height"] * data["width"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.html", b"<html>", "IndexError"),
        ("x.html", b'const replay = {"format":0};', "format 0"),
        ("x.html", b"\xff\xfe", "UnicodeDecodeError"),
        ("x.json.z", b"text", "incorrect header"),
        ("x.json.z", zlib.compress(b"[1, 2]" * 999)[:-4], "cut off"),
        ("x.json.z", zlib.compress(b"[1]"), "TypeError"),
        ("x.json.z", zlib.compress(b'{"version": 3}'), "version 3"),
        ("x.json.z", zlib.compress(b'{"version": 4}'), "'objects'"),
        (
            "x.json.z",
            zlib.compress(b'{"version": 4, "objects": [{"alive": [[0, true], [3, false]]}]}'),
            "come or go",
        ),
    ],
)
def test_what_is_no_replay_is_refused(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(IncompatibleError, match=reason):
        read_replay(path)


def test_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(NotFoundError, match=r"no replay file .*absent\.html"):
        convert_replay(tmp_path / "absent.html", "html", None)
