"""`metta dual-train` and `metta eval --npc`."""

import json
import shutil
from pathlib import Path

import pytest

from metta_cli.artifacts.checkpoints import list_checkpoints
from metta_cli.tracking.jsonl import read_metrics
from metta_cli.tracking.metrics import check_names

TINY = [
    "device=cpu",
    "trainer.batch_size=256",
    "trainer.minibatch_size=256",
    "trainer.bptt_horizon=16",
    "trainer.forward_pass_minibatch_target_size=16",
    "trainer.num_workers=0",
    "trainer.simulation.evaluate_interval=0",
    "policy.args.hidden_size=16",
]
GAME = ["env=laser_tag_small", "env.args.max_steps=16", *TINY]
DOCUMENTED = [
    f"dual_policy/{name}"
    for name in (
        "policy_a_reward",
        "policy_a_reward_total",
        "npc_reward",
        "npc_reward_total",
        "combined_reward",
        "combined_reward_total",
        "policy_a_agent_count",
        "npc_agent_count",
    )
]


def train(metta, run, *words, steps=768, command="dual-train"):
    options = ["--run", run, "--total-timesteps", str(steps), "--progress", "none"]
    return metta(command, *GAME, *words, *options)


@pytest.fixture
def old(metta):
    """A run to play against."""
    assert train(metta, "old", command="train", steps=256).code == 0
    return "train_dir/old"


def test_a_run_is_trained_against_an_older_one_and_both_sides_are_measured(metta, old):
    outcome = train(metta, "new", old)
    assert outcome.code == 0, outcome.err
    assert f"Loaded NPC policy from checkpoint: {old}" in outcome.err
    initialized = outcome.err.partition("Dual-policy system initialized: ")[2].splitlines()[0]
    shown = json.loads(initialized)
    assert (shown["policy_a_agents"], shown["npc_agents"], shown["npc"]) == (16, 16, {old: 1.0})
    last = read_metrics(Path("train_dir/new/metrics.jsonl"))[-1]
    assert set(DOCUMENTED) <= set(last)
    check_names(last)
    total = last["dual_policy/policy_a_reward_total"] + last["dual_policy/npc_reward_total"]
    assert last["dual_policy/combined_reward_total"] == pytest.approx(total)
    assert last["agent_steps"] == 768  # of the learner alone
    assert 0 <= last[f"dual_policy/npc/{old}/win_rate"] <= 1


def test_train_with_the_documented_settings_does_the_same(metta, old):
    settings = [
        "trainer.dual_policy.enabled=true",
        "trainer.dual_policy.npc_type=checkpoint",
        f"trainer.dual_policy.checkpoint_npc.checkpoint_path={old}",
    ]
    assert train(metta, "a", *settings, command="train").code == 0
    assert train(metta, "b", old).code == 0
    first, second = (read_metrics(Path(f"train_dir/{run}/metrics.jsonl"))[-1] for run in "ab")
    losses = [name for name in first if name.startswith(("losses/", "dual_policy/"))]
    assert len(losses) > 15
    assert [first[name] for name in losses] == [second[name] for name in losses]


def test_counts_of_matches_go_on_with_the_run(metta, old):
    train(metta, "r", old, steps=512)
    train(metta, "r", old, steps=1024)
    counts = [
        record.get(f"dual_policy/npc/{old}/episodes", 0)
        for record in read_metrics(Path("train_dir/r/metrics.jsonl"))
    ]
    assert counts == sorted(counts)
    assert counts[1] > 0
    assert counts[-1] > counts[1]


def test_what_follows_a_checkpoint_is_the_same_in_every_continuation(metta, old):
    train(metta, "a", old, "--assignment", "team", steps=512)
    shutil.copytree("train_dir/a", "train_dir/b")
    for info in list_checkpoints(Path("train_dir/b/checkpoints")):
        info.path.rename(info.path.with_name(f"b:v{info.epoch}"))
    for run in "ab":
        train(metta, run, old, "--assignment", "team", steps=1024)
    first, second = (read_metrics(Path(f"train_dir/{run}/metrics.jsonl"))[-1] for run in "ab")
    names = [name for name in first if name.startswith(("losses/", "dual_policy/"))]
    assert [first[name] for name in names] == [second[name] for name in names]


