"""Single values: `KEY=VALUE` words, `METTA_*` environment variables, options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from metta_cli.config.composition import Setting, flatten
from metta_cli.config.files import Node, parse_scalar, parse_yaml
from metta_cli.config.keys import resolve, setting_names
from metta_cli.config.places import GROUPS
from metta_cli.errors import ConfigError

PREFIX = "METTA_"

OPTION_NAMES = {"sim.num_workers": "--workers"}
"""Options that are not called like the last part of the key they set."""


def parse_word(word: str) -> list[Setting]:
    """Return what a `KEY=VALUE` word sets.

    The value is read as YAML reads it after `KEY: `, except that text needs no quotes whatever it holds:
    `policy_uri=wandb://a/b:latest`. A leading `+` of the key means nothing.

    Args:
        word: such as `trainer.total_timesteps=10_000_000`, `+user=me` or `wandb.tags=[a, b]`.

    Raises:
        ConfigError: if it has no key or no value, or the value is broken YAML.
    """
    key, equals, value = word.partition("=")
    key = key.lstrip("+")
    if not equals or not all(key.split(".")) or key != key.strip():
        raise ConfigError(f"'{word}' is not a setting", "write KEY=VALUE without blanks around the '='")
    return _settings(key, value, word)


def environment_settings(environ: Mapping[str, str]) -> list[Setting]:
    """Return what the `METTA_*` environment variables set; `__` stands for the dot of a key.

    Raises:
        ConfigError: if a name stands for no key, and is not one of `settings.Settings` either.
    """
    found = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and not _belongs_to_settings(name):
            found += _settings(name.removeprefix(PREFIX).lower().replace("__", "."), environ[name], name)
    return found


def option_settings(options: Mapping[str, Any]) -> list[Setting]:
    """Return what command-line options set; an option that is None was not given.

    Args:
        options: key -> value, as `{"sim.suite": "laser_tag", "seed": None}`.
    """
    return [
        Setting(tuple(key.split(".")), value, option_name(key), value if isinstance(value, str) else None)
        for key, value in options.items()
        if value is not None
    ]


def option_name(key: str) -> str:
    """Return the command-line option that sets a key."""
    return OPTION_NAMES.get(key, "--" + key.rsplit(".", 1)[-1].replace("_", "-"))


def _settings(key: str, value: str, origin: str) -> list[Setting]:
    """Return what a key and the text of its value set."""
    if not value:
        raise ConfigError(f"{origin} has no value", "give it one, or `null` to have none")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ConfigError(f"{origin!a}: the value is not UTF-8 text")
    try:
        is_structured = value[0] in "[{\"'"
        node = parse_yaml(value, "value") if is_structured else Node(parse_scalar(value), 1, value)
    except ConfigError as error:  # a word has no lines to speak of
        raise ConfigError(f"{origin}: {error.message.split(': ', 1)[-1]}", error.cure) from None
    parts = flatten(node, tuple(key.split(".")), origin)
    return [replace(part, origin=origin) for part in parts]


def _belongs_to_settings(name: str) -> bool:
    """Whether a METTA_* variable is not for the configuration, but for the program.

    Raises:
        ConfigError: if it is for neither.
    """
    key = name.removeprefix(PREFIX).lower().replace("__", ".")
    try:
        resolve(tuple(key.split(".")), name)
        return False
    except ConfigError:
        from metta_cli.config.settings import Settings  # slow to import, and hardly ever needed

        if key in Settings.model_fields:
            return True
        known = _variables([*setting_names(), *GROUPS, *Settings.model_fields])
        close = difflib.get_close_matches(name, known, n=2, cutoff=0.8)
        meant = f"did you mean {' or '.join(close)}?" if close else "no key or setting is called like that;"
        cure = f"{meant} METTA_TRAINER__BATCH_SIZE, for example, sets trainer.batch_size"
        raise ConfigError(f"the environment variable {name} sets nothing", cure) from None


def _variables(keys: Iterable[str]) -> list[str]:
    return [PREFIX + key.upper().replace(".", "__") for key in keys]
