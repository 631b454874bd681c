"""Contracts that a plugin author inherits from to test a plugin; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_cli.testing.contracts import PolicyContract
    from metta_cli.testing.loaders import LoaderContract

__all__ = ["LoaderContract", "PolicyContract"]

_MODULES = {
    "LoaderContract": "metta_cli.testing.loaders",
    "PolicyContract": "metta_cli.testing.contracts",
}


def __getattr__(name: str) -> Any:
    """Import one of the names above."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_MODULES[name]), name)
