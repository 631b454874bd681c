"""Where the result of an evaluation is kept."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from metta_cli.artifacts.atomic import make_directory, storage_errors, write_file
from metta_cli.errors import StorageError


def results_directory(
    output_directory: Path, policy_uri: str, suite: str, run_name: str | None = None
) -> Path:
    """Return `OUTPUT/eval_STEM_SUITE`, or `OUTPUT/NAME` where a name is given.

    The stem is the last part of the URI without `.pt` and the like.
    """
    if run_name is not None:
        return output_directory / _file_name(run_name)
    last = re.split(r"[/\\]", policy_uri.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(pt|pth|ckpt|safetensors)$", "", last)
    return output_directory / "_".join(["eval", _file_name(stem), _file_name(suite)])


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_") or "policy"


def prepare_directory(directory: Path) -> None:
    """Make the directory and see that it can be written, before the work begins.

    Raises:
        StorageError: if it cannot.
    """
    probe = directory / f".probe-{os.getpid()}"
    with _output_errors(), storage_errors(directory):
        make_directory(directory)
        probe.write_bytes(b"can this be written?")
        probe.unlink()


@contextmanager
def _output_errors() -> Iterator[None]:
    """Name the option that mends it."""
    try:
        yield
    except StorageError as error:
        raise StorageError(error.message, "free some space, or choose another --output-dir") from error


class Savable(Protocol):
    """What an evaluation comes to."""

    @property
    def saved_to(self) -> str | None:
        """Where `evaluation_results.yaml` is, once it is written."""
        ...

    def to_json(self, *, with_episodes: bool = True) -> dict[str, Any]:
        """Return it as JSON data."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """Return it as a table, at least one row."""
        ...


Result = TypeVar("Result", bound=Savable)


def save_results(result: Result, directory: Path) -> Result:
    """Write the result, replacing an earlier one of the same name; each file appears whole or not at all.

    `evaluation_results.yaml` holds the scores, `.json` every episode as well, `.csv` the table of
    `SuiteResult.rows`.

    Args:
        result: to be written.
        directory: made if it does not exist.

    Returns:
        The result with `saved_to` set to the YAML file.

    Raises:
        StorageError: if the place cannot be written.
    """
    path = directory / "evaluation_results.yaml"
    summary = yaml.safe_dump(result.to_json(with_episodes=False), sort_keys=False, allow_unicode=True)
    with _output_errors():
        make_directory(directory)
        write_file(path.with_suffix(".json"), json.dumps(result.to_json(), indent=1) + "\n")
        write_file(path.with_suffix(".csv"), to_csv(result))
        write_file(path, summary)
    saved: Result = replace(result, saved_to=str(path))  # type: ignore[type-var]  # both are dataclasses
    return saved


def to_csv(result: Savable) -> str:
    """Return the rows of the result as CSV with a header; None is an empty field."""
    rows = result.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
