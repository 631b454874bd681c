"""`metta league`: the opponents of a run, and how the learner gets on with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import (
    DeviceOption,
    FormatOption,
    OutputOption,
    ProgressOption,
    WorkersOption,
)
from metta_cli.cli.output import emit, note, table
from metta_cli.cli.plot import find_run
from metta_cli.cli.process import prepare_process

if TYPE_CHECKING:
    from metta_cli.populations.standings import Standings
    from metta_cli.runs.directory import RunDirectory

app = typer.Typer(help="Show the opponents of a run, and let them play each other.")

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run of the data directory, or the path of one.",
        autocompletion=completion.runs_and_directories,
        show_default=False,
    ),
]
HeatmapOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Draw who won how often against whom, as .png, .svg or .pdf.",
        show_default=False,
    ),
]


@app.command("show")
def show(
    run: RunArgument,
    heatmap: HeatmapOption = None,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show opponents, win rates, returns and ratings, each with its interval.

    Win rates are those of the learner in training, older matches decayed. Ratings are in Elo points
    ahead of the first opponent; after `metta league evaluate` they come from matches of fixed policies.
    """
    from metta_cli.runs.league_files import read_standings

    directory = _directory(run)
    _emit(read_standings(directory), directory, heatmap, format_name, output)


@app.command("evaluate")
def evaluate(
    run: RunArgument,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Episodes of every pair.")] = 20,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this player; repeatable.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    progress: ProgressOption = "auto",
    heatmap: HeatmapOption = None,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Play all opponents of a run, its snapshots and its newest checkpoint against each other.

    The matches go to league_evaluation.json in the run and replace those of an earlier evaluation.
    """
    directory = _directory(run)
    prepare_process()
    from metta_cli.cli.progress import create_suite_progress
    from metta_cli.runs.league_evaluation import evaluate_league

    display = create_suite_progress(progress)

    def watch(finished: int, total: int) -> None:
        if display is not None:
            display(directory.run, "every pair", finished, total)

    standings = evaluate_league(
        directory,
        episodes=episodes,
        only=only or [],
        seed=seed,
        device=device or "auto",
        num_workers=workers,
        progress=watch,
    )
    _emit(standings, directory, heatmap, format_name, output)


def _directory(run: str) -> RunDirectory:
    """Return the directory of a run; see `find_run`."""
    from metta_cli.runs.directory import RunDirectory

    path = find_run(run).resolve()
    return RunDirectory(path.parent, path.name)


def _emit(
    standings: Standings,
    directory: RunDirectory,
    heatmap: Path | None,
    format_name: str | None,
    output: str | None,
) -> None:
    """Print the standings, and draw the matrix if that is wanted."""
    rows, columns = standings.text_rows()
    emit(
        standings.rows(),
        columns=standings.COLUMNS,
        format_name=format_name,
        destination=output,
        data=standings.to_json(),
        text=f"{standings.title()}\n\n{table(rows, columns)}",
    )
    if heatmap is not None:
        from metta_cli.runs.league_files import draw_heatmap

        matrix = standings.matrix()
        note(f"wrote {draw_heatmap(matrix, f'{directory.run}, {matrix.source}', heatmap)}")
