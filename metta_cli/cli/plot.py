"""`metta plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metta_cli.cli import completion
from metta_cli.cli.output import write
from metta_cli.cli.process import prepare_process
from metta_cli.errors import NotFoundError, suggestion


def plot(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run of the data directory, or the path of one.",
            autocompletion=completion.runs_and_directories,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="By default learning_curve.png in the run.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw the learning curve of a run, and print where the picture is."""
    run_dir = find_run(run)
    prepare_process()
    from metta_cli.runs.curves import plot_run

    write(str(plot_run(run_dir, output)))


def find_run(run: str) -> Path:
    """Return the directory of a run.

    Raises:
        NotFoundError: there is none.
    """
    known = {path.name: path for path in completion.run_directories()}
    if Path(run).is_dir():
        return Path(run)
    if run not in known:
        raise NotFoundError(f"there is no run '{run}'", suggestion(run, known))
    return known[run]
