"""How a resolved configuration is shown: every value with the place it is from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metta_cli.cli.output import emit, table

if TYPE_CHECKING:
    from metta_cli.config.layers import ResolvedConfig

_ORIGIN_COLUMN = 56
_MAX_VALUE_LENGTH = 40  # of the table only; the other formats have all of it


def emit_config(resolved: ResolvedConfig, format_name: str | None, output: str | None) -> None:
    """Print a configuration; as YAML it can be given to `--config` again."""
    from metta_cli.config.layers import ALREADY_MERGED

    rows = [{"key": key, "value": value, "origin": origin} for key, value, origin in resolved.explain()]
    data = resolved.config.model_dump(mode="json")
    columns = ("key", "value", "origin")
    emit(
        rows,
        columns=columns,
        format_name=format_name,
        destination=output,
        data={"config": data, "origins": dict(resolved.origins)},
        text=table([{**row, "value": _short(_inline(row["value"]))} for row in rows], columns),
        yaml=annotated_yaml(
            {key: value for key, value in data.items() if key not in ALREADY_MERGED}, resolved.origins
        ),
    )


def annotated_yaml(data: Mapping[str, Any], origins: Mapping[str, str], path: tuple[str, ...] = ()) -> str:
    """Return YAML with the origin of each value in a comment behind it."""
    lines = []
    for key, value in data.items():
        name = f"{'  ' * len(path)}{_inline(key)}:"
        if isinstance(value, Mapping) and value:
            lines += [name, annotated_yaml(value, origins, (*path, key))]
        else:
            line = f"{name} {_inline(value)}"
            lines.append(f"{line:<{_ORIGIN_COLUMN}} # {' '.join(origins['.'.join((*path, key))].split())}")
    return "\n".join(lines)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 3]}..."


def _inline(value: object) -> str:
    """Return a value as YAML on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return str(text).strip().removesuffix("...").strip()
