"""What the environment says to the program as a whole, and not to one run."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from metta_cli.errors import ConfigError


class Settings(BaseSettings):
    """`METTA_DATA_DIR`, `METTA_LOG_LEVEL`, `METTA_LOAD_PLUGINS`, ...: one variable per field."""

    model_config = SettingsConfigDict(env_prefix="METTA_", extra="ignore", use_attribute_docstrings=True)

    data_dir: str = "./train_dir"
    """Where run directories are."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Which log messages are shown."""
    load_plugins: str | None = None
    """Distributions whose plugins are seen beside the built-in ones, separated by commas; None is all."""
    debug: bool = False
    """Whether every error shows its traceback."""
    bucket: str | None = None
    """Folders of buckets that `metta list-runs` looks into, `s3://BUCKET/FOLDER`, separated by commas."""
    hourly_cost: float | None = None
    """What an hour of this machine costs, in any currency."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigError: if a variable has a value that it cannot have.
    """
    try:
        return Settings()
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        name = f"METTA_{str(mistake['loc'][0]).upper()}"
        reason = mistake["msg"].removeprefix("Input ")
        raise ConfigError(f"the environment variable {name} = {mistake['input']!r}: {reason}") from None
