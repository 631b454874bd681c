"""What a training run is made of: sizes, optimizer, PPO, checkpoints, evaluation.

The names and defaults are those that Metta used in July and August 2025, so that a configuration of
that time keeps its meaning. Some of its settings belong to features that this version does not have;
they are accepted here, and `unsupported_settings` names them so that a run can refuse to start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from metta_cli.config.curriculum import CurriculumConfig
from metta_cli.config.dual_policy import DualPolicyConfig
from metta_cli.config.learning import (
    OptimizerConfig,
    PPOConfig,
    PrioritizedExperienceReplayConfig,
    RewardCenteringConfig,
    VTraceConfig,
)
from metta_cli.config.schedules import HyperparameterSchedulerConfig, LearningRateSchedulerConfig
from metta_cli.config.section import Section


class InitialPolicyConfig(Section):
    """Where the weights come from when a run starts."""

    uri: str | None = None
    """Checkpoint to start from; None starts from random weights."""
    type: Literal["top", "latest", "specific"] = "top"
    """Which of several checkpoints at `uri`."""
    range: int = Field(default=1, ge=0)
    """Out of how many of the best checkpoints `type: top` draws one; 0 counts as 1."""
    metric: str = "epoch"
    """By which number `type: top` ranks, such as `score`, or `navigation` for that category."""
    filters: dict[str, Any] = Field(default_factory=dict)
    """Entry of the metadata -> the value that it must have, a list of values, or `{min: , max: }`."""


class CheckpointConfig(Section):
    """When checkpoints are written, and how many are kept."""

    checkpoint_interval: int = Field(default=5, ge=0)
    """Epochs between checkpoints; 0 writes only the last one."""
    wandb_checkpoint_interval: int = Field(
        ge=0, default_factory=lambda data: max(5, data.get("checkpoint_interval", 5))
    )
    """Epochs between uploads to W&B; 0 never. Default: 5, or `checkpoint_interval` if that is more."""
    checkpoint_dir: str | None = None
    """Where checkpoints go; None is `checkpoints/` in the run directory."""
    keep: int = Field(default=5, ge=0)
    """How many of the newest checkpoints are kept; 0 keeps all."""
    keep_best: int = Field(default=1, ge=0)
    """How many of those with the best `avg_simulation_score` are kept besides."""

    @model_validator(mode="after")
    def _uploads_need_checkpoints(self) -> Self:
        both = self.checkpoint_interval and self.wandb_checkpoint_interval
        if both and self.wandb_checkpoint_interval < self.checkpoint_interval:
            raise ValueError(
                f"wandb_checkpoint_interval ({self.wandb_checkpoint_interval}) must be at least "
                f"checkpoint_interval ({self.checkpoint_interval})"
            )
        return self


class EvaluationConfig(Section):
    """Evaluation during training."""

    evaluate_interval: int = Field(default=50, ge=0)
    """Epochs between evaluations, with one at the end; 0 evaluates never."""
    replay_interval: int = Field(default=0, ge=0)
    """Epochs between replays of one episode; 0 writes none."""
    replay_dir: str | None = None
    """Where replays go; None is `replays/` in the run directory."""
    evaluate_local: bool = True
    """Whether this process evaluates."""
    evaluate_remote: bool = False
    """Whether an evaluation service is asked to."""
    skip_git_check: bool = False
    """Whether the evaluation service may run without a pushed commit."""
    git_hash: str | None = None
    """Commit that the evaluation service runs."""
    simulations: list[str] = Field(default_factory=list)
    """Environments to evaluate on besides the suite `sim.suite`."""
    num_training_tasks: int = Field(default=1, ge=0)
    """How many tasks of the curriculum are evaluated too."""


class TeacherConfig(Section):
    """One teacher of a kickstarted run."""

    teacher_uri: str
    """Checkpoint of the teacher."""
    action_loss_coef: float = Field(default=1.0, ge=0)
    """Weight of the cross entropy to the teacher's actions."""
    value_loss_coef: float = Field(default=1.0, ge=0)
    """Weight of the squared distance to the teacher's values."""


