"""How a resolved configuration is shown: every value with the place it is from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from metta_cli.cli.output import emit

if TYPE_CHECKING:
    from metta_cli.config.layers import ResolvedConfig

_ORIGIN_COLUMN = 56


def emit_config(resolved: ResolvedConfig, format_name: str | None, output: str | None) -> None:
    """Print a configuration; as YAML it can be given to `--config` again."""
    data = resolved.config.model_dump(mode="json")
    rows = [
        {"key": key, "value": value, "origin": origin_of(key, resolved.origins)}
        for key, value in leaves(data)
    ]
    emit(
        rows,
        columns=("key", "value", "origin"),
        format_name=format_name,
        destination=output,
        data={"config": data, "origins": {row["key"]: row["origin"] for row in rows}},
        yaml=annotated_yaml(data, resolved.origins),
    )


def leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything that is no non-empty mapping."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Return where a value is from; a value within one that was set as a whole is from there too."""
    while key not in origins and "." in key:
        key = key.rpartition(".")[0]
    return origins.get(key, "")


def annotated_yaml(data: Mapping[str, Any], origins: Mapping[str, str], path: tuple[str, ...] = ()) -> str:
    """Return YAML with the origin of each value in a comment behind it."""
    lines = []
    for key, value in data.items():
        name = f"{'  ' * len(path)}{_inline(key)}:"
        if isinstance(value, Mapping) and value:
            lines += [name, annotated_yaml(value, origins, (*path, key))]
        else:
            origin = origin_of(".".join((*path, key)), origins)
            line = f"{name} {_inline(value)}"
            lines.append(f"{line:<{_ORIGIN_COLUMN}} # {origin}" if origin else line)
    return "\n".join(lines)


def _inline(value: object) -> str:
    """Return a value as YAML on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return str(text).strip().removesuffix("...").strip()
