"""The keys of the configuration: which exist, what they take, and their other spellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from metta_cli.config.schema import MettaConfig
from metta_cli.config.section import Section
from metta_cli.errors import ConfigError

Key = tuple[str, ...]
"""A key, split at its dots: `trainer.ppo.gamma` is `("trainer", "ppo", "gamma")`."""

OTHER_SPELLINGS: dict[Key, Key] = {
    ("agent",): ("policy",),
    ("py_agent",): ("policy",),
    ("suite",): ("sim", "suite"),
    ("sim_job", "simulation_suite", "name"): ("sim", "suite"),
    ("sim_job", "simulation_suite"): ("sim", "suite"),
    ("env", "mettagrid", "curriculum", "test"): ("env",),
    ("trainer", "env"): ("env",),
    ("curriculum",): ("trainer", "curriculum"),
}
"""Keys of older configurations, and what they are called here; what follows them stays."""


def dotted(key: Key) -> str:
    """Return a key as a user writes it."""
    return ".".join(key)


def resolve(key: Key, origin: str) -> tuple[Key, Any]:
    """Return the canonical spelling of a key and the type of its value.

    Args:
        key: a key as it was written.
        origin: where it was written, for the error message.

    Raises:
        ConfigError: if there is no such key.
    """
    key = _modern(key)
    canonical: list[str] = []
    kind: Any = MettaConfig
    for depth, part in enumerate(key):
        kind = _without_none(kind)
        if kind is Any:
            return (*canonical, *key[depth:]), Any
        if get_origin(kind) is dict:
            canonical.append(part)
            kind = get_args(kind)[1]
            continue
        fields = kind.model_fields if is_section(kind) else {}
        name = _field_name(fields, part)
        if name is None:
            raise ConfigError(f"unknown key '{dotted(key)}' ({origin})", _cure(key, depth, kind))
        canonical.append(name)
        kind = fields[name].annotation
    return tuple(canonical), kind


def is_section(kind: Any) -> bool:
    """Whether the type of a value is a section with keys of its own, or None instead."""
    kind = _without_none(kind)
    return isinstance(kind, type) and issubclass(kind, Section)


def section_keys(kind: Any) -> list[str]:
    """Return the keys of a section."""
    return list(_without_none(kind).model_fields)


def takes_text(kind: Any) -> bool:
    """Whether a value of this type is text, so that `run: 007` is not a number."""
    return _without_none(kind) is str


def takes_none(kind: Any) -> bool:
    """Whether a value of this type may be null."""
    return kind is Any or _without_none(kind) is not kind


def describe(key: Key) -> str:
    """Return one line on what a key is for; empty if nothing is known."""
    fields: dict[str, FieldInfo] = MettaConfig.model_fields
    text = ""
    for part in key:
        if part not in fields:
            return text
        kind = _without_none(fields[part].annotation)
        text = fields[part].description or ""
        fields = kind.model_fields if is_section(kind) else {}
    return " ".join(text.split())


def setting_names() -> list[str]:
    """Return every key that takes a value, dotted, in the order of the schema."""
    return [dotted(key) for key in _settings(MettaConfig, ())]


def _settings(section: type[Section], prefix: Key) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        kind = _without_none(field.annotation)
        if is_section(kind):
            yield from _settings(kind, (*prefix, name))
        else:
            yield (*prefix, name)


def _modern(key: Key) -> Key:
    """Return a key with the longest of `OTHER_SPELLINGS` that it starts with replaced."""
    for length in range(len(key), 0, -1):
        if key[:length] in OTHER_SPELLINGS:
            return OTHER_SPELLINGS[key[:length]] + key[length:]
    return key


def _field_name(fields: dict[str, FieldInfo], part: str) -> str | None:
    """Return the field that is called `part`, by its name or another spelling."""
    for name, field in fields.items():
        choices = field.validation_alias
        if part == name or (isinstance(choices, AliasChoices) and part in choices.choices):
            return name
    return None


def _cure(key: Key, depth: int, kind: Any) -> str:
    """Return which key was probably meant instead of one that ends to exist at `depth`."""
    parent = dotted(key[:depth])
    if not is_section(kind):
        return f"'{parent}' has a value and no keys below it"
    everywhere = {name: name.rsplit(".", 1)[-1] for name in setting_names()}
    matches = [name for name, last in everywhere.items() if last == key[-1]]
    siblings = [*kind.model_fields, *(other[0] for other in OTHER_SPELLINGS if depth == 0)]
    matches = matches or [
        dotted((*key[:depth], name)) for name in difflib.get_close_matches(key[depth], siblings, n=2)
    ]
    close = difflib.get_close_matches(key[-1], everywhere.values())
    matches = matches or [name for name, last in everywhere.items() if last in close]
    if matches:
        return "did you mean " + " or ".join(f"'{name}'" for name in matches[:3]) + "?"
    return f"keys {'of ' + repr(parent) if parent else 'here'}: {', '.join(kind.model_fields)}"


def _without_none(kind: Any) -> Any:
    """Return `X` for the type `X | None`."""
    if get_origin(kind) in (Union, UnionType):
        kinds = [arg for arg in get_args(kind) if arg is not NoneType]
        return kinds[0] if len(kinds) == 1 else kind
    return kind
