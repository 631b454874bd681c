"""How gradients become better weights: the optimizer, and the losses of proximal policy optimization."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from metta_cli.config.section import Section


class OptimizerConfig(Section):
    """The optimizer and its step size."""

    type: Literal["adam", "adamw", "muon", "adamw_schedulefree"] = "adam"
    """Which optimizer; `adamw_schedulefree` needs the extra `schedulefree`."""
    learning_rate: float = Field(default=0.000457, gt=0, le=1)
    """Step size."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the running mean of the gradient."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of the squared gradient."""
    eps: float = Field(default=1e-12, gt=0)
    """Added to the denominator of the step."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Pull of the weights towards 0: Adam adds it to the gradient, the others apply it apart from that."""
    learning_rate_adam: float | None = Field(default=None, gt=0, le=1)
    """Step size of what Muon leaves to Adam; None is `learning_rate`."""


class PPOConfig(Section):
    """The losses of proximal policy optimization."""

    clip_coef: float = Field(default=0.1, gt=0, le=1)
    """The importance ratio is clipped to [1 - clip_coef, 1 + clip_coef]."""
    ent_coef: float = Field(default=0.0021, ge=0)
    """Weight of the entropy bonus."""
    gae_lambda: float = Field(default=0.916, ge=0, le=1)
    """Mixing of the advantage estimate; 1 is the full return."""
    gamma: float = Field(default=0.977, ge=0, le=1)
    """Discount per step."""
    max_grad_norm: float = Field(default=0.5, gt=0)
    """The global norm of the gradient is clipped to this."""
    vf_clip_coef: float = Field(default=0.1, ge=0)
    """How far a new value may move from the value at collection time, if `clip_vloss`."""
    vf_coef: float = Field(default=0.44, ge=0)
    """Weight of the value loss."""
    l2_reg_loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the squared norm of the weights."""
    l2_init_loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the squared distance to the initial weights."""
    l2_init_weight_update_interval: int = Field(default=0, ge=0)
    """Epochs after which the weights of then take the place of the initial weights; 0 never."""
    norm_adv: bool = True
    """Whether the advantages of a minibatch are shifted to mean 0 and scaled to variance 1."""
    clip_vloss: bool = True
    """Whether the value loss is clipped."""
    target_kl: float | None = Field(default=None, gt=0)
    """Passes over the batch end early when the approximate KL divergence exceeds this."""


class PrioritizedExperienceReplayConfig(Section):
    """How segments are drawn for a minibatch if `sampling` is prioritized."""

    prio_alpha: float = Field(default=0.0, ge=0, le=1)
    """Exponent of the priorities; 0 draws uniformly."""
    prio_beta0: float = Field(default=0.6, ge=0, le=1)
    """Exponent of the importance weights at the start; it rises to 1 over the run."""


class VTraceConfig(Section):
    """Off-policy correction of the advantages."""

    vtrace_rho_clip: float = Field(default=1.0, gt=0)
    """Bound on the ratio that weights the temporal difference."""
    vtrace_c_clip: float = Field(default=1.0, gt=0)
    """Bound on the ratio that cuts the trace."""


class RewardCenteringConfig(Section):
    """Subtraction of the mean reward, which makes a discount of 1 possible where episodes go on for ever."""

    enabled: bool = False
    """Whether the running mean of each agent's reward is subtracted from it."""
    beta: float = Field(default=1e-3, gt=0, le=1)
    """Share of the newest reward in the running mean."""
