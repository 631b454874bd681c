"""An environment as it is stored: the name of a builder and its arguments."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from metta_cli.config.section import Section


class EnvironmentSpec(Section):
    """An environment, as data.

    MettaGrid's own configuration is not stored: its full form does not survive a round trip through
    YAML (capped rewards change their meaning).
    """

    name: str = ""
    """Canonical name, such as `navigation/simple`; filled in when the file is read."""
    builder: str
    """Which builder of `metta_cli.environments.builders` makes it."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the builder."""
    map_pool_size: int = Field(0, ge=0)
    """How many different maps training draws from; 0 makes a new map for every episode."""
    description: str = ""
    """One line for `metta configs list`."""
