"""`metta league`: what it shows of the files of a run, and how it says that there are none."""

import csv
import io
import json
import subprocess
import sys

import pytest
import yaml


def match(player, other, wins, draws, losses):
    counts = {"wins": wins, "draws": draws, "losses": losses}
    return {"player": player, "other": other, **counts, "own_return": 8.0, "other_return": 4.0}


def member(name, epoch, probability):
    return {
        "id": name,
        "kind": "snapshot",
        "uri": f"league/sp:{name}",
        "weight": 1.0,
        "epoch": epoch,
        "agent_steps": 1000 * epoch,
        "quality": 0.0,
        "probability": probability,
    }


REPORT = {
    "format_version": 1,
    "run": "sp",
    "epoch": 9,
    "agent_steps": 9000,
    "mode": "self_play",
    "method": "hard",
    "phase": "learner@v5",
    "curriculum_stage": None,
    "anchor": "v0",
    "members": [member("v0", 0, 0.25), member("v5", 5, 0.75)],
    "recent": [
        match("learner", "v0", 6, 0, 2),
        match("learner", "v5", 2, 4, 2),
        match("learner", "live", 1, 6, 1),
    ],
    "phases": [
        match("learner@v0", "v0", 10, 0, 10),
        match("learner@v5", "v0", 15, 0, 5),
        match("learner@v5", "v5", 10, 0, 10),
    ],
    "ratings": {},
}
EVALUATION = {
    "format_version": 1,
    "players": [
        {"id": "v0", "kind": "snapshot", "epoch": 0, "agent_steps": 0, "uri": "x"},
        {"id": "v5", "kind": "snapshot", "epoch": 5, "agent_steps": 5000, "uri": "y"},
        {"id": "v9", "kind": "checkpoint", "epoch": 9, "agent_steps": 9000, "uri": "z"},
    ],
    "matches": [match("v0", "v5", 10, 0, 30), match("v9", "v0", 40, 0, 0), match("v9", "v5", 20, 0, 20)],
}


@pytest.fixture
def run_dir(empty_working_directory):
    directory = empty_working_directory / "train_dir" / "sp"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "league.json").write_text(json.dumps(REPORT))
    return directory


def test_the_table_shows_every_number_beside_its_interval(metta, run_dir):
    outcome = metta("league", "show", "sp")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "sp: self_play, hard, epoch 9, 9,000 agent steps"
    headings = " ".join(lines[2].split())
    assert headings == "PLAYER KIND EPOCH AGENT STEPS MATCHES WIN RATE RETURNS CHANCE RATING"
    first = next(line for line in lines if line.startswith("v0"))
    assert "0.75 (0.41 to 0.93)" in first
    assert "1 : 0.5" in first
    assert "40" in first.split()
    assert first.endswith("0 by definition")
    assert any(line.startswith("live ") and "0.50" in line for line in lines)
    assert any(line.startswith("learner@v5") and " to +" in line for line in lines)


def test_a_curriculum_says_how_far_it_is(metta, run_dir):
    report = REPORT | {"mode": "curriculum", "curriculum_stage": 1}
    (run_dir / "league.json").write_text(json.dumps(report))
    first = metta("league", "show", "sp").out.splitlines()[0]
    assert first == "sp: curriculum, opponent 2 of 2, epoch 9, 9,000 agent steps"


def test_the_formats_hold_the_same_numbers(metta, run_dir):
    data = json.loads(metta("league", "show", "sp", "--format", "json").out)
    assert yaml.safe_load(metta("league", "show", "sp", "--format", "yaml").out) == data
    rows = list(csv.DictReader(io.StringIO(metta("league", "show", "sp", "--format", "csv").out)))
    assert [row["player"] for row in rows] == ["v0", "v5", "live", "learner@v5"]
    assert [row["player"] for row in data["players"]] == [row["player"] for row in rows]
    learner = data["players"][-1]
    assert learner["rating_low"] < learner["rating"] < learner["rating_high"]
    assert learner["rating"] == pytest.approx(float(rows[-1]["rating"]))
    assert data["payoff"]["rows"] == ["learner@v0", "learner@v5"]
    assert data["payoff"]["win_rates"] == [[0.5, None], [0.75, 0.5]]


def test_ratings_come_from_the_evaluation_once_there_is_one(metta, run_dir):
    (run_dir / "league_evaluation.json").write_text(json.dumps(EVALUATION))
    data = json.loads(metta("league", "show", "sp", "--format", "json").out)
    players = {row["player"]: row for row in data["players"]}
    assert players["v5"]["rated_by"] == "evaluation"
    assert players["v9"]["kind"] == "checkpoint"
    assert players["v9"]["rating"] > players["v5"]["rating"] > players["v0"]["rating"] == 0
    assert players["learner@v5"]["rated_by"] == "training"
    assert data["payoff"]["win_rates"][0] == [None, 0.25, 0.0]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_heat_map_is_a_picture(metta, run_dir, suffix):
    outcome = metta("league", "show", "sp", "--heatmap", f"heat.{suffix}")
    assert outcome.code == 0
    assert f"wrote heat.{suffix}" in outcome.err
    start = (run_dir.parents[1] / f"heat.{suffix}").read_bytes()[:5]
    assert start in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_a_picture_of_another_format_is_refused(metta, run_dir):
    outcome = metta("league", "show", "sp", "--heatmap", "heat.gif")
    assert outcome.code == 2
    assert ".png, .svg or .pdf" in outcome.err


def test_a_run_without_opponents_says_how_to_have_some(metta, run_dir):
    (run_dir / "league.json").unlink()
    outcome = metta("league", "show", "sp")
    assert outcome.code == 5
    assert "run 'sp' has no league" in outcome.err
    assert "metta dual-train" in outcome.err
    assert metta("league", "show", "spp").code == 5


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be understood"), ('{"format_version": 2}', "upgrade")]
)
def test_a_file_that_cannot_be_read_is_named(metta, run_dir, text, said):
    (run_dir / "league.json").write_text(text)
    outcome = metta("league", "show", "sp")
    assert outcome.code == 3
    assert "league.json" in outcome.err
    assert said in outcome.err


def test_a_league_of_one_has_nobody_to_play(metta, run_dir):
    (run_dir / "league.json").write_text(json.dumps(REPORT | {"members": [member("v0", 0, 1.0)]}))
    config = {"env": {"name": "laser_tag", "builder": "laser_tag"}, "trainer": {"dual_policy": {}}}
    (run_dir / "config.yaml").write_text(json.dumps(config))
    outcome = metta("league", "evaluate", "sp")
    assert outcome.code == 2
    assert "nobody to play" in outcome.err


def test_an_unknown_player_gets_the_closest_one(metta, run_dir):
    config = {"env": {"name": "laser_tag", "builder": "laser_tag"}, "trainer": {"dual_policy": {}}}
    (run_dir / "config.yaml").write_text(json.dumps(config))
    outcome = metta("league", "evaluate", "sp", "--only", "v55")
    assert outcome.code == 2
    assert "v5" in outcome.err


def test_showing_a_league_imports_nothing_heavy(run_dir):
    code = (
        "import sys; from metta_cli.cli.main import app; "
        "app(['league', 'show', 'sp'], standalone_mode=False); "
        "print([name for name in ('torch', 'mettagrid', 'tensordict', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=run_dir.parents[1]
    )
    assert result.stdout.splitlines()[-1] == "[]"
