"""Options that several commands share, and the way from options to configuration keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from metta_cli.cli import completion
from metta_cli.cli.output import FORMATS
from metta_cli.errors import UnknownNameError

PROGRESS_FORMS = ("auto", "rich", "plain", "none")


def choice(kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of an option that takes one of `names`; another one gets the closest of them."""

    def parse(name: str) -> str:
        if name not in names:
            raise UnknownNameError(kind, name, names)
        return name

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return {"metavar": "|".join(names), "parser": parse, "autocompletion": complete}


def named(kind: str, complete: Callable[[str], list[str]], *, short: str | None = None) -> Any:
    """Return an option that takes a name the shell can complete."""
    declarations = [short] if short is not None else []
    return typer.Option(*declarations, metavar="NAME", help=kind, autocompletion=complete, show_default=False)


SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings, such as env=navigation/simple or trainer.total_timesteps=10_000_000.",
        autocompletion=completion.settings,
        show_default=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        **choice("format", FORMATS),
        help="How to print the result; by default what the suffix of -o says, else table.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the result there; - is stdout.", show_default=False
    ),
]
ConfigOption = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A YAML file, or the name of a shipped one; repeatable, a later one wins.",
        show_default=False,
    ),
]
EnvironmentOption = Annotated[
    str | None, named("Environment, such as navigation/simple.", completion.environments)
]
SeedOption = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Seed of everything random.", show_default=False)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the policy computes: auto, cpu, cuda, cuda:N or mps.",
        autocompletion=lambda incomplete: completion.starting_with(
            incomplete, ("auto", "cpu", "cuda", "mps")
        ),
        show_default=False,
    ),
]
ProgressOption = Annotated[
    str,
    typer.Option(
        **choice("progress display", PROGRESS_FORMS),
        help="Live display, lines, or nothing; auto is rich on a terminal, else plain.",
    ),
]
RunOption = Annotated[str | None, named("Name of the run; one that exists is gone on with.", completion.runs)]
PolicyOption = Annotated[str | None, named("Architecture of the policy.", completion.policies)]
TotalTimestepsOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Agent steps to train for.", show_default=False)
]
NumWorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Processes that step environments; 0 uses this one.", show_default=False
    ),
]
DataDirectoryOption = Annotated[
    str | None, typer.Option(metavar="DIRECTORY", help="Where runs are kept.", show_default=False)
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Go on with a run that exists, or refuse to touch it."),
]
PrintConfigOption = Annotated[
    bool, typer.Option("--print-config", help="Print every value and where it is from; train nothing.")
]
PolicyShareOption = Annotated[
    float | None,
    typer.Option(
        "--policy-agents-pct",
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="Share of the agents of every environment that the policy plays; by default 0.5.",
        show_default=False,
    ),
]
AssignmentOption = Annotated[
    str | None,
    typer.Option(
        **choice("assignment", ("fraction", "team")),
        help="Whether the share is of single agents or of whole teams; by default fraction.",
        show_default=False,
    ),
]
EpisodesOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Episodes per simulation.", show_default=False)
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Processes that step environments; changes no score.", show_default=False
    ),
]
ResultsDirectoryOption = Annotated[
    Path,
    typer.Option(metavar="DIRECTORY", help="Where evaluation_results.yaml goes, in a folder of its own."),
]
SaveReplaysOption = Annotated[
    bool, typer.Option("--save-replays", help="Record the first episode of every simulation.")
]
BaselinesOption = Annotated[
    bool,
    typer.Option("--baselines/--no-baselines", help="Let random and scripted play the same episodes."),
]
AllowPickleOption = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Unpickle a whole module, which runs code of whoever wrote the file.",
        show_default=False,
    ),
]
Sha256Option = Annotated[
    str | None,
    typer.Option("--sha256", metavar="HEX", help="Digest that the file must have.", show_default=False),
]
PytorchConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--pytorch-config",
        metavar="FILE",
        help="YAML that describes the architecture; by default it is read off the weights.",
        show_default=False,
    ),
]


def read_architecture(path: Path | None) -> dict[str, Any] | None:
    """Return what the file of `--pytorch-config` holds, with or without the key `pytorch:` around it.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no valid YAML.
    """
    if path is None:
        return None
    from metta_cli.config.files import read_yaml

    content: dict[str, Any] = read_yaml(path).plain()
    inner = content.get("pytorch")
    return inner if isinstance(inner, dict) else content
