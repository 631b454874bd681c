"""Learning: gradient steps on one `Experience`. The formulas live in `metta_cli.algorithms`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.algorithms.advantages import compute_advantage
from metta_cli.algorithms.diagnostics import approx_kl, clip_fraction, explained_variance
from metta_cli.algorithms.losses import (
    advantage_statistics,
    clipped_policy_loss,
    log_importance_ratio,
    normalize_advantages,
    total_loss,
    value_loss,
)
from metta_cli.algorithms.regularization import layer_weights, squared_norm
from metta_cli.config.learning import PPOConfig
from metta_cli.config.trainer import TrainerConfig
from metta_cli.errors import ConfigError, MettaError
from metta_cli.training.distributed import World
from metta_cli.training.experience import Experience, Minibatch
from metta_cli.training.kickstarter import Kickstarter
from metta_cli.training.optimizers import Optimizer
from metta_cli.training.regularization import InitialWeights


@dataclass
class Losses:
    """What the gradient steps of an update measured, one dict of scalars per step.

    Kept as tensors, so that a GPU is not stopped for every number.
    """

    steps: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, measured: dict[str, Tensor]) -> None:
        """Add the scalars of one step."""
        self.steps.append(measured)

    def mean_scalars(self) -> dict[str, Tensor]:
        """Return the mean over steps of every scalar."""
        total: dict[str, Tensor] = {}
        for measured in self.steps:
            for name, value in measured.items():
                total[name] = total[name] + value if name in total else value
        return {name: value / len(self.steps) for name, value in total.items()}

    def means(self) -> dict[str, float]:
        """Return the mean over steps under the logged names, `losses/...`."""
        return {f"losses/{name}": float(value) for name, value in self.mean_scalars().items()}


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
    initial_weights: InitialWeights | None = None,
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
        initial_weights: what `l2_init_loss_coef` pulls towards.

    Returns:
        Scalar with gradient.

    Raises:
        ConfigError: if `l2_init_loss_coef` is not 0 and there are no initial weights.
    """
    targets = advantages[minibatch.index, : experience.bptt_horizon].to(device)
    minibatch = minibatch.to(device)
    outputs = judge(policy, minibatch)
    loss, measured = _ppo_loss(outputs, minibatch, targets, trainer_cfg)
    for extra, scalars in (
        _regularization(policy, trainer_cfg.ppo, initial_weights),
        (0.0, {}) if kickstarter is None else kickstarter.loss(experience, minibatch, outputs, agent_step),
    ):
        loss, measured = loss + extra, measured | scalars
    losses.add(measured)
    return loss


