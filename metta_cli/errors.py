"""Everything that can go wrong and that a user can mend.

A `MettaError` is printed by the command line as one line, what and where, followed by its cure; its
class decides the exit code. Every other exception is a defect of ours and keeps its traceback.

    MettaError                1  the run failed
    +-- UsageError            2  the command, a name, or the configuration is wrong
    |   +-- ConfigError       2  a configuration value, key or file
    |   +-- UnknownNameError  2  no environment, suite, policy, ... of that name
    +-- IncompatibleError     3  a plugin or an artifact that is broken or does not fit
    |   +-- PluginError       3  an entry point that cannot be loaded, or two that claim one name
    |   +-- CheckpointError   3  a checkpoint that is damaged or made for something else
    +-- AccessError           4  credentials are missing or refused
    +-- NotFoundError         5  a file, run, checkpoint or remote object does not exist
    +-- StorageError          7  the disk is full, or the place cannot be written
    +-- SimulatorError        8  MettaGrid, or a worker process that runs it, failed

0 is success, 6 a gate that was not met, 130 SIGINT and 143 SIGTERM (after saving).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MettaError(Exception):
    """A failure that the user can mend.

    Args:
        message: one line, what is wrong and where.
        cure: one line, what to do about it; None where the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, cure: str | None = None) -> None:
        super().__init__(message if cure is None else f"{message} ({cure})")
        self.message = message
        self.cure = cure

    def __reduce__(self) -> tuple[type[MettaError], tuple[str, str | None]]:
        """Survive the way from a worker process to the main process."""
        return type(self), (self.message, self.cure)


class UsageError(MettaError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value, key or file is wrong."""


class UnknownNameError(UsageError):
    """A name that nothing is registered under.

    Args:
        kind: what the name should have named, such as "environment".
        name: the name as it was given.
        known: every name that would have worked.
        cure: what else to do; by default the closest known names, or all of them.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], cure: str | None = None) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"unknown {kind} '{name}'", cure or suggestion(name, self.known))

    def __reduce__(self) -> tuple[type[MettaError], tuple[str, str, list[str], str | None]]:  # type: ignore[override]
        """Survive the way from a worker process to the main process."""
        return type(self), (self.kind, self.name, self.known, self.cure)


class IncompatibleError(MettaError):
    """A plugin or an artifact is broken, or does not fit what it is used with."""

    exit_code = 3


class PluginError(IncompatibleError):
    """An entry point cannot be loaded, or two distributions claim one name."""


class CheckpointError(IncompatibleError):
    """A checkpoint is damaged, or was made for other observations or actions."""


class AccessError(MettaError):
    """Credentials are missing or were refused."""

    exit_code = 4


class NotFoundError(MettaError):
    """A file, run, checkpoint or remote object does not exist."""

    exit_code = 5


class StorageError(MettaError):
    """The disk is full, or the place cannot be written."""

    exit_code = 7


class SimulatorError(MettaError):
    """MettaGrid, or a worker process that runs it, failed."""

    exit_code = 8


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "did you mean ..." for the closest known names, or a list of all of them."""
    names = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    close = close or [lower for lower in by_lower if lower.rsplit("/", 1)[-1] == name.lower()][:3]
    if close:
        return "did you mean " + " or ".join(f"'{by_lower[lower]}'" for lower in close) + "?"
    return "known: " + ", ".join(names) if names else "none is known"
