"""Write the pages of docs/ that are generated: command line, and metrics (`make docs`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from metta_cli.cli.main import app
from metta_cli.tracking.metrics import FAMILIES, GLOSSARY, MetricDefinition

WIDTH = 100
INTRODUCTION = """# Command line

Generated from `--help` by `make docs`; a test compares the two.
The exit codes have a [page of their own](exit_codes.md).
"""
METRICS_INTRODUCTION = """# Metrics

Everything that a run logs, to `metrics.jsonl` and to W&B.
Generated from `metta_cli/tracking/metrics.py` by `make docs`; a test compares the two.

A mean over minibatches is the plain mean over those of the epoch on which a gradient step was taken.
With several processes all numbers are those of all of them, except times, which are the first one's.
"""


def metrics() -> str:
    """Return docs/metrics.md: name, unit and formula of every metric."""
    families = {f"{prefix}...": definition for prefix, definition in FAMILIES.items()}
    return "\n".join(
        [
            METRICS_INTRODUCTION,
            _table(GLOSSARY),
            "",
            "## Names that depend on the run",
            "",
            _table(families),
            "",
        ]
    )


def _table(definitions: dict[str, MetricDefinition]) -> str:
    rows = [
        f"| `{name}` | {definition.unit} | {_cell(definition.formula)} |"
        for name, definition in sorted(definitions.items())
    ]
    return "\n".join(["| name | unit | how it is computed |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def reference() -> str:
    """Return docs/cli.md: the help of every command, in the order of the command line."""
    pages = helps("metta", typer.main.get_command(app), parent=None)
    sections = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in pages]
    return "\n".join([INTRODUCTION, *sections])


def helps(word: str, command: Any, parent: Any) -> list[tuple[str, str]]:
    """Return the full name and the help text of a command and of all below it."""
    context = command.make_context(
        word, [], parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    found = [(context.command_path, command.get_help(context).rstrip())]
    for child_word, child in getattr(command, "commands", {}).items():
        found += helps(child_word, child, context)
    return found


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference())
    Path(__file__).with_name("metrics.md").write_text(metrics())
