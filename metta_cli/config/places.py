"""Where configuration files are, and the names they are known by.

Files lie in groups, one folder each: `configs/env/navigation/simple.yaml` is `navigation/simple` of the
group `env`. The folder `configs` of the working directory is looked at first, then the one that ships
with metta.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from metta_cli.config.keys import Key
from metta_cli.errors import NotFoundError, UnknownNameError

GROUPS: dict[str, Key] = {
    "env": ("env",),
    "policy": ("policy",),
    "trainer": ("trainer",),
    "curriculum": ("trainer", "curriculum"),
    "dual_policy": ("trainer", "dual_policy"),
    "suite": ("sim", "suite"),
    "wandb": ("wandb",),
    "hardware": ("hardware",),
    "user": ("user",),
}
"""Folder of a group -> key at which a name selects one of its files."""

ROOT_GROUPS = ("hardware", "user")
"""Groups whose files hold any keys, and not only what belongs below the key of the group."""

LAUNCH = "launch"
"""Folder of files for programs that start metta elsewhere: to be shown and copied, no configuration."""

OTHER_GROUP_NAMES = {"agent": "policy", "py_agent": "policy", "sim": "suite"}
"""What older configurations call a group."""

_KINDS = {"env": "environment", "wandb": "W&B setting", "user": "user file", "hardware": "hardware setting"}


def kind(group: str) -> str:
    """Return what a person calls a file of a group."""
    return _KINDS.get(group, group)


def shipped_configs() -> Path:
    """Return the folder of the files that ship with metta."""
    spec = importlib.util.find_spec("metta_cli.configs")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("metta_cli.configs is not installed")  # a broken installation is our defect
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def common_file() -> Path:
    """Return the file that lies under every configuration."""
    return shipped_configs() / "common.yaml"


def config_roots() -> list[Path]:
    """Return the folders that files are looked for in, first one first."""
    return [Path.cwd() / "configs", shipped_configs()]


def names(group: str = "") -> list[str]:
    """Return the names of all files of a group; of all groups, as `env/laser_tag`, without an argument."""
    found = set()
    for folder in (root / group for root in config_roots()):
        for path in folder.rglob("*.yaml"):
            parts = path.relative_to(folder).with_suffix("").parts
            is_ours = group or parts[0] != LAUNCH
            if is_ours and not any(part.startswith(".") for part in parts):
                found.add("/".join(parts))
    return sorted(found)


def plain_name(group: str, name: str) -> str:
    """Return a name without the decoration that older configurations give it.

    `/env/mettagrid/laser_tag`, `env/laser_tag` and `laser_tag.yaml` are all `laser_tag`.
    """
    parts = [part for part in name.removesuffix(".yaml").split("/") if part not in ("", ".")]
    prefixes = [{"configs"}] if group != "curriculum" else [{"configs"}, {"env"}, {"mettagrid"}]
    prefixes += [{group, *(old for old, new in OTHER_GROUP_NAMES.items() if new == group)}]
    if group == "env":
        prefixes.append({"mettagrid"})
    for prefix in prefixes:
        if len(parts) > 1 and parts[0] in prefix:
            parts = parts[1:]
    return "/".join(parts)


def split(name: str) -> tuple[str, str]:
    """Return the group and the name in the group of `/agent/fast`; ("", name) if it is in no group."""
    first, _, rest = name.strip("/").partition("/")
    group = OTHER_GROUP_NAMES.get(first, first)
    return (group, rest) if rest and group in GROUPS else ("", name)


def find(group: str, name: str) -> Path | None:
    """Return the file of a name in a group, or None; "" is the group of the files in no group."""
    known = plain_name(group, name)
    if not known or ".." in known.split("/"):
        return None
    candidates = [root / group / f"{known}.yaml" for root in config_roots()]
    return next((path for path in candidates if is_file(path)), None)


def is_file(path: Path) -> bool:
    """Whether there is a file; False as well for what cannot be a path, such as 300 letters."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_file(name: str) -> Path:
    """Return a file by its path, or by its name as `names()` lists them.

    Raises:
        NotFoundError: if it looks like a path, and there is no such file.
        UnknownNameError: if it looks like a name, and nothing has it.
    """
    path = Path(name) if is_file(Path(name)) else find("", name)
    if path is not None:
        return path
    if name.endswith((".yaml", ".yml")) or name.startswith((".", "/", "~")):
        raise NotFoundError(f"there is no file {name}")
    raise UnknownNameError("configuration", name, names())


def group_of(path: Path) -> str:
    """Return the group whose folder a file is in, or ""."""
    group, _ = split(_path_in_root(path))
    return group


def package(path: Path) -> Key:
    """Return the key that the content of a file belongs below; () if it holds any keys."""
    group = group_of(path)
    return () if group in ("", *ROOT_GROUPS) else GROUPS[group]


def name_of(path: Path) -> str:
    """Return the name of a file in its group; of a file elsewhere, its name without the ending."""
    _, name = split(_path_in_root(path))
    return name.removesuffix(".yaml") if group_of(path) else path.stem


def display(path: Path) -> str:
    """Return a path as messages show it: short, and saying so if the file ships with metta."""
    path = path.absolute()
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    if path.is_relative_to(shipped_configs()):
        return f"shipped {path.relative_to(shipped_configs())}"
    return str(path)


def _path_in_root(path: Path) -> str:
    """Return the path of a file below the folder `configs`, or "" if it is elsewhere."""
    path = path.resolve()
    for root in config_roots():
        if path.is_relative_to(root.resolve()):
            return path.relative_to(root.resolve()).as_posix()
    return ""
