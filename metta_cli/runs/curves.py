"""The learning curve of a run, as a picture."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from metta_cli.artifacts.atomic import write_file
from metta_cli.errors import UsageError
from metta_cli.tracking.jsonl import read_metrics

PICTURE_FORMATS = ("pdf", "png", "svg")
# Okabe and Ito's palette: told apart with every kind of colour vision, and in grey.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
REFERENCE_STYLES = {"scripted": (GREEN, (0, (6, 2))), "random": (ORANGE, (0, (2, 2)))}
OTHER_REFERENCE_STYLE = (GREY, (0, (5, 1, 1, 1)))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearningCurve:
    """What is drawn.

    Attributes:
        title: the run, and what it trained on.
        metrics: name -> one value per epoch, NaN where it was not logged.
        references: name -> a mean return per agent to compare with.
    """

    title: str
    metrics: Mapping[str, np.ndarray]
    references: Mapping[str, float] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """Return the values of a metric, NaN throughout if it was never logged."""
        return self.metrics.get(name, np.full(len(self.metrics["agent_steps"]), np.nan))


def plot_run(run_dir: Path, output: Path | None = None) -> Path:
    """Draw return, losses, entropy and KL of a run over its agent steps.

    If `run_dir/evals` holds evaluations in the environment that was trained in, the newest gives the
    returns of the random and scripted baselines to compare with.

    Args:
        run_dir: directory of a run, with its `metrics.jsonl`.
        output: the picture, `.png`, `.svg` or `.pdf`; by default `run_dir/learning_curve.png`.

    Returns:
        The picture that was written.

    Raises:
        NotFoundError: there are no metrics.
        UsageError: no picture can be of that format, or nothing has been logged yet.
        StorageError: the picture cannot be written; an earlier one is untouched.
    """
    output = output or run_dir / "learning_curve.png"
    picture_format = output.suffix[1:].lower()
    if picture_format not in PICTURE_FORMATS:
        raise UsageError(
            f"a picture cannot be written as '{output.name}'", "end its name in .png, .svg or .pdf"
        )
    records = read_metrics(run_dir / "metrics.jsonl")
    if not records:
        raise UsageError(f"nothing has been logged in {run_dir} yet", "wait for the first epoch to end")
    environment = _environment_of(run_dir)
    title = run_dir.resolve().name + (f" on {environment}" if environment else "")
    curve = LearningCurve(title, _columns(records), read_references(run_dir / "evals", environment))
    write_file(output, draw(curve, picture_format))
    return output


def draw(curve: LearningCurve, picture_format: str = "png") -> bytes:
    """Return the picture of a learning curve."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[str, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E6E6E6",
        "legend.frameon": False,
    }
    with rc_context(style):
        figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
        layout = [["return"] * 3, ["loss", "entropy", "kl"]]
        axes: dict[str, Any] = figure.subplot_mosaic(layout, height_ratios=[1.7, 1])
        title_size = 12 if len(curve.title) <= 50 else 7  # a run name may have 128 letters
        axes["return"].set_title(curve.title, loc="left", pad=24, fontsize=title_size, fontweight="bold")
        axes["return"].set_title(_summary(curve), loc="right", pad=24, fontsize=9, color=GREY)
        _draw_return(axes["return"], curve)
        _draw_losses(axes["loss"], axes["entropy"], axes["kl"], curve)
        for axis in axes.values():
            axis.set_xlim(0, 1.02 * max(1.0, float(curve.metrics["agent_steps"][-1])))
            axis.xaxis.set_major_formatter(lambda value, position: compact(value))
            axis.xaxis.get_major_locator().set_params(nbins=6 if axis is axes["return"] else 3)
        file = io.BytesIO()
        figure.savefig(file, format=picture_format)
    return file.getvalue()


