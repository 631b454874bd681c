"""What the shell offers behind Tab. Every function here reads names and imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer

from metta_cli.errors import MettaError

BUILTIN_PLAYERS = ("random", "noop", "scripted")
DEFAULT_DATA_DIR = "train_dir"


def environments(incomplete: str) -> list[str]:
    """Return the names of environments that start with `incomplete`."""
    from metta_cli.config.catalogue import environment_names

    return starting_with(incomplete, environment_names())


def suites(incomplete: str) -> list[str]:
    """Return the names of suites that start with `incomplete`."""
    from metta_cli.config.catalogue import suite_names

    return starting_with(incomplete, suite_names())


def configurations(incomplete: str) -> list[str]:
    """Return the names of configuration files that start with `incomplete`."""
    from metta_cli.config import places

    return starting_with(incomplete, places.names())


def groups(incomplete: str) -> list[str]:
    """Return the groups of configuration files that start with `incomplete`."""
    from metta_cli.config import places

    return starting_with(incomplete, places.GROUPS)


def policies(incomplete: str) -> list[str]:
    """Return the names of policy architectures that start with `incomplete`."""
    from metta_cli.extensions import POLICIES, plugin_names

    try:
        return starting_with(incomplete, plugin_names(POLICIES))
    except (
        MettaError
    ):  # a message in the middle of a command line helps nobody; the command itself will say it
        return []


def runs(incomplete: str) -> list[str]:
    """Return the names of runs that start with `incomplete`."""
    return starting_with(incomplete, (path.name for path in run_directories()))


def runs_and_directories(incomplete: str) -> list[str]:
    """Return the runs of the data directory that start with `incomplete`, by path or by name."""
    return starting_with(incomplete, map(str, run_directories())) or runs(incomplete)


def settings(context: typer.Context, incomplete: str) -> list[str]:
    """Return `KEY=` for the configuration keys that start with `incomplete`, or values behind the "=".

    Bash takes "=" for a word of its own: there, the key and the "=" are the words before this one.
    """
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={name}" for name in _values(key, value)]
    words = context.params.get("words") or ()
    before = [word for word in words[-2:] if word != "="]
    if words and (words[-1] == "=" or words[-1] in _named_keys()):
        return _values(before[-1] if before else "", incomplete)
    from metta_cli.config.keys import setting_names

    return starting_with(incomplete, (f"{name}=" for name in [*_named_keys(), *setting_names()]))


def uri_or_settings(context: typer.Context, incomplete: str) -> list[str]:
    """Return the runs of the data directory and the built-in players, and what `settings` does."""
    found = settings(context, incomplete)
    is_key = not found or found[0].endswith("=")
    uris = [*BUILTIN_PLAYERS, *map(str, run_directories())] if is_key and "=" not in incomplete else []
    return starting_with(incomplete, uris) + found


def _named_keys() -> dict[str, str]:
    """Return the keys that take the name of a file -> the group of the file."""
    from metta_cli.config.composition import SELECTORS

    return {".".join(key): group for key, group in SELECTORS.items()}


def _values(key: str, incomplete: str) -> list[str]:
    if key in ("policy", "run"):
        return (policies if key == "policy" else runs)(incomplete)
    from metta_cli.config import places

    group = _named_keys().get(key)
    return starting_with(incomplete, places.names(group)) if group is not None else []


def run_directories() -> list[Path]:
    """Return the directories of the runs in the data directory that METTA_DATA_DIR or nothing says."""
    data_dir = Path(os.environ.get("METTA_DATA_DIR", DEFAULT_DATA_DIR))
    return sorted(path for path in data_dir.glob("*") if (path / "checkpoints").is_dir())


def starting_with(incomplete: str, names: Iterable[str]) -> list[str]:
    """Return the names that start with `incomplete`, each once."""
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
