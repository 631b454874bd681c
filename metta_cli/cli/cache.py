"""`metta cache`: what was downloaded, whether it is intact, and how to get rid of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metta_cli.cli.options import FormatOption, OutputOption
from metta_cli.cli.output import emit, note, table
from metta_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from metta_cli.artifacts.cache import CacheEntry

app = typer.Typer(help="Show, verify and remove what was downloaded from W&B and S3.")

COLUMNS = ("address", "version", "bytes", "files", "downloaded", "used")
TABLE_COLUMNS = ("address", "size", "files", "downloaded", "used")
PROBLEM_COLUMNS = ("state", "problem")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_age(text: str) -> float:
    """Return the seconds of `90s`, `12h`, `30d`, ...

    Raises:
        UsageError: it is no such thing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no length of time", "give a number and s, m, h, d or w, such as 30d")
    return float(match[1]) * SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Return the bytes of `500MB`, `2GB`, ...

    Raises:
        UsageError: it is no such thing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    unit = None if match is None else BYTES.get(match[2] if match[2] in BYTES else f"{match[2]}B")
    if match is None or unit is None:
        raise UsageError(f"{text!r} is no size", "give a number and kB, MB, GB or TB, such as 2GB")
    return int(float(match[1]) * unit)


@app.command("ls")
def list_command(format_name: FormatOption = None, output: OutputOption = None) -> None:
    """List what is in the cache, what was used last first."""
    from metta_cli.artifacts.atomic import format_bytes
    from metta_cli.artifacts.cache import Cache

    cache = Cache()
    found = cache.ls()
    _emit(found, format_name, output, f"the cache is empty ({cache.root})")
    if found:
        note(f"{format_bytes(sum(entry.num_bytes for entry in found))} in {cache.root}")


@app.command()
def verify(format_name: FormatOption = None, output: OutputOption = None) -> None:
    """Compare every file in the cache with the sha256 that it was downloaded with.

    Ends with 3 if one has changed. It would be noticed and downloaded again in any case.
    """
    from metta_cli.artifacts.cache import Cache

    cache = Cache()
    found = cache.verify()
    rows = [
        _row(entry) | {"state": "ok" if problem is None else "damaged", "problem": problem}
        for entry, problem in found
    ]
    emit(
        rows,
        columns=(*COLUMNS, *PROBLEM_COLUMNS),
        format_name=format_name,
        destination=output,
        text=_text(rows, ("address", "size", "files", *PROBLEM_COLUMNS)),
        empty=f"the cache is empty ({cache.root})",
    )
    num_damaged = sum(problem is not None for _, problem in found)
    if num_damaged:
        raise CheckpointError(
            f"{num_damaged} of {len(found)} downloads have changed since",
            "they are downloaded again when they are next used",
        )


@app.command()
def prune(
    unused: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="What was not used for so long, such as 30d.", show_default=False),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What was used longest ago, until SIZE is left, such as 2GB.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.", show_default=False)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.", show_default=False)
    ] = False,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Remove downloads, and list them; what another process is downloading stays."""
    from metta_cli.artifacts.atomic import format_bytes
    from metta_cli.artifacts.cache import Cache

    if unused is None and max_size is None and not everything:
        raise UsageError("nothing says what to remove", "give --unused AGE, --max-size SIZE or --all")
    removed = Cache().prune(
        unused_seconds=0.0 if everything else None if unused is None else parse_age(unused),
        max_bytes=None if max_size is None else parse_size(max_size),
        dry_run=dry_run,
    )
    _emit(removed, format_name, output, "nothing to remove")
    if removed:
        size = format_bytes(sum(entry.num_bytes for entry in removed))
        note(f"{size} would be removed" if dry_run else f"{size} removed")


def _emit(entries: list[CacheEntry], format_name: str | None, output: str | None, empty: str) -> None:
    rows = [_row(entry) for entry in entries]
    text = _text(rows, TABLE_COLUMNS)
    emit(rows, columns=COLUMNS, format_name=format_name, destination=output, text=text, empty=empty)


def _row(entry: CacheEntry) -> dict[str, Any]:
    address, _, version = (entry.key or f"unknown: {entry.path.name}").partition(", ")
    return {
        "address": address,
        "version": version,
        "bytes": entry.num_bytes,
        "files": entry.num_files,
        "downloaded": entry.created_at.isoformat(timespec="seconds"),
        "used": entry.used_at.isoformat(timespec="seconds"),
    }


def _text(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str | None:
    """Return a table for people: sizes and ages instead of bytes and times."""
    from metta_cli.artifacts.atomic import format_bytes

    shown = [
        row
        | {"size": format_bytes(row["bytes"])}
        | {name: _ago(datetime.fromisoformat(row[name])) for name in ("downloaded", "used")}
        for row in rows
    ]
    return table(shown, columns) if rows else None


def _ago(time: datetime) -> str:
    seconds = max((datetime.now(UTC) - time).total_seconds(), 0.0)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds:.0f} s ago"