def _ppo_loss(
    outputs: TensorDict, minibatch: Minibatch, targets: Tensor, config: TrainerConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of PPO, and what was measured on the way; `targets` are relative to the old values."""
    ppo = config.ppo
    old_values = minibatch.values[:, :-1]
    returns = targets + old_values
    log_probs, entropy = outputs["act_log_prob"], outputs["entropy"]
    ratio, fresh = fresh_advantages(minibatch, log_probs, config)
    if ppo.norm_adv:
        statistics = minibatch.normalization or advantage_statistics(World.current().concatenate(fresh))
        fresh = normalize_advantages(fresh, statistics)
    policy_term = clipped_policy_loss(
        log_probs, minibatch.behavior_log_probs, fresh, ppo.clip_coef, minibatch.weights
    )
    value_clip = ppo.vf_clip_coef if ppo.clip_vloss else None
    value_term = value_loss(outputs["value"], old_values, returns, value_clip)
    loss = total_loss(policy_term, value_term, entropy, vf_coef=ppo.vf_coef, ent_coef=ppo.ent_coef)
    return loss, {
        "policy_loss": policy_term.detach(),
        "value_loss": value_term.detach(),
        "entropy": entropy.detach().mean(),
        "importance": ratio.mean(),
        **_change(log_probs.detach(), minibatch.behavior_log_probs, ppo.clip_coef),
    }


def _change(log_probs: Tensor, behavior_log_probs: Tensor, clip_coef: float) -> dict[str, Tensor]:
    """Return how far the policy is from the one that acted."""
    return {
        "approx_kl": approx_kl(log_probs, behavior_log_probs),
        "clipfrac": clip_fraction(log_probs, behavior_log_probs, clip_coef),
        "current_logprobs": log_probs.mean(),
    }


def judge(policy: nn.Module, minibatch: Minibatch) -> TensorDict:
    """Return what the policy makes of the actions of a minibatch, with gradients."""
    inputs = TensorDict(
        {"env_obs": minibatch.observations, "dones": minibatch.dones[:, :-1]},
        batch_size=minibatch.actions.shape,
    )
    outputs: TensorDict = policy(inputs, minibatch.state, minibatch.actions)
    return outputs


def fresh_advantages(minibatch: Minibatch, log_probs: Tensor, config: TrainerConfig) -> tuple[Tensor, Tensor]:
    """Return the importance ratio and the advantages that follow from it, `[M, T]` each, without gradient.

    Args:
        minibatch: whole segments.
        log_probs: `[M, T]`, of the policy as it now is.
        config: discount, lambda and clips.
    """
    ratio = log_importance_ratio(log_probs.detach(), minibatch.behavior_log_probs).exp()
    return ratio, advantages_of(config, minibatch.values, minibatch.rewards, minibatch.dones, ratio)


def _regularization(
    policy: nn.Module, ppo: PPOConfig, initial_weights: InitialWeights | None
) -> tuple[Tensor | float, dict[str, Tensor]]:
    """Return what the weights add to the loss, and its parts."""
    terms: dict[str, Tensor] = {}
    if ppo.l2_reg_loss_coef:
        terms["l2_reg_loss"] = ppo.l2_reg_loss_coef * squared_norm(layer_weights(policy))
    if ppo.l2_init_loss_coef:
        if initial_weights is None:
            raise ConfigError(
                "ppo.l2_init_loss_coef is set, but there are no initial weights to stay near",
                "pass initial_weights=InitialWeights(policy), made before the first step",
            )
        terms["l2_init_loss"] = ppo.l2_init_loss_coef * initial_weights.loss(policy)
    return sum(terms.values(), 0.0), {name: term.detach() for name, term in terms.items()}


@dataclass
class Update:
    """All gradient steps of one epoch.

    Attributes:
        policy: the policy that collected the experience; changed in place.
        optimizer: steps its parameters.
        experience: a filled experience; `recompute_advantages` writes new values into it.
        config: everything about the update, at this moment of the run.
        beta: exponent of the importance weights of prioritized sampling.
        device: where the policy lies.
        kickstarter: adds losses to a teacher.
        agent_step: agent steps of the run so far.
        initial_weights: what `ppo.l2_init_loss_coef` pulls towards.
        world: the processes that take the same steps, each with an experience of its own.
        losses: what the steps measured.
    """

    policy: nn.Module
    optimizer: Optimizer
    experience: Experience
    config: TrainerConfig
    beta: float
    device: torch.device | str
    kickstarter: Kickstarter | None = None
    agent_step: int = 0
    initial_weights: InitialWeights | None = None
    world: World = field(default_factory=World.current)
    losses: Losses = field(default_factory=Losses)

    def run(self) -> dict[str, float]:
        """Take the steps, and return means over minibatches and processes, `losses/...`.

        The update ends early when, from the second minibatch on, the approximate KL divergence of a
        minibatch exceeds `ppo.target_kl`; no step is taken on that minibatch.

        Raises:
            MettaError: if an advantage or a gradient is not finite; the weights are as before the step.
        """
        experience, config = self.experience, self.config
        ones = torch.ones_like(experience.behavior_log_probs)
        advantages = advantages_of(config, experience.values, experience.rewards, experience.dones, ones)
        if not bool(torch.isfinite(advantages).all()):
            raise MettaError(
                "the advantages are not finite: rewards or values have diverged",
                "lower trainer.optimizer.learning_rate, or resume from an earlier checkpoint",
            )
        old_values = self.world.concatenate(experience.values[:, :-1])
        variance = explained_variance(old_values, self.world.concatenate(advantages) + old_values)
        self._take_steps(advantages)
        return self._means() | {
            "losses/explained_variance": float(variance),
            "losses/num_minibatches": float(len(self.losses.steps)),
        }

    def _means(self) -> dict[str, float]:
        means = self.losses.means()
        together = self.world.mean(torch.tensor(list(means.values()), device=self.device))
        return means if self.world.size == 1 else dict(zip(means, together.tolist(), strict=True))

    def _take_steps(self, advantages: Tensor) -> None:
        for number in range(self.config.update_epochs):
            if number > 0 and self.config.recompute_advantages:
                advantages = refresh_values(self.policy, self.experience, self.config, self.device)
            for minibatch in minibatches_of(self.config, self.experience, advantages, self.beta):
                if not self._take_step(minibatch, advantages):
                    return

    def _take_step(self, minibatch: Minibatch, advantages: Tensor) -> bool:
        """Take a step on a minibatch, part by part; return whether it was not too far for that."""
        parts, seen = self._parts(minibatch), Losses()
        for number, part in enumerate(parts, 1):
            loss = process_minibatch_update(
                self.policy,
                self.experience,
                part,
                advantages,
                self.config,
                self.kickstarter,
                self.agent_step,
                seen,
                self.device,
                self.initial_weights,
            )
            if number == len(parts) and self._is_too_far(seen):
                self.optimizer.zero_grad()
                return False
            norm = self.optimizer.step(loss, accumulate_steps=len(parts))
        assert norm is not None
        self.losses.add(seen.mean_scalars() | {"grad_norm": norm})
        return True

    def _parts(self, minibatch: Minibatch) -> list[Minibatch]:
        """Return the parts of a minibatch that go through the network at once."""
        size = self.config.max_minibatch_size or self.config.minibatch_size
        parts = minibatch.split(size // self.config.bptt_horizon)
        if len(parts) == 1 or not self.config.ppo.norm_adv:
            return parts
        # Which action was better than the mean is known only when all parts have been seen.
        with torch.no_grad():
            moved = [part.to(self.device) for part in parts]
            advantages = [
                fresh_advantages(part, judge(self.policy, part)["act_log_prob"], self.config)[1]
                for part in moved
            ]
        statistics = advantage_statistics(self.world.concatenate(torch.cat(advantages)))
        return [replace(part, normalization=statistics) for part in parts]

    def _is_too_far(self, seen: Losses) -> bool:
        target = self.config.ppo.target_kl
        return (
            target is not None
            and len(self.losses.steps) > 0
            and (float(self.world.mean(seen.mean_scalars()["approx_kl"])) > target)
        )


@torch.no_grad()
def refresh_values(
    policy: nn.Module, experience: Experience, config: TrainerConfig, device: torch.device | str
) -> Tensor:
    """Put the present values of the policy into an experience, and return the advantages `[S, T]` with them.

    The advantages have the present importance ratio. What followed the last step of all keeps its value, as
    do the last observations of cut episodes: those observations are gone.

    Args:
        policy: the policy as it now is.
        experience: `values` is overwritten.
        config: sizes, discount, lambda and clips.
        device: where the policy lies.
    """
    ratio = torch.ones_like(experience.behavior_log_probs)
    size = (config.max_minibatch_size or config.minibatch_size) // config.bptt_horizon
    for index in torch.split(torch.arange(experience.num_segments, device=ratio.device), size):
        part = experience.minibatch(index, ratio.new_ones(len(index), 1))
        outputs = judge(policy, part.to(device))
        experience.values[index, :-1] = outputs["value"].to(ratio.device)
        log_probs = outputs["act_log_prob"].to(ratio.device)
        ratio[index] = log_importance_ratio(log_probs, part.behavior_log_probs).exp()
    for chunk in range(experience.num_chunks - 1):
        rows, following = experience.rows(chunk), experience.rows(chunk + 1)
        experience.values[rows, -1] = experience.values[following, 0]
    return advantages_of(config, experience.values, experience.rewards, experience.dones, ratio)


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
