"""Metta for programs. Every name is imported when it is first used, so that importing this is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
    from metta_cli.config.trainer import TrainerConfig
    from metta_cli.policies.lstm import LSTMWrapper
    from metta_cli.policies.mixin import PyTorchAgentMixin
    from metta_cli.runs.policies import Trust
    from metta_cli.runs.policy_store import (
        LoadedAgent,
        PolicyRecord,
        PolicyStore,
        load_policy_from_checkpoint,
    )

__all__ = [
    "LSTMWrapper",
    "LoadedAgent",
    "PolicyRecord",
    "PolicyStore",
    "PyTorchAgentMixin",
    "SimulationSuiteConfig",
    "SingleEnvSimulationConfig",
    "TrainerConfig",
    "Trust",
    "load_policy_from_checkpoint",
]

_MODULES = {
    "LSTMWrapper": "metta_cli.policies.lstm",
    "LoadedAgent": "metta_cli.runs.policy_store",
    "PolicyRecord": "metta_cli.runs.policy_store",
    "PolicyStore": "metta_cli.runs.policy_store",
    "PyTorchAgentMixin": "metta_cli.policies.mixin",
    "SimulationSuiteConfig": "metta_cli.config.simulation",
    "SingleEnvSimulationConfig": "metta_cli.config.simulation",
    "TrainerConfig": "metta_cli.config.trainer",
    "Trust": "metta_cli.runs.policies",
    "load_policy_from_checkpoint": "metta_cli.runs.policy_store",
}


def __getattr__(name: str) -> Any:
    """Import one of the names above."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
