"""The only place that prints: data on stdout or into a file, everything else on stderr.

Data never goes through Rich, which wraps lines at the width of the terminal and reads brackets as markup:
what comes out of a pipe would not be JSON any more.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metta_cli.errors import NotFoundError, StorageError

FORMATS = ("table", "json", "yaml", "csv")
SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".csv": "csv"}


def emit(
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[str],
    format_name: str | None,
    destination: str | None = None,
    data: object = None,
    text: str | None = None,
    yaml: str | None = None,
    empty: str = "nothing found",
) -> None:
    """Print a result, or write it to a file.

    Args:
        rows: the result as records, for csv and, by default, for the other formats.
        columns: keys of the records, in the order they are shown in.
        format_name: one of `FORMATS`; None takes the one that the suffix of `destination` says, else table.
        destination: a file; None or `-` is stdout.
        data: what json and yaml show, where that is more than the rows.
        text: what table shows, where that is not a table of the rows.
        yaml: what yaml shows, where that is more than the data.
        empty: said on stderr where a table would have no rows.
    """
    name = format_name or SUFFIXES.get(Path(destination or "").suffix.lower(), "table")
    if name == "table" and text is None and not rows:
        note(empty)
        return
    if name == "table":
        content = text if text is not None else table(rows, columns)
    elif name == "csv":
        content = _csv(rows, columns)
    elif name == "yaml" and yaml is not None:
        content = yaml
    else:
        plain = _plain([dict(row) for row in rows] if data is None else data)
        content = _json(plain) if name == "json" else yaml_text(plain)
    write(content, destination)


def write(content: str, destination: str | None = None) -> None:
    """Write data to stdout, or to a file that is either written whole or not touched."""
    content = content if content.endswith("\n") else content + "\n"
    if destination in (None, "-", "/dev/stdout"):
        _write_stdout(content)
    else:
        _write_file(Path(str(destination)), content)
        note(f"wrote {destination}")


def note(text: str) -> None:
    """Say something on stderr that is not data."""
    print(text, file=sys.stderr, flush=True)


def print_error(message: str, cure: str | None = None) -> None:
    """Say on stderr what is wrong and, in a second line, what to do about it."""
    note(f"{_styled('error:', '1;31')} {message}")
    print_hint(cure)


def print_hint(hint: str | None) -> None:
    """Say on stderr what to do next."""
    if hint is not None:
        note(f"{_styled('hint:', '1;36')} {hint}")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the records as aligned text, numbers to the right, without colours and without wrapping."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    headings = [column.replace("_", " ").upper() for column in columns]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    is_number = [all(isinstance(row.get(column), int | float) for row in rows) for column in columns]
    lines = []
    for line in [headings, *cells]:
        parts = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def yaml_text(data: object) -> str:
    """Return plain data as YAML, keys in their own order."""
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))


def wants_colour(stream: Any) -> bool:
    """Return whether escape codes may go to `stream`: see https://no-color.org."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream is not None and stream.isatty())


def _styled(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if wants_colour(sys.stderr) else text


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [_plain(row.get(column)) for column in columns]
        writer.writerow([json.dumps(value) if isinstance(value, dict | list) else value for value in values])
    return stream.getvalue()


def _json(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return `value` in the types that JSON has; a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _write_stdout(content: str) -> None:
    try:
        sys.stdout.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it has seen enough. What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_file(path: Path, content: str) -> None:
    from metta_cli.artifacts.atomic import write_file

    path = path.resolve()  # a link stays a link
    if not path.parent.is_dir():
        raise NotFoundError(
            f"there is no directory {path.parent} to write {path.name} into", f"mkdir -p {path.parent}"
        )
    try:
        if path.exists() and not path.is_file():  # a device or a named pipe cannot be replaced
            path.write_text(content, encoding="utf-8")
        else:
            write_file(path, content)
    except (OSError, StorageError) as error:
        reason = (
            error.message
            if isinstance(error, StorageError)
            else f"{path} cannot be written: {error.strerror}"
        )
        raise StorageError(reason, "choose another place, or print it to stdout") from error
