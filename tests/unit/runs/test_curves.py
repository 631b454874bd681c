import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metta_cli.errors import NotFoundError, StorageError, UsageError
from metta_cli.runs.curves import (
    LearningCurve,
    compact,
    draw,
    moving_average,
    plot_run,
    read_references,
    smoothing_window,
)
from metta_cli.tracking.jsonl import JsonlTracker


def write_run(run_dir: Path, num_epochs: int, *, with_returns: bool = True) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    tracker = JsonlTracker(run_dir / "metrics.jsonl")
    for epoch in range(1, num_epochs + 1):
        metrics = {
            "losses/policy_loss": 0.01,
            "losses/value_loss": 1 / epoch,
            "losses/entropy": 2.0,
            "losses/approx_kl": math.nan if epoch == 2 else 0.01,
            "time/seconds": 2.0 * epoch,
            "steps_per_second": 500.0,
        }
        if with_returns and epoch > 1:
            metrics["episode/return_mean"] = epoch / num_epochs
        tracker.log(metrics, agent_steps=1000 * epoch, epoch=epoch)
    tracker.close()
    (run_dir / "config.yaml").write_text("env:\n  name: navigation/simple\n")


def write_evaluation(run_dir: Path, name: str, environment: str, random: float, age_s: int = 0) -> Path:
    path = run_dir / "evals" / name / "evaluation_results.json"
    path.parent.mkdir(parents=True)
    baselines = {"random": {"mean": random, "low": 0.0}, "scripted": {"mean": 0.9, "low": None}}
    other = {"environment": {"name": "other"}, "baselines": {"random": {"mean": 77.0}}}
    simulation: dict[str, Any] = {"environment": {"name": environment}, "baselines": baselines}
    path.write_text(json.dumps({"simulations": {"a": other, "b": simulation}}))
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path


def size_of_png(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("num_epochs", [1, 2, 50])
@pytest.mark.parametrize("with_returns", [True, False])
def test_a_run_becomes_a_picture_however_short_it_is(
    tmp_path: Path, num_epochs: int, with_returns: bool
) -> None:
    write_run(tmp_path / "walker", num_epochs, with_returns=with_returns)
    path = plot_run(tmp_path / "walker")
    assert path == tmp_path / "walker" / "learning_curve.png"
    assert size_of_png(path.read_bytes()) == (1350, 900)


def test_baselines_of_an_evaluation_are_drawn(tmp_path: Path) -> None:
    write_run(tmp_path, 5)
    without = plot_run(tmp_path).read_bytes()
    write_evaluation(tmp_path, "eval_a", "navigation/simple", 0.1)
    assert plot_run(tmp_path).read_bytes() != without


def test_baselines_come_from_the_newest_evaluation_in_the_same_environment(tmp_path: Path) -> None:
    assert read_references(tmp_path / "evals", "navigation/simple") == {}
    write_evaluation(tmp_path, "old", "navigation/simple", 0.1, age_s=100)
    write_evaluation(tmp_path, "new", "navigation/simple", 0.2, age_s=10)
    write_evaluation(tmp_path, "elsewhere", "laser_tag", 0.3)
    assert read_references(tmp_path / "evals", "navigation/simple") == {"random": 0.2, "scripted": 0.9}
    assert read_references(tmp_path / "evals", None) == {}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"simulations": {"a": {}}}'])
def test_a_broken_evaluation_is_reported_and_not_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    write_evaluation(tmp_path, "good", "navigation/simple", 0.1, age_s=100)
    write_evaluation(tmp_path, "bad", "navigation/simple", 0.2).write_text(content)
    assert read_references(tmp_path / "evals", "navigation/simple") == {"random": 0.1, "scripted": 0.9}
    assert "bad/evaluation_results.json is not an evaluation result" in caplog.text


@pytest.mark.parametrize(
    ("name", "start"), [("curve.svg", b"<?xml"), ("curve.pdf", b"%PDF"), ("c.PNG", b"\x89PNG")]
)
def test_the_name_of_the_picture_says_its_format(tmp_path: Path, name: str, start: bytes) -> None:
    write_run(tmp_path, 3)
    assert plot_run(tmp_path, tmp_path / name).read_bytes().startswith(start)


def test_the_picture_names_run_environment_and_time() -> None:
    metrics = {
        "agent_steps": np.array([1000.0, 2000.0]),
        "time/seconds": np.array([60.0, 150.0]),
        "steps_per_second": np.array([10.0, 12_000.0]),
    }
    curve = LearningCurve("walker on navigation/simple", metrics)
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none"}):
        text = draw(curve, "svg").decode()
    assert "walker on navigation/simple" in text
    assert "2 k agent steps, 2 min, 6 k agent steps/s" in text
    assert "no episode has ended yet" in text


def test_mistakes_are_told_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no metrics at .* \(give the directory of a run"):
        plot_run(tmp_path)
    write_run(tmp_path, 3)
    with pytest.raises(UsageError, match=r"cannot be written as 'curve\.gif' \(end its name in \.png"):
        plot_run(tmp_path, tmp_path / "curve.gif")
    with pytest.raises(StorageError, match="missing"):
        plot_run(tmp_path, tmp_path / "missing" / "curve.png")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match="nothing has been logged"):
        plot_run(tmp_path)


@pytest.mark.parametrize("num_values", [0, 1, 2, 5, 11])
@pytest.mark.parametrize("window", [1, 3, 7])
def test_smoothing_is_a_centred_mean(num_values: int, window: int) -> None:
    values = np.random.default_rng(3).normal(size=num_values)
    expected = []
    for i in range(num_values):
        reach = min(window // 2, i, num_values - 1 - i)
        expected.append(sum(values[i - reach : i + reach + 1]) / (2 * reach + 1))
    np.testing.assert_allclose(moving_average(values, window), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("num_points", "window"), [(0, 1), (1, 1), (39, 1), (40, 3), (60, 3), (100, 5), (1000, 51)]
)
def test_the_window_is_odd_and_grows_with_the_run(num_points: int, window: int) -> None:
    assert smoothing_window(num_points) == window


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (999, "999"),
        (1000, "1 k"),
        (16384, "16.4 k"),
        (2_500_000, "2.5 M"),
        (1e10, "10 G"),
    ],
)
def test_counts_are_short(value: float, text: str) -> None:
    assert compact(value) == text
