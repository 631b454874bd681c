"""Metta for programs. Every name is imported when it is first used, so that importing this is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_cli.algorithms.advantages import compute_advantage
    from metta_cli.algorithms.priorities import calculate_anneal_beta
    from metta_cli.config.curriculum import CurriculumConfig, Task
    from metta_cli.config.dual_policy import DualPolicyConfig
    from metta_cli.config.environment import EnvironmentSpec
    from metta_cli.config.interface import EnvironmentInterface
    from metta_cli.config.learning import (
        OptimizerConfig,
        PPOConfig,
        PrioritizedExperienceReplayConfig,
        RewardCenteringConfig,
        VTraceConfig,
    )
    from metta_cli.config.schedules import HyperparameterSchedulerConfig, LearningRateSchedulerConfig
    from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
    from metta_cli.config.trainer import (
        CheckpointConfig,
        CurriculumServerConfig,
        EvaluationConfig,
        InitialPolicyConfig,
        KickstartConfig,
        ProfilerConfig,
        TeacherConfig,
        TrainerConfig,
    )
    from metta_cli.policies.lstm import LSTMWrapper
    from metta_cli.policies.mixin import PyTorchAgentMixin
    from metta_cli.policies.registry import create_policy, register_policy
    from metta_cli.runs.agents import LoadedAgent, load_policy_from_checkpoint
    from metta_cli.runs.kickstart import load_kickstarter
    from metta_cli.runs.library import (
        Agent,
        Environment,
        RunDirectories,
        cleanup_distributed,
        create_evaluation_config_suite,
        create_replay_config,
        save_experiment_config,
        setup_device_and_distributed,
        setup_run_directories,
    )
    from metta_cli.runs.loop import (
        evaluate_policy,
        load_checkpoint,
        record_replay,
        save_checkpoint,
    )
    from metta_cli.runs.monitors import (
        MemoryMonitor,
        Stopwatch,
        SystemMonitor,
    )
    from metta_cli.runs.policies import Trust
    from metta_cli.runs.policy_store import PolicyStore
    from metta_cli.runs.records import PolicyMetadata, PolicyRecord
    from metta_cli.tracking.jsonl import JsonlTracker
    from metta_cli.training.callbacks import Callback
    from metta_cli.training.distributed import World
    from metta_cli.training.experience import Experience, Minibatch
    from metta_cli.training.kickstarter import Kickstarter, Teacher
    from metta_cli.training.optimizers import Optimizer, create_optimizer
    from metta_cli.training.regularization import InitialWeights
    from metta_cli.training.rollout import (
        accumulate_rollout_stats,
        mean_statistics,
        perform_rollout_step,
    )
    from metta_cli.training.trainer import Trainer
    from metta_cli.training.update import Losses, process_minibatch_update

__all__ = [
    "Agent",
    "Callback",
    "CheckpointConfig",
    "CurriculumConfig",
    "CurriculumServerConfig",
    "DualPolicyConfig",
    "Environment",
    "EnvironmentInterface",
    "EnvironmentSpec",
    "EvaluationConfig",
    "Experience",
    "HyperparameterSchedulerConfig",
    "InitialPolicyConfig",
    "InitialWeights",
    "JsonlTracker",
    "KickstartConfig",
    "Kickstarter",
    "LSTMWrapper",
    "LearningRateSchedulerConfig",
    "LoadedAgent",
    "Losses",
    "MemoryMonitor",
    "Minibatch",
    "Optimizer",
    "OptimizerConfig",
    "PPOConfig",
    "PolicyMetadata",
    "PolicyRecord",
    "PolicyStore",
    "PrioritizedExperienceReplayConfig",
    "ProfilerConfig",
    "PyTorchAgentMixin",
    "RewardCenteringConfig",
    "RunDirectories",
    "SimulationSuiteConfig",
    "SingleEnvSimulationConfig",
    "Stopwatch",
    "SystemMonitor",
    "Task",
    "Teacher",
    "TeacherConfig",
    "Trainer",
    "TrainerConfig",
    "Trust",
    "VTraceConfig",
    "World",
    "accumulate_rollout_stats",
    "calculate_anneal_beta",
    "cleanup_distributed",
    "compute_advantage",
    "create_evaluation_config_suite",
    "create_optimizer",
    "create_policy",
    "create_replay_config",
    "evaluate_policy",
    "load_checkpoint",
    "load_kickstarter",
    "load_policy_from_checkpoint",
    "mean_statistics",
    "perform_rollout_step",
    "process_minibatch_update",
    "record_replay",
    "register_policy",
    "save_checkpoint",
    "save_experiment_config",
    "setup_device_and_distributed",
    "setup_run_directories",
]

_NAMES = {
    "metta_cli.algorithms.advantages": ("compute_advantage",),
    "metta_cli.algorithms.priorities": ("calculate_anneal_beta",),
    "metta_cli.config.curriculum": ("CurriculumConfig", "Task"),
    "metta_cli.config.dual_policy": ("DualPolicyConfig",),
    "metta_cli.config.environment": ("EnvironmentSpec",),
    "metta_cli.config.interface": ("EnvironmentInterface",),
    "metta_cli.config.learning": (
        "OptimizerConfig",
        "PPOConfig",
        "PrioritizedExperienceReplayConfig",
        "RewardCenteringConfig",
        "VTraceConfig",
    ),
    "metta_cli.config.schedules": ("HyperparameterSchedulerConfig", "LearningRateSchedulerConfig"),
    "metta_cli.config.simulation": ("SimulationSuiteConfig", "SingleEnvSimulationConfig"),
    "metta_cli.config.trainer": (
        "CheckpointConfig",
        "CurriculumServerConfig",
        "EvaluationConfig",
        "InitialPolicyConfig",
        "KickstartConfig",
        "ProfilerConfig",
        "TeacherConfig",
        "TrainerConfig",
    ),
    "metta_cli.policies.lstm": ("LSTMWrapper",),
    "metta_cli.policies.mixin": ("PyTorchAgentMixin",),
    "metta_cli.policies.registry": ("create_policy", "register_policy"),
    "metta_cli.runs.agents": ("LoadedAgent", "load_policy_from_checkpoint"),
    "metta_cli.runs.kickstart": ("load_kickstarter",),
    "metta_cli.runs.library": (
        "Agent",
        "Environment",
        "RunDirectories",
        "cleanup_distributed",
        "create_evaluation_config_suite",
        "create_replay_config",
        "save_experiment_config",
        "setup_device_and_distributed",
        "setup_run_directories",
    ),
    "metta_cli.runs.loop": ("evaluate_policy", "load_checkpoint", "record_replay", "save_checkpoint"),
    "metta_cli.runs.monitors": ("MemoryMonitor", "Stopwatch", "SystemMonitor"),
    "metta_cli.runs.policies": ("Trust",),
    "metta_cli.runs.policy_store": ("PolicyStore",),
    "metta_cli.runs.records": ("PolicyMetadata", "PolicyRecord"),
    "metta_cli.tracking.jsonl": ("JsonlTracker",),
    "metta_cli.training.callbacks": ("Callback",),
    "metta_cli.training.distributed": ("World",),
    "metta_cli.training.experience": ("Experience", "Minibatch"),
    "metta_cli.training.kickstarter": ("Kickstarter", "Teacher"),
    "metta_cli.training.optimizers": ("Optimizer", "create_optimizer"),
    "metta_cli.training.regularization": ("InitialWeights",),
    "metta_cli.training.rollout": ("accumulate_rollout_stats", "mean_statistics", "perform_rollout_step"),
    "metta_cli.training.trainer": ("Trainer",),
    "metta_cli.training.update": ("Losses", "process_minibatch_update"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import one of the names above."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
