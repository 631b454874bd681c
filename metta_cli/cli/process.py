"""What a command that computes does first: log messages, threads, configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metta_cli.cli.output import note

if TYPE_CHECKING:
    from metta_cli.config.layers import ResolvedConfig

LEVEL_VARIABLES = ("LOG_LEVEL", "LOGLEVEL")
"""What else names the level, if METTA_LOG_LEVEL does not."""
LEVELS = {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARNING", "WARN": "WARNING", "ERROR": "ERROR"}
LOGGERS = ("metta_cli", "metta_plugins")


class StderrHandler(logging.Handler):
    """Sends messages to whatever stderr is at the time: a live display puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message, with its level unless that is INFO."""
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        note(prefix + self.format(record))


def prepare_process() -> None:
    """Show our log messages, and choose how threads wait before torch is imported.

    They are shown from METTA_LOG_LEVEL on, else from LOG_LEVEL or LOGLEVEL on, which other programs read
    too: a level that only they know is reported and left aside.

    Raises:
        ConfigError: a METTA_* variable has a value that it cannot have.
    """
    from metta_cli.config.settings import read_settings
    from metta_cli.runs.machine import limit_spinning

    settings = read_settings()
    level: str = settings.log_level
    unknown = None
    if "log_level" not in settings.model_fields_set:
        level, unknown = _level_of(os.environ)
    handler = StderrHandler()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
    if unknown is not None:
        logging.getLogger(LOGGERS[0]).warning("%s names no level of metta's: %s", unknown, ", ".join(LEVELS))
    limit_spinning(os.environ)


def _level_of(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the level that the variables of other programs name, and the variable that names none."""
    for name in LEVEL_VARIABLES:
        value = environ.get(name, "").strip().upper()
        if value:
            return LEVELS.get(value, "INFO"), None if value in LEVELS else f"{name}={environ[name]}"
    return "INFO", None


def resolve(files: Sequence[str], words: Sequence[str], options: Mapping[str, Any]) -> ResolvedConfig:
    """Return the configuration of a command on this machine.

    Raises:
        MettaError: see `metta_cli.config.layers.load_config`.
    """
    from metta_cli.config.layers import load_config

    inputs: dict[str, Any] = {"files": files, "words": words, "options": options, "environ": os.environ}
    resolved = load_config(**inputs)  # a mistake is told before torch is imported, which takes seconds
    from metta_cli.runs.machine import available_devices

    return load_config(**inputs, cuda_available=True) if "cuda" in available_devices() else resolved
