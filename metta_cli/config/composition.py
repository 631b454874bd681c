"""Merging of configuration files and single values, each value with where it came from.

A file may name others in a `defaults:` list; they are merged under it, or over it if they stand behind
`_self_`. A name where a part of the configuration is expected (`env: laser_tag`, `policy: fast`,
`hardware: cpu`) selects the file of that name, merged before the other values of the same source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from metta_cli.config import places
from metta_cli.config.files import Node, read_yaml
from metta_cli.config.keys import Key, dotted, is_section, resolve, section_keys, takes_none, takes_text
from metta_cli.errors import ConfigError, UnknownNameError, suggestion

SELECTORS: dict[Key, str] = {
    ("user",): "user",
    ("hardware",): "hardware",
    ("trainer",): "trainer",
    ("trainer", "curriculum"): "curriculum",
    ("trainer", "dual_policy"): "dual_policy",
    ("env",): "env",
    ("policy",): "policy",
    ("sim", "suite"): "suite",
    ("evals",): "suite",
    ("wandb",): "wandb",
}
"""Keys at which a name selects a file -> the group of the file; in the order in which they are merged, so
that what one source selects by a narrow key wins over what comes with a user file."""

WHOLE: dict[Key, str] = {
    ("env",): "builder",
    ("policy",): "name",
    ("sim", "suite"): "simulations",
    ("evals",): "simulations",
    ("pytorch",): "_target_",
}
"""Parts that a source replaces, instead of merging into them, by setting the key named here: the arguments
of one builder mean nothing to another."""


@dataclass(frozen=True)
class Setting:
    """One value and where it came from.

    Args:
        key: its key.
        value: Python data.
        origin: file and line, environment variable, word or option.
        text: how an unquoted value was written; None if it was not text.
    """

    key: Key
    value: Any
    origin: str
    text: str | None = None

    def __str__(self) -> str:
        """Return the setting as messages show it."""
        name = dotted(self.key)
        value = str(self.value if self.text is None else self.text)
        if self.origin == f"{name}={value}":
            return self.origin
        return f"{name} = {value if value.isprintable() else ascii(value)} ({self.origin})"


def flatten(node: Node, key: Key, source: str) -> Iterator[Setting]:
    """Yield a setting for every value below a node.

    Args:
        node: a value, or a mapping of values.
        key: key of the node.
        source: file that the node is from.
    """
    if isinstance(node.value, dict) and node.value:
        for name, child in node.value.items():
            yield from flatten(child, (*key, name), source)
    else:
        yield Setting(key, node.plain(), f"{source}:{node.line}", node.text)


class Composition:
    """The values merged so far.

    Attributes:
        settings: canonical key -> its last setting. No key is the beginning of another.
    """

    def __init__(self) -> None:
        self.settings: dict[Key, Setting] = {}
        self._open_files: list[Path] = []

    def merge_file(self, path: Path, package: Key) -> None:
        """Merge a file and what its `defaults:` list names.

        Args:
            path: a YAML file.
            package: key that the file is the value of; () for the whole configuration.

        Raises:
            ConfigError: if it is no valid file, has unknown keys, or includes itself.
            UnknownNameError: if it names a file that does not exist.
        """
        if path.resolve() in self._open_files:
            circle = [*self._open_files[self._open_files.index(path.resolve()) :], path]
            route = " -> ".join(map(places.display, circle))
            raise ConfigError(f"`defaults:` go in a circle: {route}", "remove one of the entries")
        self._open_files.append(path.resolve())
        content = read_yaml(path)
        entries = dict(content.value)
        own = Node({name: node for name, node in entries.items() if name != "defaults"}, content.line)
        for entry in _defaults(entries.get("defaults"), path):
            if entry.value == "_self_":
                self.merge(flatten(own, package, places.display(path)) if own.value else ())
            else:
                self._merge_default(entry, package, path)
        self._open_files.pop()

    def merge(self, settings: Iterable[Setting]) -> None:
        """Merge the values of one source: the files that it selects first, then the rest.

        Raises:
            ConfigError: if a key does not exist, or a value has no place there.
            UnknownNameError: if a name stands for nothing.
        """
        canonical = [part for setting in settings for part in _canonical(setting)]
        values = [setting for setting in canonical if not _is_selection(setting)]
        for selector in SELECTORS:
            for setting in canonical:
                if setting.key == selector and _is_selection(setting):
                    self._select(setting)
        for whole, name in WHOLE.items():
            if any(setting.key == (*whole, name) for setting in values):
                self._drop(whole)
        for setting in values:
            self._set(setting)

    def _select(self, setting: Setting) -> None:
        """Merge the file that a name stands for."""
        group, name = SELECTORS[setting.key], setting.value
        path = Path(name) if group == "env" and name.endswith((".yaml", ".yml")) else None
        if path is None or not places.is_file(path):
            path = places.find(group, name)
        if path is None and group == "policy":  # a plugin without a file of its own
            self.merge([replace(setting, key=(*setting.key, "name"))])
            return
        if group == "curriculum":
            self._drop(setting.key)
            if path is None and places.find("env", name) is not None:  # a curriculum of that one environment
                name = places.plain_name("env", name)
                self._set(replace(setting, key=(*setting.key, "env"), value=name))
                return
        if path is None:
            known = places.names(group) + (places.names("env") if group == "curriculum" else [])
            cure = suggestion(places.plain_name(group, name), known)
            is_seen = setting.origin == "" or setting.origin.endswith(f"={name}")
            raise UnknownNameError(
                places.kind(group), name, known, cure if is_seen else f"{cure} (named by {setting.origin})"
            )
        holds_any_key = group in places.ROOT_GROUPS
        self.merge_file(path, () if holds_any_key else setting.key)
        if holds_any_key:
            self._set(setting)
        elif group in ("env", "curriculum"):
            self._set(replace(setting, key=(*setting.key, "name"), value=places.name_of(path)))

    def _merge_default(self, entry: Node, package: Key, path: Path) -> None:
        """Merge what one entry of a `defaults:` list names."""
        source = places.display(path)
        if isinstance(entry.value, dict):
            self.merge(flatten(entry, (), source))
            return
        if not isinstance(entry.value, str):
            raise ConfigError(
                f"{source}:{entry.line}: not an entry of `defaults:`",
                "write `- /group/name`, `- group: name`, `- file beside this one` or `- _self_`",
            )
        name, _, target = entry.value.partition("@")
        beside = path.parent / f"{name.removesuffix('.yaml')}.yaml"
        if not name.startswith("/") and places.is_file(beside):
            if places.group_of(beside) != places.group_of(path):
                package = places.package(beside)
            self.merge_file(beside, tuple(target.split(".")) if target else package)
            return
        group, name_in_group = places.split(name)
        if group:
            key = tuple(target.split(".")) if target else places.GROUPS[group]
            origin = f"{source}:{entry.line}"
            if SELECTORS.get(key) != group:
                raise ConfigError(f"{origin}: a {places.kind(group)} has no place at '{target}'")
            self.merge([Setting(key, name_in_group, origin)])
            return
        found = places.find("", name)
        if found is None:
            cure = f"named by {source}:{entry.line}; `metta configs list` shows what there is"
            raise UnknownNameError("configuration", name, places.names(), cure)
        if found.resolve() != places.common_file():  # that one lies under everything already
            self.merge_file(found, ())

    def _set(self, setting: Setting) -> None:
        """Put one value in the place of whatever was there."""
        key = setting.key
        if setting.value == {} and any(other[: len(key)] == key for other in self.settings):
            return  # merging nothing into something
        self._drop(key)
        for length in range(1, len(key)):
            self.settings.pop(key[:length], None)
        self.settings[key] = setting

    def _drop(self, key: Key) -> None:
        """Forget a value, or everything below a key."""
        for other in [other for other in self.settings if other[: len(key)] == key]:
            del self.settings[other]


def _defaults(node: Node | None, path: Path) -> list[Node]:
    """Return the entries of a `defaults:` list, with `_self_` at its end if it is not named."""
    entries = node.value if node is not None and node.value is not None else []
    if not isinstance(entries, list):
        line = node.line if node is not None else 1
        raise ConfigError(f"{places.display(path)}:{line}: `defaults` is not a list", "write `- NAME` lines")
    own = [entry for entry in entries if entry.value == "_self_"]
    return entries if own else [*entries, Node("_self_", 1)]


def _canonical(setting: Setting) -> list[Setting]:
    """Return a setting under the key and with the value that the schema knows."""
    if setting.key[0] == "hydra":
        return _run_directory(setting)
    is_name = isinstance(setting.value, str)
    written = ("sim", "suite") if setting.key == ("sim",) and is_name else setting.key
    key, kind = resolve(written, setting.origin)
    if setting.text is not None and setting.value is not None and (takes_text(kind) or key in SELECTORS):
        setting = replace(setting, value=setting.text)
    setting = replace(setting, key=key)
    fits = isinstance(setting.value, Mapping) or _is_selection(setting)
    if is_section(kind) and not fits and not (setting.value is None and takes_none(kind)):
        cure = "give a name, or " if key in SELECTORS else ""
        cure += f"set one of its keys: {', '.join(section_keys(kind))}"
        raise ConfigError(f"{setting}: it is a section, not a value", cure)
    return [setting]


def _is_selection(setting: Setting) -> bool:
    """Whether a setting stands for the content of a file."""
    return setting.key in SELECTORS and isinstance(setting.value, str)


def _run_directory(setting: Setting) -> list[Setting]:
    """Return what the old key of the run directory means: where runs are, and which run."""
    if setting.key != ("hydra", "run", "dir") or not isinstance(setting.value, str):
        raise ConfigError(
            f"unknown key '{dotted(setting.key)}' ({setting.origin})",
            "of the keys of hydra, only hydra.run.dir=DIRECTORY means something here",
        )
    path = PurePath(setting.value)
    return [
        Setting(("data_dir",), str(path.parent), setting.origin),
        Setting(("run",), path.name, setting.origin),
    ]
