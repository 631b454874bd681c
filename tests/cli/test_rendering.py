"""`sim.render=true`: an episode is played in the terminal, and stdout stays data."""

import io
import json
import os
import pty
import subprocess
import sys
from itertools import pairwise

import pytest

from metta_cli.cli.terminal import OTHER_SCREEN, OWN_SCREEN, pace, play
from metta_cli.evaluation.characters import draw_text
from metta_cli.evaluation.replay import replay_page

WORDS = ["eval", "random", "env=navigation/simple", "env.args.max_steps=12", "sim.render=true"]
QUIET = ["--episodes", "1", "--no-baselines", "--progress", "none", "--format", "json"]


def replay(height=6, width=10, num_steps=4):
    """An agent that walks right along row 4 from column 1."""
    frames = [[step, 4, 1 + step, 0, {}] for step in range(num_steps + 1)]
    agent = {"type": "agent", "agent": 0, "frames": frames}
    return {
        "height": height,
        "width": width,
        "num_steps": num_steps,
        "walls": [[0, 0, width]],
        "things": [{"type": "altar", "agent": -1, "frames": [[0, 1, 0, 0, {}]]}, agent],
        "returns": [[[0, 0.0], [2, 1.0]]],
        "simulation": "walk",
        "episode": 0,
        "policy": "walker",
    }


def run_in_terminal(words, folder):
    """Run a command whose stderr is a terminal and whose stdout is a pipe."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "60"}
    process = subprocess.Popen(
        [sys.executable, "-m", "metta_cli", *words],
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    out = process.stdout.read().decode()
    process.stdout.close()
    os.close(ours)
    assert process.wait() == 0, seen.decode()
    return out, seen.decode().replace("\r\n", "\n")


def test_the_episode_is_played_on_the_terminal_and_stdout_is_data(tmp_path):
    out, seen = run_in_terminal([*WORDS, *QUIET], tmp_path)
    data = json.loads(out)
    (page,) = data["replays"].values()
    assert (tmp_path / page).is_file()
    before, _, rest = seen.partition(OTHER_SCREEN)
    pictures, _, after = rest.partition(OWN_SCREEN)
    assert before == ""
    shown = pictures.split("\x1b[J")[:-1]
    assert [picture.split("step ")[1].split(",")[0] for picture in shown] == [f"{i} / 12" for i in range(13)]
    assert after.startswith("navigation/simple, episode 0, policy random\n#")
    assert "\x1b" not in after


def test_without_a_terminal_it_is_said_once_and_nothing_is_garbled(metta):
    words = ["eval", "random", "--suite", "navigation_single", "sim.render=true"]
    outcome = metta(*words, "--episodes", "1", "--no-baselines", "--progress", "none", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["replays"]) == 2
    assert outcome.err.count("sim.render plays in a terminal, and this is none") == 1
    assert "\x1b" not in outcome.out + outcome.err


def test_saving_replays_plays_nothing(metta):
    outcome = metta(*WORDS[:-1], "--save-replays", *QUIET)
    assert len(json.loads(outcome.out)["replays"]) == 1
    assert "sim.render" not in outcome.err


def test_a_screen_of_its_own_is_left_even_when_it_is_interrupted(capsys):
    def interrupt(seconds):
        raise KeyboardInterrupt

    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        play(replay(), stream, sleep=interrupt)
    assert stream.getvalue().endswith(OWN_SCREEN)


def test_a_map_that_is_too_large_is_shown_around_its_first_agent():
    assert draw_text(replay(), 3, window=(3, 5)).split("\n")[:-1] == [".....", "..0..", "....."]
    assert draw_text(replay(), 0, window=(3, 5)).split("\n")[:-1] == [".....", ".0...", "....."]
    assert draw_text(replay(), 0, window=(99, 99)).split("\n")[:2] == ["#" * 10, "a" + "." * 9]


def page(data, path):
    facts = {"format": 1, "environment": "walk", "action_names": [], "vibe_names": [], "resource_names": []}
    path.write_text(replay_page(data | facts))
    return path


@pytest.mark.parametrize("words", [(), ("--to", "browser"), ("--to", "browser", "-o", "copy.html")])
def test_a_page_is_opened_in_the_browser(metta_process, tmp_path, words):
    source = page(replay(), tmp_path / "episode.html")
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/address\n")
    browser.chmod(0o755)
    outcome = metta_process("replay", str(source), *words, BROWSER=f"{browser} %s")
    assert (outcome.code, outcome.out) == (0, "")
    address = (tmp_path / "address").read_text().strip()
    assert outcome.err == f"opened {address}\n"
    assert address.startswith("file:///")
    assert address.endswith("/copy.html" if "-o" in words else "/episode.html")


def test_without_a_browser_it_is_said_where_the_page_is(metta_process, tmp_path):
    source = page(replay(), tmp_path / "episode.html")
    outcome = metta_process("replay", str(source), PATH="/nonexistent", BROWSER="")
    assert outcome.code == 0
    assert outcome.err == f"there is no browser here; open {source.as_uri()}\n"


@pytest.mark.parametrize(("num_steps", "seconds"), [(0, 1 / 8), (12, 13 / 8), (159, 20), (10_000, 20)])
def test_a_long_episode_is_sped_up_and_shown_to_its_end(num_steps, seconds):
    steps, each = pace(num_steps)
    assert (steps[0], steps[-1]) == (0, num_steps)
    assert len(steps) * each == pytest.approx(seconds)
    assert 1 / each <= 25 + 1e-9
    assert all(before < after for before, after in pairwise(steps))