class KickstartConfig(Section):
    """Distillation from teachers at the start of a run."""

    teacher_uri: str | None = None
    """Checkpoint of the teacher; None without `additional_teachers` switches kickstarting off."""
    action_loss_coef: float = Field(default=1.0, ge=0)
    """Weight of the cross entropy to the teacher's actions."""
    value_loss_coef: float = Field(default=1.0, ge=0)
    """Weight of the squared distance to the teacher's values."""
    anneal_ratio: float = Field(default=0.65, ge=0, le=1)
    """Last share of `kickstart_steps` over which the losses fade out."""
    kickstart_steps: int = Field(default=1_000_000_000, gt=0)
    """Agent steps after which the teachers are gone."""
    additional_teachers: list[TeacherConfig] | None = None
    """More teachers."""


class ProfilerConfig(Section):
    """Traces of whole epochs, written by the torch profiler."""

    interval_epochs: int = Field(default=0, ge=0)
    """Epochs between profiles; 0 never."""
    profile_dir: str | None = None
    """Where profiles go; None is `profiles/` in the run directory."""


class CurriculumServerConfig(Section):
    """A server that hands out tasks to several machines."""

    host: str | None = None
    """Its address."""
    port: int = Field(default=12346, ge=1, le=65535)
    """Its port."""


