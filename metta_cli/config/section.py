"""The base of every configuration section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator


class Section(BaseModel):
    """A closed section: unknown keys are refused, assignments are checked, fields document themselves."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _any_mapping_will_do(cls, data: Any) -> Any:
        """Take mappings that are no dicts, such as OmegaConf's."""
        return plain(data) if isinstance(data, Mapping) and not isinstance(data, dict) else data

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `num_workers: true`, which pydantic would read as 1."""
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            if annotation in (int, float, int | None, float | None):
                raise ValueError("Input should be a number")
        return value


def plain(value: Any) -> Any:
    """Return nested mappings and lists of any kind, such as OmegaConf's, as dicts and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, list | tuple) or type(value).__name__ == "ListConfig":
        return [plain(entry) for entry in value]
    return value
