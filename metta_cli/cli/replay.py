"""`metta replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from metta_cli.cli.options import choice
from metta_cli.cli.output import note, write
from metta_cli.cli.process import prepare_process
from metta_cli.cli.terminal import is_terminal, play

FORMS = ("html", "gif", "terminal", "browser")
PAGE = ".html"
EPILOG = """\b
Examples:
  metta replay episode.html                            opened in the browser
  metta replay episode.json.z                          a page beside it, for any browser
  metta replay episode.html --to gif -o episode.gif
  metta replay episode.html --to terminal              played here; into a pipe, every step at once
"""


def replay(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A page of metta's (.html), or a file of MettaGrid's (.json.z)."),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--to",
            **choice("form", FORMS),
            help="What to make of it; by default a page is opened, and another file becomes a page.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to; else beside PATH.", show_default=False
        ),
    ] = None,
) -> None:
    """Open a recorded episode, or write it in another form."""
    prepare_process()
    from metta_cli.evaluation.conversion import convert_replay

    form = form or ("browser" if path.name.endswith(PAGE) else "html")
    if form == "terminal":
        _play(path, output)
    elif form == "browser":
        _open(path, output)
    else:
        note(f"wrote {convert_replay(path, form, output)}")


def _open(path: Path, output: Path | None) -> None:
    """Open the page, written first if there is none yet; without a browser say where it is."""
    import webbrowser

    from metta_cli.evaluation.conversion import convert_replay, read_replay
    from metta_cli.evaluation.mettascope import SUFFIX

    read_replay(path)
    page = path.with_name(path.name.removesuffix(SUFFIX).removesuffix(PAGE) + PAGE)
    is_there = output is None and page.is_file()
    address = (page if is_there else convert_replay(path, "html", output)).resolve().as_uri()
    note(f"opened {address}" if webbrowser.open(address) else f"there is no browser here; open {address}")


def _play(path: Path, output: Path | None) -> None:
    from metta_cli.evaluation.characters import draw_text
    from metta_cli.evaluation.conversion import read_replay

    data = read_replay(path)
    if output is None and is_terminal(sys.stdout):
        play(data, sys.stdout)
        return
    pictures = (draw_text(data, step) for step in range(data["num_steps"] + 1))
    write("\n\n".join(pictures), None if output is None else str(output))
