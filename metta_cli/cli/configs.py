"""`metta configs`: the YAML files of environments, suites, architectures and settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import FormatOption, OutputOption
from metta_cli.cli.output import emit, note, write
from metta_cli.errors import ConfigError, MettaError, UnknownNameError, UsageError, suggestion

app = typer.Typer(help="Show, copy and check configuration files.")

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A name that `metta configs list` shows, or a path.",
        autocompletion=completion.configurations,
        show_default=False,
    ),
]


@app.command("list")
def list_command(
    group: Annotated[
        str | None,
        typer.Argument(
            metavar="GROUP",
            help="Only this group, such as env.",
            autocompletion=completion.groups,
            show_default=False,
        ),
    ] = None,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the configuration files that can be used by name.

    A file in the folder `configs` of the working directory hides the shipped one of the same name.
    """
    from metta_cli.config import places

    if group is not None and group not in places.GROUPS:
        raise UnknownNameError("group", group, places.GROUPS)
    rows = [_describe(name) for name in places.names()]
    rows = [row for row in rows if group in (None, row["group"])]
    columns = ("group", "name", "file", "description")
    emit(
        rows,
        columns=columns,
        format_name=format_name,
        destination=output,
        empty=f"no file in the group {group}",
    )


@app.command()
def show(name: NameArgument, output: OutputOption = None) -> None:
    """Print a configuration file as it is written.

    What it amounts to, with everything it includes, is shown by `metta train --config NAME --print-config`.
    """
    path = find(name)
    note(f"# {path}")
    write(path.read_text(encoding="utf-8"), output)


@app.command()
def copy(
    name: NameArgument,
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="DESTINATION",
            help="By default its place in the folder `configs` of the working directory.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Copy a configuration file to where you can change it, and where it hides the shipped one."""
    from metta_cli.artifacts.atomic import make_directory
    from metta_cli.config import places

    source = find(name)
    root = next((root for root in places.config_roots() if source.is_relative_to(root)), source.parent)
    target = destination or Path("configs") / source.relative_to(root)
    if target.is_dir():
        target /= source.name
    if target.exists() and (not force or target.samefile(source)):
        raise UsageError(f"{target} exists", "choose another destination, or replace it with --force")
    make_directory(target.absolute().parent)
    write(source.read_text(encoding="utf-8"), str(target))


@app.command()
def validate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Names or paths; by default everything that `metta configs list` shows.",
            autocompletion=completion.configurations,
            show_default=False,
        ),
    ] = None,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Check configuration files: keys, types, rules across them, and the environments they make."""
    from metta_cli.config import places

    rows = [_validated(find(name)) for name in names or places.names()]
    emit(rows, columns=("file", "state", "problem"), format_name=format_name, destination=output)
    invalid = [row for row in rows if row["problem"] is not None]
    if invalid:
        raise ConfigError(f"{len(invalid)} of {len(rows)} files cannot be used", "the table says why")


def find(name: str) -> Path:
    """Return the file of a name, which may lack its group if only one group has it.

    Raises:
        UsageError: several groups have it.
        UnknownNameError: none has.
    """
    from metta_cli.config import places

    if Path(name).is_file():
        return Path(name).absolute()
    found = {path: group for group in ("", *places.GROUPS) if (path := places.find(group, name)) is not None}
    if len(found) > 1:
        choices = " or ".join(f"{group}/{places.plain_name(group, name)}" for group in found.values())
        raise UsageError(f"'{name}' is the name of {len(found)} files", f"write {choices}")
    if not found:
        closest = suggestion(name, places.names())
        cure = closest if closest.startswith("did you mean") else "see 'metta configs list'"
        raise UnknownNameError("configuration", name, places.names(), cure)
    return next(iter(found))


def _describe(name: str) -> dict[str, Any]:
    from metta_cli.config import places
    from metta_cli.config.files import read_yaml

    path = places.find_file(name)
    group = places.group_of(path)
    try:
        description = read_yaml(path).plain().get("description") or _first_comment(path)
    except MettaError as error:  # listed all the same: `validate` is for finding out what is wrong
        description = f"broken: {error.message}"
    return {
        "group": group or None,
        "name": name.removeprefix(f"{group}/"),
        "file": places.display(path),
        "description": description,
    }


def _first_comment(path: Path) -> str | None:
    """Return the first line of a file if it is a comment."""
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.removeprefix("#").strip() if line.startswith("#") else None


def _validated(path: Path) -> dict[str, Any]:
    from metta_cli.config import places

    problem = None
    try:
        _check(path)
    except MettaError as error:
        problem = str(error)
    return {"file": places.display(path), "state": "ok" if problem is None else "invalid", "problem": problem}


def _check(path: Path) -> None:
    """Load a file by itself and make its environments.

    Raises:
        MettaError: it cannot be used.
    """
    from metta_cli.config import places
    from metta_cli.config.catalogue import find_environment
    from metta_cli.config.files import read_yaml
    from metta_cli.config.layers import load_config
    from metta_cli.config.tasks import create_tasks
    from metta_cli.environments.builders import build
    from metta_cli.environments.tasks import TaskSet

    group = places.group_of(path)
    is_environment = group == "env" or (not group and "builder" in read_yaml(path).value)
    inputs: dict[str, Any] = {"words": [f"env={path}"]} if is_environment else {"files": [str(path)]}
    config = load_config(**inputs, environ=os.environ).config
    specs = [config.env] if is_environment or not group else []
    for suite in (config.sim.suite, config.evals):
        simulations = suite.simulations.values() if suite is not None else ()
        for simulation in simulations:
            spec = find_environment(simulation.env)
            specs.append(spec.model_copy(update={"args": {**spec.args, **simulation.env_overrides}}))
    for spec in specs:
        build(spec)
    if config.trainer.curriculum is not None:
        TaskSet(create_tasks(config.trainer.curriculum, config.env, config.trainer.env_overrides))
