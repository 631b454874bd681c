"""`metta list-runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metta_cli.cli.options import DataDirectoryOption, OutputOption, choice
from metta_cli.cli.output import emit, note, table, write
from metta_cli.cli.process import prepare_process

if TYPE_CHECKING:
    from metta_cli.runs.listing import ListedRun

FORMATS = ("table", "uris", "json", "csv", "yaml")
SOURCES = ("all", "local", "wandb", "s3")
TABLE_COLUMNS = ("run_name", "score", "created", "state", "source", "uri")
COLUMNS = (
    "name",
    "score",
    "created_at",
    "state",
    "sources",
    "uri",
    "uris",
    "agent_steps",
    "environment",
    "tags",
    "sweep",
)
DEFAULT_PROJECT = "metta"
EPILOG = """\b
Examples:
  metta list-runs --limit 10
  metta list-runs --sort score --filter 'environment=navigation/*'
  metta dual-train "$(metta list-runs --format uris --limit 1)"
"""


SourceOption = Annotated[
    str, typer.Option(**choice("source", SOURCES), help="Where to look; all takes what can be reached.")
]
EntityOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Team or user on W&B.", show_default=False)
]
ProjectOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Project on W&B.", show_default=False)
]
BucketOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="s3://BUCKET/FOLDER", help="What metta push wrote to; repeatable.", show_default=False
    ),
]
LimitOption = Annotated[int, typer.Option(min=0, metavar="N", help="How many to show; 0 is all.")]
StateOption = Annotated[
    str | None,
    typer.Option(
        metavar="STATE", help="Only these, such as finished, running or stopped.", show_default=False
    ),
]
SortOption = Annotated[
    str,
    typer.Option(
        metavar="KEY",
        help="created, score, agent_steps, name or state; newest and best first, -KEY turns it round.",
    ),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="EXPRESSION",
        help="Such as name=walker*, 'score>0.5' or state!=running; repeatable, all must hold.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        **choice("format", FORMATS),
        help="How to print them; uris prints one address a line. By default what the suffix of -o says,"
        " else table.",
        show_default=False,
    ),
]


def list_runs(
    source: SourceOption = "all",
    entity: EntityOption = None,
    project: ProjectOption = None,
    bucket: BucketOption = None,
    limit: LimitOption = 20,
    state: StateOption = None,
    sort: SortOption = "created",
    filters: FilterOption = None,
    data_dir: DataDirectoryOption = None,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List runs on this machine, on W&B and on S3, the newest first; each run once."""
    prepare_process()
    from metta_cli.config.settings import read_settings
    from metta_cli.runs.listing import Query
    from metta_cli.runs.listing import list_runs as find_runs

    settings = read_settings()
    buckets = bucket or [part.strip() for part in (settings.bucket or "").split(",") if part.strip()]
    query = Query(
        data_dir=Path(data_dir or settings.data_dir),
        source=source,
        entity=entity,
        project=project,
        buckets=buckets,
        state=state,
        filters=filters or (),
        sort=sort,
        limit=limit,
    )
    found = find_runs(query, ask_project)
    for remark in found.remarks:
        note(remark)
    _print(found.runs, format_name, output)
    if found.num_found > len(found.runs):
        note(f"the first {len(found.runs)}; there are more (--limit N, 0 for all)")


def ask_project() -> str:
    """Return the project to look into, where W&B's settings name none."""
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        return str(typer.prompt("W&B project", default=DEFAULT_PROJECT, err=True))
    note(f"W&B project {DEFAULT_PROJECT}, because neither --project nor W&B's settings name another")
    return DEFAULT_PROJECT


def _print(runs: list[ListedRun], format_name: str | None, output: str | None) -> None:
    if format_name == "uris":
        uris = [run.uri for run in runs if run.uri is not None]
        if uris:
            write("\n".join(uris), output)
        else:
            note("no run with a checkpoint was found")
        return
    rows = [_row(run) for run in runs]
    shown = [
        {
            "run_name": row["name"],
            "score": "N/A" if row["score"] is None else f"{row['score']:.4g}",
            "created": (row["created_at"] or "")[:10],
            "state": row["state"],
            "source": ", ".join(row["sources"]),
            "uri": row["uri"] or "(no checkpoint yet)",
        }
        for row in rows
    ]
    emit(
        rows,
        columns=COLUMNS,
        format_name=format_name,
        destination=output,
        text=table(shown, TABLE_COLUMNS) if shown else None,
        empty="no runs found",
    )


def _row(run: ListedRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "score": run.score,
        "created_at": None if run.created_at is None else run.created_at.isoformat(timespec="seconds"),
        "state": run.state,
        "sources": list(run.uris),
        "uri": run.uri,
        "uris": run.uris,
        "agent_steps": run.agent_steps,
        "environment": run.environment,
        "tags": run.tags,
        "sweep": run.sweep,
    }
