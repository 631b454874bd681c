"""Learning: gradient steps on one `Experience`. The formulas live in `metta_cli.algorithms`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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
from metta_cli.algorithms.priorities import (
    importance_weights,
    permute_segments,
    sample_segments,
    segment_priorities,
)
from metta_cli.config.trainer import PPOConfig, TrainerConfig
from metta_cli.errors import MettaError
from metta_cli.training.experience import Experience, Minibatch


@dataclass
class Losses:
    """Sums over minibatches of what an update measures; `means` divides them.

    Kept as tensors, so that a GPU is not stopped for every number.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    num_minibatches: int = 0

    def add(self, measured: dict[str, Tensor]) -> None:
        """Add the scalars of one minibatch."""
        self.num_minibatches += 1
        for name, value in measured.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value

    def means(self) -> dict[str, float]:
        """Return the mean over minibatches under the logged names, `losses/...`."""
        return {f"losses/{name}": float(total) / self.num_minibatches for name, total in self.sums.items()}


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


def sample_minibatches(
    config: TrainerConfig, experience: Experience, advantages: Tensor, beta: float
) -> Iterator[Minibatch]:
    """Yield the minibatches of one pass over the experience.

    `sequential` uses every segment once, in random order. `prioritized` draws each minibatch afresh,
    without replacement inside it, in proportion to the priorities (Schaul et al. 2016, section 3.3).

    Args:
        config: sizes and sampling.
        experience: a filled experience.
        advantages: `[S, T]` with ratio 1.
        beta: exponent of the importance weights.
    """
    returns = advantages + experience.values[:, :-1]
    segments = experience.num_segments
    size = config.minibatch_size // config.bptt_horizon
    if config.sampling == "sequential":
        ones = returns.new_ones(size, 1)
        for index in permute_segments(segments, size):
            yield experience.minibatch(index.to(returns.device), returns, ones)
        return
    priorities = segment_priorities(advantages, config.prioritized_experience_replay.prio_alpha)
    for _ in range(segments // size):
        index = sample_segments(priorities, size)
        yield experience.minibatch(index, returns, importance_weights(priorities, index, beta))


def minibatch_loss(
    policy: nn.Module, minibatch: Minibatch, config: TrainerConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the PPO loss of a minibatch and what was measured on the way (without gradients).

    Args:
        policy: a policy that follows the contract.
        minibatch: whole segments with their recurrent state.
        config: coefficients.
    """
    ppo = config.ppo
    inputs = TensorDict(
        {"env_obs": minibatch.observations, "dones": minibatch.dones[:, :-1]},
        batch_size=minibatch.actions.shape,
    )
    outputs = policy(inputs, minibatch.state, minibatch.actions)
    log_probs, new_values = outputs["act_log_prob"], outputs["value"]
    ratio = log_importance_ratio(log_probs.detach(), minibatch.behavior_log_probs).exp()
    advantages = advantages_of(config, minibatch.values, minibatch.rewards, minibatch.dones, ratio)
    if ppo.norm_adv:
        advantages = normalize_advantages(advantages)

    policy_term = clipped_policy_loss(
        log_probs, minibatch.behavior_log_probs, advantages, ppo.clip_coef, minibatch.weights
    )
    value_clip = ppo.vf_clip_coef if ppo.clip_vloss else None
    value_term = value_loss(new_values, minibatch.values[:, :-1], minibatch.returns, value_clip)
    entropy = outputs["entropy"]
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
    return loss, measured


def take_gradient_step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, ppo: PPOConfig
) -> Tensor:
    """Step down the gradient of `loss`, clipped to `max_grad_norm`; return its norm before clipping.

    Raises:
        MettaError: if the gradient is not finite; the weights are then unchanged.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    norm = nn.utils.clip_grad_norm_(policy.parameters(), ppo.max_grad_norm)
    if not bool(torch.isfinite(norm)):
        raise MettaError(
            "the gradient is not finite: the run has diverged",
            "lower trainer.optimizer.learning_rate, or resume from an earlier checkpoint",
        )
    optimizer.step()
    clip_weights: Any = getattr(policy, "clip_weights", None)
    if clip_weights is not None:
        clip_weights()
    return norm


def update(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    config: TrainerConfig,
    beta: float,
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

    Returns:
        Means over minibatches, `losses/...`.
    """
    ones = torch.ones_like(experience.behavior_log_probs)
    advantages = advantages_of(config, experience.values, experience.rewards, experience.dones, ones)
    target_kl = config.ppo.target_kl
    losses = Losses()
    for _ in range(config.update_epochs):
        for minibatch in sample_minibatches(config, experience, advantages, beta):
            loss, measured = minibatch_loss(policy, minibatch, config)
            if target_kl is not None and losses.num_minibatches and measured["approx_kl"] > target_kl:
                return _summary(losses, experience, advantages)
            measured["grad_norm"] = take_gradient_step(policy, optimizer, loss, config.ppo).detach()
            losses.add(measured)
    return _summary(losses, experience, advantages)


def _summary(losses: Losses, experience: Experience, advantages: Tensor) -> dict[str, float]:
    values = experience.values[:, :-1]
    variance = explained_variance(values, advantages + values)
    return losses.means() | {
        "losses/explained_variance": float(variance),
        "losses/num_minibatches": float(losses.num_minibatches),
    }