def _draw_return(axis: Any, curve: LearningCurve) -> None:
    steps, returns = curve.metrics["agent_steps"], curve.column("episode/return_mean")
    axis.set_xlabel("agent steps")
    axis.set_ylabel("mean episode return\n(reward per agent)")
    known = np.isfinite(returns)
    if not known.any():
        axis.text(0.5, 0.5, "no episode has ended yet", transform=axis.transAxes, ha="center", color=GREY)
        axis.set_yticks([])
    window = smoothing_window(int(known.sum()))
    raw = returns[known]
    axis.plot(steps[known], raw, ".", color=BLUE, alpha=0.25, markersize=4, markeredgewidth=0)
    axis.plot(
        steps[known],
        moving_average(raw, window),
        color=BLUE,
        linewidth=2,
        marker="o" if len(raw) == 1 else None,
        label="trained policy" + (f" (mean over {window} epochs; dots: each epoch)" if window > 1 else ""),
    )
    for name, value in sorted(curve.references.items(), key=lambda item: -item[1]):
        colour, dashes = REFERENCE_STYLES.get(name, OTHER_REFERENCE_STYLE)
        axis.axhline(value, color=colour, linestyle=dashes, linewidth=1.5, label=f"{name} ({value:.3g})")
    axis.margins(y=0.08)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0)


def _draw_losses(loss: Any, entropy: Any, kl: Any, curve: LearningCurve) -> None:
    _draw_line(loss, curve, "losses/policy_loss", ORANGE, "policy")
    _draw_line(loss, curve, "losses/value_loss", PURPLE, "value")
    loss.legend(loc="best")
    _draw_line(entropy, curve, "losses/entropy", GREEN)
    _draw_line(kl, curve, "losses/approx_kl", BLUE)
    for axis, title in ((loss, "losses"), (entropy, "entropy (nat)"), (kl, "approximate KL (nat)")):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("agent steps")


def _draw_line(axis: Any, curve: LearningCurve, name: str, colour: str, label: str | None = None) -> None:
    steps, values = curve.metrics["agent_steps"], curve.column(name)
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    axis.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    smooth = moving_average(values, smoothing_window(len(values)))
    axis.plot(
        steps, smooth, color=colour, linewidth=1.5, label=label, marker="o" if len(values) == 1 else None
    )
    if len(values) > 20:  # the first updates may be far off, and must not flatten the rest
        low, high = np.quantile(values, [0.005, 0.995])
        margin = 0.1 * (high - low) or 0.1
        previous = axis.get_ylim() if len(axis.lines) > 2 else (low, high)
        axis.set_ylim(min(low - margin, previous[0]), max(high + margin, previous[1]))


def _summary(curve: LearningCurve) -> str:
    parts = [f"{compact(curve.metrics['agent_steps'][-1])} agent steps"]
    seconds, speed = curve.column("time/seconds"), curve.column("steps_per_second")
    if np.isfinite(seconds).any():
        elapsed = float(np.nanmax(seconds))
        parts.append(f"{elapsed:.0f} s" if elapsed < 100 else f"{elapsed / 60:.0f} min")
    if np.isfinite(speed).any():
        parts.append(f"{compact(float(np.nanmedian(speed)))} agent steps/s")
    return ", ".join(parts)


def compact(value: float) -> str:
    """Return a count as people write it on an axis, such as `250 k` or `1.5 M`."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}" if value % limit == 0 else f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def smoothing_window(num_points: int) -> int:
    """Return how many epochs a smoothed point averages: a twentieth of all, odd, at least 1."""
    return num_points // 20 | 1


def moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """Return the centred mean of `window` values; towards the ends, of as many as there are on both sides.

    Args:
        values: `[n]`, finite.
        window: odd.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(window // 2, np.minimum(index, index[::-1]))
    return np.asarray((sums[index + half + 1] - sums[index - half]) / (2 * half + 1))


def read_references(evals: Path, environment: str | None) -> dict[str, float]:
    """Return baseline -> mean return per agent from the newest evaluation in an environment.

    Args:
        evals: directory with `evaluation_results.json` files at any depth.
        environment: name of the environment.
    """
    for path in sorted(evals.rglob("evaluation_results.json"), key=lambda path: -path.stat().st_mtime_ns):
        try:
            simulations = json.loads(path.read_text())["simulations"].values()
            for simulation in simulations:
                if simulation["environment"]["name"] == environment and simulation["baselines"]:
                    return {name: float(score["mean"]) for name, score in simulation["baselines"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s is not an evaluation result, and not drawn: %r", path, error)
    return {}


def _environment_of(run_dir: Path) -> str | None:
    path = run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text()) if path.is_file() else None
    environment = config.get("env") if isinstance(config, dict) else None
    return environment.get("name") if isinstance(environment, dict) else None


def _columns(records: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    names = sorted({name for record in records for name in record})
    return {
        name: np.array([record.get(name, np.nan) for record in records], dtype=np.float64) for name in names
    }
