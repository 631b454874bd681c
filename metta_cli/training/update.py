"""Learning: gradient steps on one `Experience`. The formulas live in `metta_cli.algorithms`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.algorithms.advantages import compute_advantage
from metta_cli.algorithms.diagnostics import approx_kl, clip_fraction, explained_variance
from metta_cli.algorithms.losses import (
    clipped_policy_loss,
    log_importance_ratio,
    normalize_advantages,
    total_loss,
    value_loss,
)
from metta_cli.config.trainer import TrainerConfig
from metta_cli.training.experience import Experience, Minibatch
from metta_cli.training.optimizers import Optimizer


@dataclass
class Losses:
    """What the gradient steps of an update measured, one dict of scalars per step.

    Kept as tensors, so that a GPU is not stopped for every number.
    """

    steps: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, measured: dict[str, Tensor]) -> None:
        """Add the scalars of one step."""
        self.steps.append(measured)

    def sums(self) -> dict[str, Tensor]:
        """Return the sum over steps of every scalar."""
        total: dict[str, Tensor] = {}
        for measured in self.steps:
            for name, value in measured.items():
                total[name] = total[name] + value if name in total else value
        return total

    def means(self) -> dict[str, float]:
        """Return the mean over steps under the logged names, `losses/...`."""
        return {f"losses/{name}": float(total) / len(self.steps) for name, total in self.sums().items()}


def advantages_of(
    config: TrainerConfig, values: Tensor, rewards: Tensor, dones: Tensor, ratio: Tensor
) -> Tensor:
    """Return the advantages `[S, T]` of segments with one column more than steps.

    Args:
        config: discount, lambda and clips.
        values: `[S, T + 1]`.
        rewards: `[S, T + 1]`, stored with the observation that they arrive with.
        dones: bool `[S, T + 1]`.
        ratio: `[S, T]` importance ratio; 1 before the first gradient step.
    """
    ppo, vtrace = config.ppo, config.vtrace
    padded = torch.cat([ratio, ratio.new_ones(len(ratio), 1)], dim=1)
    return compute_advantage(
        values,
        rewards,
        dones.float(),
        padded,
        torch.zeros_like(values),
        ppo.gamma,
        ppo.gae_lambda,
        vtrace.vtrace_rho_clip,
        vtrace.vtrace_c_clip,
        values.device,
    )[:, :-1]


class Kickstarter(Protocol):
    """Adds losses to one or several teachers."""

    def loss(
        self, experience: Experience, minibatch: Minibatch, outputs: TensorDict, agent_steps: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to add, and scalars to log as `losses/NAME`.

        Args:
            experience: the minibatch is of it; its `num_rollouts` tells one rollout from the next.
            minibatch: what the policy saw and did.
            outputs: what it now makes of it, with gradients.
            agent_steps: of the run so far.
        """
        ...


def process_minibatch_update(
    policy: nn.Module,
    experience: Experience,
    minibatch: Minibatch,
    advantages: Tensor,
    trainer_cfg: TrainerConfig,
    kickstarter: Kickstarter | None,
    agent_step: int,
    losses: Losses,
    device: torch.device | str,
) -> Tensor:
    """Return the loss of a minibatch; what was measured on the way is added to `losses`.

    Args:
        policy: a policy that follows the contract, on `device`.
        experience: the minibatch is of it.
        minibatch: whole segments with their recurrent state.
        advantages: `[S, T]` or `[S, T + 1]` of the whole experience with ratio 1: with the values of the
            policy that acted they are the targets of the value function.
        trainer_cfg: coefficients.
        kickstarter: adds losses to a teacher; None has none.
        agent_step: agent steps of the run so far.
        losses: takes the scalars of this minibatch, without gradients.
        device: where to compute.

    Returns:
        Scalar with gradient.
    """
    ppo = trainer_cfg.ppo
    targets = advantages[minibatch.index, : experience.bptt_horizon].to(device)
    minibatch = minibatch.to(device)
    old_values = minibatch.values[:, :-1]
    returns = targets + old_values
    outputs = judge(policy, minibatch)
    log_probs, new_values, entropy = outputs["act_log_prob"], outputs["value"], outputs["entropy"]
    ratio = log_importance_ratio(log_probs.detach(), minibatch.behavior_log_probs).exp()
    fresh = advantages_of(trainer_cfg, minibatch.values, minibatch.rewards, minibatch.dones, ratio)
    if ppo.norm_adv:
        fresh = normalize_advantages(fresh)
    policy_term = clipped_policy_loss(
        log_probs, minibatch.behavior_log_probs, fresh, ppo.clip_coef, minibatch.weights
    )
    value_clip = ppo.vf_clip_coef if ppo.clip_vloss else None
    value_term = value_loss(new_values, old_values, returns, value_clip)
    loss = total_loss(policy_term, value_term, entropy, vf_coef=ppo.vf_coef, ent_coef=ppo.ent_coef)
    measured = {
        "policy_loss": policy_term.detach(),
        "value_loss": value_term.detach(),
        "entropy": entropy.detach().mean(),
        "approx_kl": approx_kl(log_probs.detach(), minibatch.behavior_log_probs),
        "clipfrac": clip_fraction(log_probs.detach(), minibatch.behavior_log_probs, ppo.clip_coef),
        "importance": ratio.mean(),
        "current_logprobs": log_probs.detach().mean(),
    }
    if kickstarter is not None:
        teaching, scalars = kickstarter.loss(experience, minibatch, outputs, agent_step)
        loss = loss + teaching
        measured |= scalars
    losses.add(measured)
    return loss