class TrainerConfig(Section):
    """How a policy is trained."""

    total_timesteps: int = Field(default=50_000_000_000, gt=0)
    """Limit of the run in agent steps: environment steps summed over the learning agents."""
    batch_size: int = Field(default=524_288, gt=0)
    """Agent steps collected per epoch; a multiple of agents x `bptt_horizon`."""
    minibatch_size: int = Field(default=16_384, gt=0)
    """Agent steps per gradient step; divides `batch_size` and is a multiple of `bptt_horizon`."""
    bptt_horizon: int = Field(default=64, gt=0)
    """Steps per segment that gradients flow through."""
    max_minibatch_size: int | None = Field(default=None, gt=0)
    """Agent steps of a minibatch that go through the network at once; less needs less memory and takes more
    time, and the gradient is the same. Divides `minibatch_size`; None is all of it."""
    update_epochs: int = Field(default=1, gt=0)
    """Passes over one batch of experience."""
    recompute_advantages: bool = False
    """Whether passes after the first estimate values and advantages anew, for targets and priorities."""
    sampling: Literal["prioritized", "sequential"] = "prioritized"
    """Whether minibatches are drawn by priority, or every segment is used once per pass."""
    bootstrap_truncations: bool = True
    """Whether an episode that was cut by time counts the value of its last observation as future reward."""
    forward_pass_minibatch_target_size: int = Field(default=4096, gt=0)
    """About how many agents act in one forward pass of the policy."""
    num_workers: int | None = Field(
        default=None, ge=0, validation_alias=AliasChoices("num_workers", "rollout_workers")
    )
    """Processes that step environments; 0 steps them in the main process, None suits the machine."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
    ppo: PPOConfig = PPOConfig()
    """The losses."""
    prioritized_experience_replay: PrioritizedExperienceReplayConfig = PrioritizedExperienceReplayConfig()
    """Drawing of minibatches by priority."""
    vtrace: VTraceConfig = VTraceConfig()
    """Off-policy correction."""
    reward_centering: RewardCenteringConfig = RewardCenteringConfig()
    """Subtraction of the mean reward."""
    initial_policy: InitialPolicyConfig = InitialPolicyConfig()
    """Where the weights come from."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    simulation: EvaluationConfig = Field(
        default=EvaluationConfig(), validation_alias=AliasChoices("simulation", "evaluation")
    )
    """Evaluation during training."""
    kickstart: KickstartConfig = KickstartConfig()
    """Distillation from teachers."""
    profiler: ProfilerConfig = ProfilerConfig()
    """The torch profiler."""
    hyperparameter_scheduler: HyperparameterSchedulerConfig = HyperparameterSchedulerConfig()
    """Schedules of hyperparameters."""
    lr_scheduler: LearningRateSchedulerConfig = LearningRateSchedulerConfig()
    """The schedule of the learning rate."""
    dual_policy: DualPolicyConfig = DualPolicyConfig()
    """Training against an opponent."""
    curriculum: CurriculumConfig | None = None
    """Tasks that the episodes are drawn from; a name stands for what is stored there."""
    env_overrides: dict[str, Any] = Field(default_factory=dict)
    """Arguments that replace those of the environment, during training only."""
    curriculum_server: CurriculumServerConfig = CurriculumServerConfig()
    """Sharing of a curriculum between machines."""
    async_factor: int = Field(default=2, ge=1)
    """How many batches of environments take turns, so that acting and stepping overlap."""
    zero_copy: bool = True
    """Whether the observations of all workers lie in one shared array."""
    require_contiguous_env_ids: bool = False
    """Whether a batch holds neighbouring environments only."""
    scale_batches_by_world_size: bool = False
    """Whether the batch sizes are for all processes of a distributed run together."""
    cpu_offload: bool = False
    """Whether the experience stays in CPU memory."""
    compile: bool = False
    """Whether the policy goes through `torch.compile`."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "reduce-overhead"
    """Mode of `torch.compile`."""
    grad_mean_variance_interval: int = Field(default=0, ge=0)
    """Epochs between statistics of the gradient; 0 never."""
    system_monitor_interval: int = Field(default=10, ge=0)
    """Epochs between measurements of processor and memory; 0 never."""
    verbose: bool = True
    """Whether the trainer logs every epoch."""

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        parts = [("batch_size", "minibatch_size"), ("minibatch_size", "bptt_horizon")]
        if self.max_minibatch_size is not None:
            parts += [("minibatch_size", "max_minibatch_size"), ("max_minibatch_size", "bptt_horizon")]
        for size, part in parts:
            if getattr(self, size) % getattr(self, part):
                raise ValueError(f"{part} ({getattr(self, part)}) must divide {size} ({getattr(self, size)})")
        return self

    @model_validator(mode="after")
    def _one_schedule_of_the_learning_rate(self) -> Self:
        if self.hyperparameter_scheduler.learning_rate_schedule and self.lr_scheduler.shape != "constant":
            raise ValueError(
                "lr_scheduler and hyperparameter_scheduler.learning_rate_schedule are both a schedule of the "
                "learning rate: keep one, as with lr_scheduler.enabled=false"
            )
        return self

    @model_validator(mode="after")
    def _evaluations_need_checkpoints(self) -> Self:
        interval = self.simulation.evaluate_interval
        for name in ("checkpoint_interval", "wandb_checkpoint_interval"):
            needed = getattr(self.checkpoint, name)
            if interval and interval < needed:
                raise ValueError(
                    f"simulation.evaluate_interval ({interval}) must be at least checkpoint.{name} "
                    f"({needed}), or 0"
                )
        return self


UNSUPPORTED = {
    "checkpoint.checkpoint_dir": "checkpoints are a part of the run directory, which data_dir moves",
    "simulation.evaluate_local": "simulation.evaluate_interval=0 switches evaluation off",
    "simulation.evaluate_remote": "there is no evaluation service",
    "simulation.skip_git_check": "there is no evaluation service",
    "simulation.git_hash": "there is no evaluation service; every run notes its commit in versions.json",
    "simulation.simulations": "the suite to evaluate on is sim.suite",
    "curriculum_server": "every process draws its tasks itself",
    "async_factor": "acting and stepping take turns, each with all environments at once",
    "zero_copy": "the observations of all workers always lie in one shared array",
    "require_contiguous_env_ids": "a batch is always all environments, in order",
    "cpu_offload": "the experience lies where the policy computes; a smaller batch_size takes less memory",
    "compile": "torch 2.13 cannot trace the drawing of actions, nor an LSTM that is cut where episodes start",
    "compile_mode": "there is no compilation",
    "verbose": "what is shown is up to --progress and METTA_LOG_LEVEL",
}
"""Settings of `TrainerConfig`, or whole parts of it, that this version does not act upon, and why."""


def unsupported_settings(config: TrainerConfig) -> list[str]:
    """Return the settings that differ from their default but that this version does not act upon.

    Args:
        config: any trainer configuration.

    Returns:
        Dotted keys as a user writes them, such as `trainer.kickstart.teacher_uri`; empty if the run
        can do all that is asked of it.
    """
    return [f"trainer.{key}" for key in _changed_settings(config, "") if _refused_as(key)]


def why_unsupported(key: str) -> str:
    """Return the reason for one of `unsupported_settings`."""
    name = _refused_as(key.removeprefix("trainer."))
    return UNSUPPORTED[name] if name else "it acts"


def _refused_as(key: str) -> str | None:
    """Return the entry of `UNSUPPORTED` that a setting falls under."""
    return next((name for name in UNSUPPORTED if key == name or key.startswith(name + ".")), None)


def _changed_settings(section: Section, prefix: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _changed_settings(value, f"{prefix}{name}.")
        elif value != field.get_default(call_default_factory=True, validated_data=section.__dict__):
            yield prefix + name
