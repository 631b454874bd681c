"""`metta inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import (
    AllowPickleOption,
    FormatOption,
    OutputOption,
    PytorchConfigOption,
    Sha256Option,
    read_architecture,
)
from metta_cli.cli.output import emit, table
from metta_cli.cli.process import prepare_process, resolve

COLUMNS = ("suite", "simulation", "fit", "notes")
MAX_ARGUMENT_LENGTH = 160  # of the text only; the other formats have all of it


def inspect(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="A run, a checkpoint, or a file of weights.",
            autocompletion=completion.uri_or_settings,
        ),
    ],
    pytorch_config: PytorchConfigOption = None,
    allow_pickle: AllowPickleOption = False,
    sha256: Sha256Option = None,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show what a checkpoint or a file of weights holds, and which suites it can play."""
    prepare_process()
    resolved = resolve([], [], {"policy_uri": uri, "pytorch": read_architecture(pytorch_config)})
    from metta_cli.runs.inspection import inspect_policy
    from metta_cli.runs.policies import Trust

    facts = inspect_policy(
        uri,
        data_dir=Path(resolved.config.data_dir),
        architecture=resolved.config.pytorch,
        trust=Trust(allow_pickle, sha256),
    )
    rows = [
        {"suite": suite, "simulation": simulation, "fit": fit["fit"], "notes": "; ".join(fit["notes"])}
        for suite, simulations in facts["suites"].items()
        for simulation, fit in simulations.items()
    ]
    emit(
        rows,
        columns=COLUMNS,
        format_name=format_name,
        destination=output,
        data=facts,
        text=_to_text(facts, rows),
    )


def _to_text(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the facts as they are printed: what it is, its tensors, what it can play."""
    lines = [f"{facts['uri']}: {facts['format']}", ""]
    architecture = facts["architecture"]
    if architecture is not None:
        arguments = " ".join(f"{name}={_short(value)}" for name, value in architecture["args"].items())
        lines.append(f"architecture: {architecture['name']} {arguments}".rstrip())
    lines += [f"  recognised by: {reason}" for reason in facts["recognised_by"]]
    if facts["obstacle"] is not None:
        lines.append(f"cannot be played: {facts['obstacle']['reason']}")
        lines.append(f"  {facts['obstacle']['cure']}")
    lines.append(f"parameters: {facts['num_parameters']:,} in {len(facts['tensors'])} tensors")
    passport = facts["passport"]
    if passport is None:
        lines.append("passport: none; it is taken to know the features and actions of the environment")
    else:
        lines.append(f"passport: features {', '.join(passport['feature_names'])}")
        lines.append(f"          actions {', '.join(passport['action_names'])}")
    lines += [f"{key.replace('_', ' ')}: {_inline(value)}" for key, value in facts["provenance"].items()]
    tensors = [{**tensor, "shape": str(tensor["shape"])} for tensor in facts["tensors"]]
    lines += ["", table(tensors, ("name", "shape", "dtype"))]
    if rows:
        lines += ["", table(rows, COLUMNS[:-1]), *_notes(rows)]
    return "\n".join(lines)


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """Return every note once, after the simulations that it is about."""
    simulations: dict[str, list[str]] = {}
    for row in rows:
        if row["notes"] and row["simulation"] not in simulations.setdefault(row["notes"], []):
            simulations[row["notes"]].append(row["simulation"])
    return [line for note, names in simulations.items() for line in ("", f"{', '.join(names)}: {note}")]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_ARGUMENT_LENGTH else f"{text[: MAX_ARGUMENT_LENGTH - 3]}..."


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
