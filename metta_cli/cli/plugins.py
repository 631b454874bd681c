"""`metta plugins`: what is installed, from where, and whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metta_cli.cli.options import FormatOption, OutputOption
from metta_cli.cli.output import emit
from metta_cli.errors import PluginError

if TYPE_CHECKING:
    from metta_cli.extensions import PluginInfo

app = typer.Typer(help="Show the installed policies and checkpoint loaders.")

COLUMNS = ("name", "kind", "distribution", "version", "target", "state", "reason")


@app.callback()
def plugins() -> None:
    """Keep `list` a subcommand although it is the only one."""


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
