"""What a result was made with: versions of everything that shapes the numbers, and the git commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import metta_cli

DISTRIBUTIONS = (
    "metta-cli",
    "mettagrid",
    "torch",
    "pufferlib-core",
    "tensordict",
    "numpy",
    "safetensors",
    "pydantic",
)
_GIT_TIMEOUT_SECONDS = 5.0


def versions() -> dict[str, str]:
    """Return name -> version of Python, the platform and every distribution that shapes the numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state(directory: Path | None = None) -> dict[str, Any] | None:
    """Return the commit of the checkout that metta runs from, and whether its files differ from it.

    Args:
        directory: a directory whose files the commit must contain; by default that of `metta_cli`.

    Returns:
        `{"commit": ..., "dirty": ...}`; None where git tracks nothing in the directory, as for an
        installed wheel inside somebody else's checkout, or where there is no git.
    """
    directory = directory or Path(metta_cli.__file__).parent
    if not _git(directory, "ls-files", "--", "."):
        return None
    commit = _git(directory, "rev-parse", "HEAD")
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no", "--", ":/")
    if not commit or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(directory: Path, *arguments: str) -> str | None:
    """Return what git prints, stripped; None if it fails, is missing, or hangs."""
    try:
        result = subprocess.run(
            ["git", "--no-optional-locks", "-C", directory, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