def test_an_opponent_whose_server_cannot_be_reached_is_named(metta, monkeypatch):
    pytest.importorskip("s3fs", reason="needs the extra metta-cli[s3]")
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    outcome = metta("dual-train", *GAME, "s3://bucket/runs/old", "--run", "r", "--total-timesteps", "256")
    assert outcome.code == 1
    assert "Could not load NPC policy from s3://bucket/runs/old: the S3 server" in outcome.err
    assert not Path("train_dir/r").exists()


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        ("", 2, "nothing says who the opponent is", "metta dual-train train_dir/RUN"),
        ("train_dir/odl", 5, "Could not load NPC policy from train_dir/odl", ""),
        ("notes.pt", 3, "Checkpoint NPC policy must be a PyTorch module", ""),
        ("mock://nobody", 2, "unknown built-in player 'nobody'", ""),
        ("random --policy-agents-pct 0.1", 2, "leaves none to the learner", "0.25, 0.5, 0.75"),
        (
            "train_dir/old env.args.observation_size=9",
            3,
            "cannot play here",
            "trained in an environment like",
        ),
        ("random random2 ", 2, "there are 2", ""),
        ("random --policy-agents-pct 1.5", 2, "--policy-agents-pct", ""),
    ],
)
def test_an_opponent_that_cannot_play_stops_the_run_before_it_begins(metta, old, words, code, message, hint):
    Path("notes.pt").write_text("no weights")
    outcome = metta("dual-train", *GAME, *words.split(), "--run", "r", "--total-timesteps", "256")
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert hint in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("train_dir/r").exists()


def test_an_opponent_with_other_features_is_matched_by_name_and_that_is_said_once(metta, old):
    outcome = train(metta, "r", old, "env=arena/combat_2x4", "env.args.max_steps=16", steps=256)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("matched by name: features that are new to the policy: inv:ore_red") == 1


def test_a_run_that_goes_on_without_its_opponent_says_so(metta, old):
    train(metta, "r", old, steps=256)
    assert "goes on without" in train(metta, "r", steps=512, command="train").err


def test_what_an_hour_costs_is_shown_in_the_metrics_and_the_result(metta, monkeypatch):
    monkeypatch.setenv("METTA_HOURLY_COST", "3600000")
    outcome = train(metta, "r", "random", "--format", "json", steps=512)
    assert "cost so far" in outcome.err
    result = json.loads(outcome.out)
    records = read_metrics(Path("train_dir/r/metrics.jsonl"))
    assert 0 < records[0]["cost/total"] < records[1]["cost/total"] == result["cost"]
    per_million = records[1]["cost/per_million_agent_steps"]
    assert per_million == pytest.approx(result["cost"] * 1e6 / 512)
    more = json.loads(train(metta, "r", "random", "--format", "json", steps=768).out)
    assert more["cost"] > result["cost"]


def test_a_policy_is_evaluated_among_opponents(metta, old):
    words = ["eval", old, "--npc", "random", "--npc", old, "--env", "laser_tag_small", "--episodes", "2"]
    outcome = metta(*words, "--policy-agents-pct", "0.25", "--format", "json", "--progress", "none")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)["encounters"]
    assert [(row["npc"], row["focal_agents"]) for row in rows] == [
        ("random", 3),
        ("random", 1),
        (old, 3),
        (old, 1),
    ]
    assert all(row["margin_low"] is not None for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--policy-agents-pct 0.5", "need an opponent"),
        ("--npc random --save-replays", "exclude each other"),
        ("--npc random --policy-agents-pct 1.0", "leaves one side without agents"),
        ("--npc random --policy-agents-pct 0.1", "leaves none to the"),
        ("--npc rnadom", "Could not load NPC policy from rnadom"),
    ],
)
def test_options_about_opponents_that_make_no_sense_are_refused(metta, options, message):
    outcome = metta("eval", "random", "--env", "laser_tag_small", *options.split())
    assert outcome.code in (2, 5)
    assert message in outcome.err


def test_an_opponent_that_fails_stops_the_run_with_its_name_and_a_checkpoint(metta, monkeypatch):
    calls = []

    def act(self, turn):
        calls.append(1)
        if len(calls) > 40:  # an epoch has 16 steps
            raise RuntimeError("out of ideas")
        return turn.noise.astype(int)

    monkeypatch.setattr("metta_cli.populations.players.RandomPlayer.act", act)
    outcome = train(metta, "r", "random", steps=2560)
    assert outcome.code == 3
    assert "opponent random failed in 'laser_tag_small': RuntimeError: out of ideas" in outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in Path("train_dir/r/checkpoints").iterdir()] == ["r:v2"]
    assert train(metta, "r", "noop", steps=768).code == 0
    assert [record["epoch"] for record in read_metrics(Path("train_dir/r/metrics.jsonl"))] == [1, 2, 3]


def test_a_misspelled_built_in_player_is_recognised(metta):
    outcome = metta("dual-train", "scriptd", "env=laser_tag_small")
    assert outcome.code == 5
    assert "Could not load NPC policy from scriptd" in outcome.err
    assert "did you mean 'scripted'?" in outcome.err
