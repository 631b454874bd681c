"""Write the package of a new plugin from the templates that lie beside this module."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from metta_cli.artifacts.atomic import make_directory, write_file
from metta_cli.errors import UsageError
from metta_cli.extensions import KINDS, list_plugins

KIND_GROUPS = {kind: group for group, kind in KINDS.items()}
NAMES = {
    "policy": (r"[a-z][a-z0-9]*(_[a-z0-9]+)*", "lower-case words joined by _, such as token_bag"),
    "loader": (r"[a-z][a-z0-9]*", "the scheme of an address, lower-case letters and digits, such as ftp"),
}
"""Kind -> what its names look like: they become the names of a module and of a distribution."""
MAX_NAME_LENGTH = 64


def write_package(kind: str, name: str, directory: Path | None) -> list[Path]:
    """Write a package that registers one plugin, with a test that inherits its contract.

    Args:
        kind: `policy` or `loader`.
        name: what the plugin is asked for by.
        directory: a new directory for it; None is the name of the distribution, in the working directory.

    Returns:
        The files that were written.

    Raises:
        UsageError: the name cannot be used or is taken, or the directory exists.
        StorageError: it cannot be written.
    """
    check_name(kind, name)
    words = vocabulary(kind, name)
    target = directory if directory is not None else Path(words["distribution"])
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists", "choose a new directory with --directory")
    templates = resources.files("metta_cli.cli") / "templates"
    written = []
    for file, template in layout(kind, words).items():
        content = Template(templates.joinpath(template).read_text(encoding="utf-8")).substitute(words)
        path = target / file
        make_directory(path.parent.absolute())
        write_file(path, content)
        written.append(path)
    return written


def check_name(kind: str, name: str) -> None:
    """Refuse a name that a package cannot have, or that an installed plugin has.

    Raises:
        UsageError: it cannot be used.
    """
    pattern, description = NAMES[kind]
    if not re.fullmatch(pattern, name) or len(name) > MAX_NAME_LENGTH:
        raise UsageError(f"{kind} name {name!r} cannot be used", f"choose {description}")
    for info in list_plugins(KIND_GROUPS[kind]):
        if info.name == name:
            raise UsageError(f"{info} is installed", "choose a name that `metta plugins list` does not show")


def vocabulary(kind: str, name: str) -> dict[str, str]:
    """Return what the templates call the new plugin and its package."""
    module = f"metta_{kind}_{name}"
    return {
        "kind": kind,
        "name": name,
        "group": KIND_GROUPS[kind],
        "module": module,
        "distribution": module.replace("_", "-"),
        "class_name": "".join(word.capitalize() for word in [*name.split("_"), kind]),
    }


def layout(kind: str, words: dict[str, str]) -> dict[str, str]:
    """Return the files of the package -> the template of each."""
    return {
        "pyproject.toml": "pyproject.toml.template",
        "README.md": f"{kind}/README.md.template",
        f"{words['module']}/__init__.py": "package.template",
        f"{words['module']}/{kind}.py": f"{kind}/plugin.template",
        f"tests/test_{words['name']}.py": f"{kind}/test.template",
    }
