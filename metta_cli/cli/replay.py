"""`metta replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metta_cli.cli.options import choice
from metta_cli.cli.output import note
from metta_cli.cli.process import prepare_process

FORMS = ("html", "gif")
EPILOG = """\b
Examples:
  metta replay episode.json.z                          a page beside it, for any browser
  metta replay episode.html --to gif -o episode.gif
"""


def replay(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A page of metta's (.html), or a file of MettaGrid's (.json.z)."),
    ],
    form: Annotated[str, typer.Option("--to", **choice("form", FORMS), help="What to write.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to; else beside PATH.", show_default=False
        ),
    ] = None,
) -> None:
    """Show a recorded episode in another form."""
    prepare_process()
    from metta_cli.evaluation.conversion import convert_replay

    note(f"wrote {convert_replay(path, form, output)}")
