"""`metta eval-external`."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml

from tests.unit.policies import puffer_reference as reference

SHORT = ["--num-episodes", "1", "--workers", "0", "--progress", "none", "--no-baselines"]


class RunsCode:
    def __reduce__(self):
        return (os.system, ("touch it_ran",))


def test_any_address_can_be_given_and_the_results_have_their_place(metta):
    outcome = metta("eval-external", "--policy-path", "random", "--suite", "memory", *SHORT)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0] == "Evaluation Results:"
    saved = Path("eval_results/eval_random_memory/evaluation_results.yaml")
    assert outcome.out.splitlines()[-1] == f"Results saved to: {saved}"
    assert yaml.safe_load(saved.read_text())["suite"] == "memory"


def test_a_file_of_weights_is_evaluated_and_its_result_says_what_was_played(metta):
    torch.manual_seed(0)
    torch.save(reference.Recurrent(reference.Spaces()).state_dict(), "metta.pt")
    outcome = metta("eval-external", "--policy-path", "metta.pt", *SHORT)
    lines = outcome.out.splitlines()
    assert outcome.code == 0, outcome.err
    assert lines[:2] == ["Evaluation Results:", "=" * 50]
    assert lines[2].startswith("Average simulation score: ")
    assert lines[7] == "navigation:"
    assert lines[8].startswith("  simple: ")
    saved = Path("eval_results/eval_metta_navigation_single/evaluation_results.yaml")
    assert lines[-1] == f"Results saved to: {saved}"
    policy = yaml.safe_load(saved.read_text())["provenance"]["policy"]
    assert policy["architecture"]["name"] == "puffer_recurrent"
    assert policy["recognised_by"]
    assert len(policy["sha256"]["metta.pt"]) == 64
    assert "metta.pt is puffer_recurrent: " in outcome.err
    assert "shown today's world in the terms of July 2025" in outcome.err


def test_the_old_name_of_the_suite_option_and_a_name_for_the_results(metta):
    words = ["--simulation-suite", "memory", "--run-name", "my run", "--output-dir", "here", "--seed", "4"]
    outcome = metta("eval-external", "--policy-path", "noop", *words, *SHORT, "--format", "json")
    data = json.loads(outcome.out)
    assert (data["suite"], data["seed"]) == ("memory", 4)
    assert [path.name for path in Path("here").iterdir()] == ["my_run"]


def test_a_file_that_runs_code_is_refused_and_named(metta):
    torch.save({"weight": torch.zeros(2), "payload": RunsCode()}, "evil.pt")
    outcome = metta("eval-external", "--policy-path", "evil.pt", *SHORT)
    first, second = outcome.err.splitlines()
    assert outcome.code == 3
    assert first.startswith("error: Failed to load policy: evil.pt is more than weights")
    assert "posix.system" in first
    assert "--allow-pickle" in second
    assert not Path("it_ran").exists()
    assert not Path("eval_results").exists()


def directory(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("write", "message", "code"),
    [
        (lambda path: path.write_bytes(b""), "empty", 3),
        (lambda path: path.write_text("just some text, and more of it"), "", 3),
        (lambda path: path.write_bytes(b"\x80\x02" + bytes(40)), "", 3),
        (lambda path: torch.save({"w": torch.full((3,), torch.nan)}, path), "", 3),
        (directory, "neither a run nor a checkpoint", 5),
    ],
    ids=["empty", "text", "garbage", "nan", "directory"],
)
def test_a_file_that_holds_no_weights_is_told_in_two_lines(metta, write, message, code):
    write(Path("x.pt"))
    outcome = metta("eval-external", "--policy-path", "x.pt", *SHORT)
    assert outcome.code == code
    assert outcome.err.startswith("error: Failed to load policy: x.pt ")
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        ("", 2, "--policy-path", "metta eval-external --help"),
        (
            "--policy-path weigths.pt",
            5,
            "Failed to load policy: there is no file",
            "did you mean 'weights.pt'?",
        ),
        ("--policy-path weights.pt --suite lasertag", 2, "unknown suite", "'laser_tag'"),
        ("--policy-path weights.pt --device cuda", 2, "cuda", "cpu"),
        ("--policy-path weights.pt --pytorch-config nothing.yaml", 5, "no file nothing.yaml", ""),
        ("--policy-path weights.pt --pytorch-config trusting.yaml", 2, "trust cannot be configured", ""),
        (f"--policy-path weights.pt --sha256 {'0' * 64}", 3, "is not the file that was asked for", ""),
    ],
)
def test_a_mistake_is_told_in_two_lines_and_writes_nothing(metta, words, code, message, hint):
    torch.save({"w": torch.zeros(3)}, "weights.pt")
    Path("trusting.yaml").write_text("allow_pickle: true\n")
    outcome = metta("eval-external", *words.split(), *SHORT)
    first, *rest = outcome.err.splitlines()
    assert outcome.code == code, outcome.err
    assert message in first
    assert len(rest) <= 1
    assert hint in "".join(rest)
    assert not Path("eval_results").exists()
