"""`metta train` and `metta plot`."""

import csv
import io
import json
import shlex
from pathlib import Path

import pytest
import yaml

from metta_cli.cli.train import duration

TINY = [
    "env=navigation/simple",
    "device=cpu",
    "trainer.batch_size=256",
    "trainer.minibatch_size=256",
    "trainer.bptt_horizon=16",
    "trainer.forward_pass_minibatch_target_size=16",
    "trainer.num_workers=0",
    "policy.args.hidden_size=16",
]


def test_the_printed_configuration_says_where_every_value_is_from(metta):
    Path("mine.yaml").write_text("trainer:\n  batch_size: 4096\n  minibatch_size: 1024\n")
    words = ["--config", "mine.yaml", "trainer.minibatch_size=512", "--seed", "7", "--print-config"]
    rows = csv.DictReader(io.StringIO(metta("train", *words, "--format", "csv").out))
    values = {row["key"]: (row["value"], row["origin"]) for row in rows}
    assert values["trainer.batch_size"] == ("4096", "mine.yaml:2")
    assert values["trainer.minibatch_size"] == ("512", "trainer.minibatch_size=512")
    assert values["seed"] == ("7", "--seed")
    assert values["trainer.vtrace.vtrace_rho_clip"][1] == "default"


def test_every_option_sets_its_key(metta):
    options = (
        "--run r --env laser_tag --policy fast --seed 3 --device cpu --total-timesteps 10 --num-workers 2"
    )
    outcome = metta("train", *options.split(), "--data-dir", "d", "--print-config", "--format", "json")
    config = json.loads(outcome.out)["config"]
    assert [config[key] for key in ("run", "seed", "device", "data_dir")] == ["r", 3, "cpu", "d"]
    assert (config["env"]["name"], config["policy"]["name"]) == ("laser_tag", "fast")
    assert (config["trainer"]["total_timesteps"], config["trainer"]["num_workers"]) == (10, 2)


def test_words_and_options_may_be_mixed_and_options_win(metta):
    outcome = metta("train", "seed=3", "--seed", "4", "run=x", "--print-config", "--format", "json")
    config = json.loads(outcome.out)["config"]
    assert (config["seed"], config["run"]) == (4, "x")


def test_the_printed_configuration_is_a_configuration_file(metta):
    words = ["env=laser_tag", "trainer.batch_size=4096", "wandb.tags=[a, b]", "user=example"]
    printed = metta("train", *words, "--print-config", "-o", "printed.yaml")
    again = metta("train", "--config", "printed.yaml", "--print-config", "--format", "yaml")
    assert printed.code == again.code == 0
    before, after = yaml.safe_load(Path("printed.yaml").read_text()), yaml.safe_load(again.out)
    assert before == after
    assert not {"user", "hardware"} & set(before)  # names of files that may not be there any more
    assert before["wandb"]["tags"] == ["a", "b"]
    assert "# wandb.tags=[a, b]" in Path("printed.yaml").read_text()


def test_printing_the_configuration_trains_nothing(metta):
    metta("train", "run=x", "--print-config")
    assert not Path("train_dir").exists()


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (
            "navigation/simple",
            2,
            "'navigation/simple' is not a setting",
            "did you mean env=navigation/simple?",
        ),
        ("env=navigation/simpel", 2, "unknown environment 'navigation/simpel'", "'navigation/simple'"),
        ("policy=fsat", 2, "unknown policy 'fsat'", "'fast'"),
        ("trainer.batchsize=3", 2, "unknown key 'trainer.batchsize'", "'trainer.batch_size'"),
        ("trainer.batch_size=many", 2, "trainer.batch_size=many", ""),
        ("trainer.batch_size=512 trainer.minibatch_size=500", 2, "must divide", "trainer.minibatch_size"),
        ("--config missing.yaml", 5, "missing.yaml", ""),
        ("--config dmeo", 2, "unknown configuration 'dmeo'", "'demo'"),
        ("policy_uri=random", 2, "no weights to train from", "leave policy_uri out"),
        ("--run a/b", 2, "'a/b'", ""),
        ("--device cuda:77", 2, "cuda:77", "use device=auto, or one of: "),
        ("--total-timesteps 0", 2, "--total-timesteps", ""),
    ],
)
def test_a_mistake_is_told_in_two_lines_and_makes_no_run(metta, words, code, message, hint):
    outcome = metta("train", *words.split())
    first, *rest = outcome.err.splitlines()
    assert outcome.code == code
    assert outcome.out == ""
    assert first.startswith("error: ")
    assert message in first
    assert len(rest) <= 1
    assert hint in "".join(rest)
    assert not list(Path().glob("train_dir/*/config.yaml"))


def test_a_run_ends_with_where_it_is_and_how_it_is_evaluated(metta):
    words = [*TINY, "--run", "first", "--total-timesteps", "512", "--progress", "none"]
    outcome = metta("train", *words)
    assert outcome.code == 0
    assert "512 agent steps (2 epochs)" in outcome.out
    assert outcome.err == ""
    command = shlex.split(outcome.out.rpartition("Evaluate: ")[2])
    assert command[:2] == ["metta", "eval"]
    evaluation = metta(*command[1:], "--episodes", "1", "--format", "json")
    assert json.loads(evaluation.out)["policy_uri"] == "train_dir/first"


def test_the_last_line_names_what_was_changed_of_the_environment(metta):
    words = [*TINY, "--env", "laser_tag", "--total-timesteps", "256", "--progress", "none"]
    outcome = metta("train", *words, "--run", "first", "env.args.max_steps=7")
    command = shlex.split(outcome.out.rpartition("Evaluate: ")[2])
    assert command == ["metta", "eval", "train_dir/first", "--env", "laser_tag", "env.args.max_steps=7"]
    options = ["--episodes", "1", "--no-baselines", "--format", "json"]
    (simulation,) = json.loads(metta(*command[1:], *options).out)["simulations"].values()
    assert simulation["environment"]["args"]["max_steps"] == 7


def test_a_run_goes_on_or_is_left_alone_and_is_drawn(metta):
    words = [*TINY, "run=first", "--progress", "none", "--format", "json"]
    first = json.loads(metta("train", *words, "--total-timesteps", "256").out)
    assert (first["run_dir"], first["agent_steps"], first["epoch"]) == ("train_dir/first", 256, 1)
    refused = metta("train", *words, "--total-timesteps", "512", "--no-resume")
    assert refused.code == 2
    assert "exists already" in refused.err
    second = json.loads(metta("train", *words, "--total-timesteps", "512").out)
    assert (second["agent_steps"], second["epoch"]) == (512, 2)
    for run, picture in (("first", "train_dir/first/learning_curve.png"), ("train_dir/first", "x.svg")):
        Path(picture).unlink(missing_ok=True)
        options = ["-o", picture] if picture == "x.svg" else []
        assert metta("plot", run, *options).out == f"{picture}\n"
        assert Path(picture).stat().st_size > 1000


def test_a_run_that_is_not_there_cannot_be_drawn(metta):
    Path("train_dir/first/checkpoints").mkdir(parents=True)
    outcome = metta("plot", "frist")
    assert outcome.code == 5
    assert outcome.err == "error: there is no run 'frist'\nhint: did you mean 'first'?\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_a_duration_reads_as_people_say_it(seconds, text):
    assert duration(seconds) == text
