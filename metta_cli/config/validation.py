"""From merged values to checked objects, and from failed checks to one line that a user can act upon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from metta_cli.config.composition import Setting
from metta_cli.config.keys import Key, describe, dotted
from metta_cli.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
_CONSEQUENCE = "default_factory_not_called"  # pydantic reports it beside the mistake that caused it


def validate(model: type[Model], settings: Mapping[Key, Setting], prefix: Key = ()) -> Model:
    """Return the object that the values below a key describe.

    Args:
        model: type of the object.
        settings: all values, by key.
        prefix: key of the object.

    Raises:
        ConfigError: the first thing that is wrong: key, value, why, where it came from, what would be right.
    """
    data: dict[str, Any] = {}
    for key, setting in settings.items():
        if key[: len(prefix)] == prefix:
            inner = data
            for part in key[len(prefix) : -1]:
                inner = inner.setdefault(part, {})
            inner[key[-1]] = setting.value
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _config_error(error, settings, prefix) from None


def _config_error(error: ValidationError, settings: Mapping[Key, Setting], prefix: Key) -> ConfigError:
    """Return the first mistake as a line."""
    mistakes = [mistake for mistake in error.errors(include_url=False) if mistake["type"] != _CONSEQUENCE]
    mistake, others = mistakes[0], len(mistakes) - 1
    key = (*prefix, *map(str, mistake["loc"]))
    reason = "unknown key" if mistake["type"] == "extra_forbidden" else mistake["msg"]
    reason = reason.removeprefix("Value error, ").removeprefix("Input ").split(", unable to")[0]
    more = f"; {others} more mistake{'s' if others > 1 else ''}" if others else ""
    if mistake["type"] == "missing":
        beside = [setting.origin for other, setting in settings.items() if other[: len(key) - 1] == key[:-1]]
        where = f" ({beside[0]})" if beside else ""
        return ConfigError(f"{dotted(key)} is missing{where}{more}", describe(key) or None)
    if key in settings:
        return ConfigError(f"{settings[key]}: {reason}{more}", describe(key) or None)
    named = _named_settings(reason, key, settings)
    if not named:
        is_section = mistake["type"] == "value_error"  # of several settings together: no description helps
        return ConfigError(f"{dotted(key)}: {reason}{more}", None if is_section else describe(key) or None)
    where = "; ".join(map(str, named))
    return ConfigError(
        f"{dotted(key)}: {reason} [{where}]{more}",
        f"change {' or '.join(dotted(setting.key) for setting in named)}",
    )


def _named_settings(text: str, section: Key, settings: Mapping[Key, Setting]) -> list[Setting]:
    """Return the settings of a section that a message names."""
    names = re.findall(r"[a-z_][a-z0-9_.]*", text)
    keys = dict.fromkeys((*section, *name.split(".")) for name in names)
    return [settings[key] for key in keys if key in settings]
