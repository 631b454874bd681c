"""Write the pages of docs/ that are generated: the reference of the command line (`make docs`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from metta_cli.cli.main import app

WIDTH = 100
INTRODUCTION = """# Command line

Generated from `--help` by `make docs`; a test compares the two.
The exit codes have a [page of their own](exit_codes.md).
"""


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
