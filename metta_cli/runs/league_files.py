"""What a run keeps of its league: reading the files, and the payoff matrix as a picture. No torch."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from metta_cli.artifacts.atomic import write_file
from metta_cli.errors import IncompatibleError, NotFoundError, UsageError
from metta_cli.populations.standings import PayoffMatrix, Standings
from metta_cli.runs.directory import RunDirectory

FORMAT_VERSION = 1
PICTURE_FORMATS = ("pdf", "png", "svg")


def read_standings(directory: RunDirectory) -> Standings:
    """Return how the league of a run stands.

    Raises:
        NotFoundError: the run has no league.
        IncompatibleError: a file of it is damaged, or of a newer version.
    """
    if not directory.league_report.is_file():
        raise NotFoundError(
            f"run '{directory.run}' has no league: there is no {directory.league_report}",
            "the first epoch with opponents writes it: metta dual-train trainer.dual_policy=self_play",
        )
    evaluation = directory.league_evaluation
    return Standings(
        read_report(directory.league_report), read_report(evaluation) if evaluation.is_file() else None
    )


def read_report(path: Path) -> dict[str, Any]:
    """Return the content of a file that a league wrote.

    Raises:
        IncompatibleError: it is damaged, or of a newer version.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        version = content["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise IncompatibleError(
            f"{path} cannot be understood: {error}", "the next epoch, or evaluation, writes it anew"
        ) from error
    if version != FORMAT_VERSION:
        raise IncompatibleError(
            f"{path} has format {version}, this metta reads format {FORMAT_VERSION}",
            "upgrade with `pip install -U metta-cli`",
        )
    return content


def draw_heatmap(matrix: PayoffMatrix, title: str, output: Path) -> Path:
    """Write the win rates of a league as a picture: blue rows win, red rows lose, grey has not been played.

    Args:
        matrix: who won how often.
        title: stands above it.
        output: `.png`, `.svg` or `.pdf`.

    Raises:
        UsageError: no picture can be of that format, or nobody has played.
        StorageError: it cannot be written; an earlier one is untouched.
    """
    picture_format = output.suffix[1:].lower()
    if picture_format not in PICTURE_FORMATS:
        raise UsageError(
            f"a picture cannot be written as '{output.name}'", "end its name in .png, .svg or .pdf"
        )
    if not matrix.matches.any():
        raise UsageError("no match of the league has ended yet", "wait for the first episodes to end")
    from matplotlib.figure import Figure

    height, width = matrix.win_rates.shape
    size = (3.4 + 0.55 * width, 2.2 + 0.45 * height)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axis: Any = figure.subplots()
    axis.set_facecolor("#DDDDDD")
    image = axis.imshow(matrix.win_rates, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(width), [_short(name) for name in matrix.columns], rotation=45, ha="right")
    axis.set_yticks(range(height), [_short(name) for name in matrix.rows])
    axis.tick_params(labelsize=8, length=0)
    axis.spines[:].set_visible(False)
    for row, column in np.argwhere(matrix.matches > 0):
        rate = matrix.win_rates[row, column]
        colour = "white" if abs(rate - 0.5) > 0.3 else "black"
        axis.text(column, row, f"{rate:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_xlabel("against")
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    figure.colorbar(image, ax=axis, label="win rate of the row (draws count half)", shrink=0.9)
    file = io.BytesIO()
    figure.savefig(file, format=picture_format)
    write_file(output, file.getvalue())
    return output


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"...{name[-25:]}"
