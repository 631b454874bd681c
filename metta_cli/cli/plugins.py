"""`metta plugins`: what is installed, from where, whether it works, and how to begin one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metta_cli.cli.options import FormatOption, OutputOption, choice
from metta_cli.cli.output import emit, print_hint, write
from metta_cli.errors import PluginError, UnknownNameError

if TYPE_CHECKING:
    from metta_cli.extensions import PluginInfo

app = typer.Typer(help="Show, check and begin policies and checkpoint loaders.")

COLUMNS = ("name", "kind", "distribution", "version", "target", "state", "reason")
CHECK_COLUMNS = ("kind", "state", "promise", "reason")
CHECK_MODULE = "metta_cli.testing.check"
STDERR = 2  # number of the file; stdout belongs to data

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
KindOption = Annotated[
    str,
    typer.Option("--kind", **choice("kind", ("policy", "loader")), help="What to write.", show_default=False),
]


@app.command("list")
def list_command(
    check: Annotated[
        bool,
        typer.Option("--check", help="Import each one; exit with 3 if any is broken.", show_default=False),
    ] = False,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the policy architectures and checkpoint loaders that are installed, without importing them.

    METTA_LOAD_PLUGINS=a,b restricts them to the distributions a and b and the built-in ones.
    """
    from metta_cli.extensions import KINDS, check_plugin, conflict, list_plugins

    found = [info for group in KINDS for info in list_plugins(group)]
    reasons = [check_plugin(info) if check else conflict(info) for info in found]
    rows = [
        _row(info, KINDS[info.group], reason, checked=check)
        for info, reason in zip(found, reasons, strict=True)
    ]
    emit(rows, columns=COLUMNS, format_name=format_name, destination=output, empty="no plugin is installed")
    broken = [info for info, reason in zip(found, reasons, strict=True) if reason is not None]
    if check and broken:
        names = sorted({info.distribution for info in broken})
        raise PluginError(
            f"{len(broken)} of {len(found)} plugins cannot be used",
            f"reinstall or remove the distributions: {', '.join(names)}",
        )


@app.command()
def new(
    name: NameArgument,
    kind: KindOption,
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A new directory; by default metta-KIND-NAME in the working directory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a package with a new plugin called NAME, and a test of it that passes.

    NAME is what policy=NAME says, or the scheme of the addresses NAME://... that a loader serves.
    """
    from metta_cli.cli.scaffold import write_package

    written = write_package(kind, name, directory)
    write("\n".join(map(str, written)))
    print_hint(f"pip install -e {written[0].parent}, then metta plugins check {name}")


@app.command()
def check(name: NameArgument, format_name: FormatOption = None, output: OutputOption = None) -> None:
    """Hold an installed plugin to its contract, and say of each promise whether it is kept.

    Ends with 3 if one is broken. Of a loader, the promises that need a stored checkpoint are left to the
    tests of its own package.
    """
    from metta_cli.extensions import KINDS, list_plugins

    known = [info for group in KINDS for info in list_plugins(group)]
    found = {(info.group, info.name): info for info in known if info.name == name}
    if not found:
        raise UnknownNameError("plugin", name, {info.name for info in known})
    rows = [{"kind": KINDS[info.group], **row} for info in found.values() for row in _contract_rows(info)]
    emit(rows, columns=CHECK_COLUMNS, format_name=format_name, destination=output)
    num_broken = sum(row["state"] == "broken" for row in rows)
    if num_broken:
        owners = " and ".join(str(info) for info in found.values())
        raise PluginError(
            f"{owners}: {num_broken} of {len(rows)} promises are broken",
            "the reasons are above; docs/plugins.md has the contract",
        )


def _contract_rows(info: PluginInfo) -> list[dict[str, Any]]:
    """Run the contract in another process, which the plugin may print in, or take down."""
    with tempfile.TemporaryDirectory() as directory:
        outcome = Path(directory) / "outcome.json"
        words = [sys.executable, "-P", "-m", CHECK_MODULE, info.group, info.name, str(outcome)]
        result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=STDERR, check=False)
        if not outcome.exists():
            raise PluginError(
                f"{info} ended the process that checked it, with code {result.returncode}",
                "what it said is above",
            )
        rows: list[dict[str, Any]] = json.loads(outcome.read_text(encoding="utf-8"))
    return rows


def _row(info: PluginInfo, kind: str, reason: str | None, *, checked: bool) -> dict[str, str | None]:
    state = "broken" if reason is not None else "ok" if checked else "not checked"
    return {
        "name": info.name,
        "kind": kind,
        "distribution": info.distribution,
        "version": info.version,
        "target": info.target,
        "state": state,
        "reason": reason,
    }