def judge(policy: nn.Module, minibatch: Minibatch) -> TensorDict:
    """Return what the policy makes of the actions of a minibatch, with gradients."""
    inputs = TensorDict(
        {"env_obs": minibatch.observations, "dones": minibatch.dones[:, :-1]},
        batch_size=minibatch.actions.shape,
    )
    outputs: TensorDict = policy(inputs, minibatch.state, minibatch.actions)
    return outputs


def update(
    policy: nn.Module,
    optimizer: Optimizer,
    experience: Experience,
    config: TrainerConfig,
    *,
    beta: float,
    device: torch.device | str,
    kickstarter: Kickstarter | None = None,
    agent_step: int = 0,
) -> dict[str, float]:
    """Take all gradient steps of one epoch.

    A pass ends early when, from the second minibatch on, the approximate KL divergence of a minibatch
    exceeds `ppo.target_kl`; no step is taken on that minibatch.

    Args:
        policy: the policy that collected the experience; changed in place.
        optimizer: steps its parameters.
        experience: a filled experience.
        config: everything about the update.
        beta: exponent of the importance weights of prioritized sampling.
        device: where the policy lies.
        kickstarter: adds losses to a teacher.
        agent_step: agent steps of the run so far.

    Returns:
        Means over minibatches, `losses/...`.
    """
    ones = torch.ones_like(experience.behavior_log_probs)
    advantages = advantages_of(config, experience.values, experience.rewards, experience.dones, ones)
    target_kl = config.ppo.target_kl
    losses = Losses()
    for _ in range(config.update_epochs):
        for minibatch in minibatches_of(config, experience, advantages, beta):
            loss = process_minibatch_update(
                policy, experience, minibatch, advantages, config, kickstarter, agent_step, losses, device
            )
            measured = losses.steps[-1]
            if target_kl is not None and len(losses.steps) > 1 and measured["approx_kl"] > target_kl:
                losses.steps.pop()
                return _summary(losses, experience, advantages)
            norm = optimizer.step(loss)
            assert norm is not None
            measured["grad_norm"] = norm
    return _summary(losses, experience, advantages)


def minibatches_of(
    config: TrainerConfig, experience: Experience, advantages: Tensor, beta: float
) -> Iterator[Minibatch]:
    """Yield the minibatches of one pass, drawn as the configuration says.

    Args:
        config: how segments are drawn.
        experience: a filled experience.
        advantages: `[S, T]` with ratio 1.
        beta: exponent of the importance weights.
    """
    return experience.iter_minibatches(
        advantages,
        sampling=config.sampling,
        prio_alpha=config.prioritized_experience_replay.prio_alpha,
        beta=beta,
    )


def _summary(losses: Losses, experience: Experience, advantages: Tensor) -> dict[str, float]:
    values = experience.values[:, :-1]
    variance = explained_variance(values, advantages + values)
    return losses.means() | {
        "losses/explained_variance": float(variance),
        "losses/num_minibatches": float(len(losses.steps)),
    }
