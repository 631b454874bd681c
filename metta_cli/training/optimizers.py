"""Gradient steps: accumulation, clipping, the step itself, and weights kept in bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metta_cli.config.trainer import TrainerConfig
from metta_cli.errors import CheckpointError, ConfigError, MettaError


class Optimizer:
    """Steps the parameters of a policy.

    Args:
        optimizer_type: `adam` (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980).
        policy: whose parameters are optimized.
        learning_rate: step size.
        betas: decays of the running means of the gradient and of its square.
        eps: added to the denominator of the step.
        weight_decay: coefficient of the L2 penalty that Adam adds to the gradient.
        max_grad_norm: the global norm of the gradient is clipped to this.

    Raises:
        ConfigError: if there is no optimizer of this name.
    """

    def __init__(
        self,
        optimizer_type: str,
        policy: nn.Module,
        learning_rate: float = 3e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 0.5,
    ) -> None:
        if optimizer_type != "adam":
            raise ConfigError(f"there is no optimizer '{optimizer_type}'", "take adam")
        self.optimizer_type = optimizer_type
        self.policy = policy
        self.max_grad_norm = max_grad_norm
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(
                policy.parameters(), lr=learning_rate, betas=betas, eps=eps, weight_decay=weight_decay
            )
        ]
        self._num_accumulated = 0

    def step(self, loss: Tensor, epoch: int = 0, accumulate_steps: int = 1) -> Tensor | None:
        """Add the gradient of a loss, and take a step with the sum of every `accumulate_steps` of them.

        The loss is divided by `accumulate_steps`, so that parts of equal size make the step of the whole.
        After a step, `policy.clip_weights()` is called if there is one.

        Args:
            loss: scalar.
            epoch: pass of the caller; has no influence.
            accumulate_steps: losses per step.

        Returns:
            The norm of the gradient before clipping if a step was taken, else None.

        Raises:
            MettaError: if the gradient is not finite; the weights are then unchanged.
        """
        if self._num_accumulated == 0:
            self.zero_grad()
        scaled = loss / accumulate_steps if accumulate_steps > 1 else loss
        scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._num_accumulated += 1
        if self._num_accumulated < accumulate_steps:
            return None
        self._num_accumulated = 0
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        if not bool(torch.isfinite(norm)):
            raise MettaError(
                "the gradient is not finite: the run has diverged",
                "lower trainer.optimizer.learning_rate, or resume from an earlier checkpoint",
            )
        for optimizer in self.optimizers:
            optimizer.step()
        clip_weights: Any = getattr(self.policy, "clip_weights", None)
        if clip_weights is not None:
            clip_weights()
        return norm.detach()

    def zero_grad(self) -> None:
        """Forget all gradients, also those of an accumulation that is not complete."""
        self._num_accumulated = 0
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of every parameter group."""
        for group in self.param_groups:
            group["lr"] = learning_rate

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All parameter groups; changing `lr` in one of them acts."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the type, and the state of each optimizer inside."""
        return {
            "type": self.optimizer_type,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            CheckpointError: if it is of another type of optimizer.
        """
        if data["type"] != self.optimizer_type:
            raise CheckpointError(
                f"the checkpoint was trained with the optimizer {data['type']}, not {self.optimizer_type}",
                f"go on with trainer.optimizer.type={data['type']}, or start a new run from its weights "
                "with policy_uri=",
            )
        for optimizer, state in zip(self.optimizers, data["optimizers"], strict=True):
            optimizer.load_state_dict(state)


def create_optimizer(config: TrainerConfig, policy: nn.Module) -> Optimizer:
    """Return the optimizer of a configuration.

    Args:
        config: its `optimizer`, and `ppo.max_grad_norm`.
        policy: whose parameters are optimized.
    """
    settings = config.optimizer
    return Optimizer(
        settings.type,
        policy,
        settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        max_grad_norm=config.ppo.max_grad_norm,
    )


def learning_rate_at(config: TrainerConfig, agent_steps: int) -> float:
    """Return the learning rate after so many agent steps of a run.

    Args:
        config: with `lr_scheduler.anneal_lr` it falls linearly to 0 at `total_timesteps`.
        agent_steps: taken so far.
    """
    learning_rate = config.optimizer.learning_rate
    if not (config.lr_scheduler.enabled and config.lr_scheduler.anneal_lr):
        return learning_rate
    return learning_rate * max(0.0, 1.0 - agent_steps / config.total_timesteps)
