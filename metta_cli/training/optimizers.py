"""Gradient steps: accumulation, clipping, the step itself, and weights kept in bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metta_cli.config.trainer import TrainerConfig
from metta_cli.errors import CheckpointError, ConfigError, MettaError
from metta_cli.training.distributed import World
from metta_cli.training.muon import Muon, hidden_matrices

OPTIMIZER_TYPES = ("adam", "adamw", "muon", "adamw_schedulefree")


class Optimizer:
    """Steps the parameters of a policy.

    `adamw_schedulefree` keeps two sets of weights: those that act and learn, and their mean, which is better
    and is to be evaluated and saved. `train()` and `eval()` put the one or the other into the policy; they
    do nothing with other types. A new optimizer is in training mode.

    Processes that `join_world` has brought together take the same steps: they begin with the weights of the
    first, and gradients are averaged over them.

    Sources: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980 (`adam`); Loshchilov and Hutter 2019,
        https://arxiv.org/abs/1711.05101 (`adamw`); Jordan et al. 2024,
        https://kellerjordan.github.io/posts/muon (`muon`); Defazio et al. 2024,
        https://arxiv.org/abs/2405.15682 (`adamw_schedulefree`).

    Args:
        optimizer_type: one of `OPTIMIZER_TYPES`. `muon` steps the matrices of hidden layers and leaves the
            rest to AdamW, see `hidden_matrices`.
        policy: whose parameters are optimized; it lies on its device.
        learning_rate: step size. Muon's steps are scaled to the length of Adam's, so that the same fits.
        betas: decays of the running means of the gradient and of its square; Muon has the first.
        eps: added to the denominator of the step.
        weight_decay: Adam adds this times the weights to the gradient; the others shrink the weights by
            this times the learning rate.
        max_grad_norm: the global norm of the gradient is clipped to this.
        learning_rate_adam: step size of what Muon leaves to AdamW; None is `learning_rate`.

    Raises:
        ConfigError: if there is no optimizer of this name, or what it needs is not installed.
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
        learning_rate_adam: float | None = None,
    ) -> None:
        settings: dict[str, Any] = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        parameters = list(policy.parameters())
        self.optimizer_type = optimizer_type
        self.policy = policy
        self.max_grad_norm = max_grad_norm
        self.world = World.current()
        self.world.take_from_first(policy.state_dict().values())
        self.optimizers: list[torch.optim.Optimizer | Muon]
        self._num_accumulated = 0
        self._loss: Tensor | float = 0.0
        self._learning_rate_scales = [1.0]
        if optimizer_type == "adam":
            self.optimizers = [torch.optim.Adam(parameters, lr=learning_rate, **settings)]
        elif optimizer_type == "adamw":
            self.optimizers = [torch.optim.AdamW(parameters, lr=learning_rate, **settings)]
        elif optimizer_type == "adamw_schedulefree":
            self.optimizers = [_schedule_free(parameters, learning_rate, settings)]
        elif optimizer_type == "muon":
            hidden = hidden_matrices(policy)
            chosen = {id(parameter) for parameter in hidden}
            rest = [parameter for parameter in parameters if id(parameter) not in chosen]
            scale = (learning_rate_adam or learning_rate) / learning_rate
            self.optimizers = [
                Muon(hidden, learning_rate, momentum=betas[0], weight_decay=weight_decay),
                torch.optim.AdamW(rest, lr=scale * learning_rate, **settings),
            ]
            self._learning_rate_scales.append(scale)
        else:
            raise ConfigError(
                f"there is no optimizer '{optimizer_type}'", f"there are {', '.join(OPTIMIZER_TYPES)}"
            )
        self.train()

    def train(self) -> None:
        """Put the weights that act and learn into the policy."""
        self._set_mode("train")

    def eval(self) -> None:
        """Put the weights that are to be evaluated and saved into the policy."""
        self._set_mode("eval")

    def _set_mode(self, mode: str) -> None:
        for optimizer in self.optimizers:
            switch: Any = getattr(optimizer, mode, None)
            if switch is not None:
                switch()

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
            MettaError: if the loss or the gradient is not finite; the weights are then unchanged.
        """
        if self._num_accumulated == 0:
            self.zero_grad()
        scaled = loss / accumulate_steps if accumulate_steps > 1 else loss
        scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._num_accumulated += 1
        self._loss = self._loss + scaled.detach()
        if self._num_accumulated < accumulate_steps:
            return None
        self._num_accumulated = 0
        self.world.average_gradients(self.policy.parameters())
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        if not bool(torch.isfinite(norm + self._loss)):  # a loss of NaN can have a gradient of 0
            raise MettaError(
                "the loss or its gradient is not finite: the run has diverged",
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
        self._num_accumulated, self._loss = 0, 0.0
        for parameter in self.policy.parameters():
            parameter.grad = None

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of every parameter group; what Muon leaves to AdamW keeps its ratio to it."""
        for optimizer, scale in zip(self.optimizers, self._learning_rate_scales, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = scale * learning_rate

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
        learning_rate_adam=settings.learning_rate_adam,
    )


def _schedule_free(
    parameters: list[nn.Parameter], learning_rate: float, settings: dict[str, Any]
) -> torch.optim.Optimizer:
    try:
        import schedulefree
    except ImportError as error:
        raise ConfigError(
            "the optimizer adamw_schedulefree needs the package schedulefree",
            "pip install 'metta-cli[schedulefree]'",
        ) from error
    optimizer: torch.optim.Optimizer = schedulefree.AdamWScheduleFree(
        parameters, lr=learning_rate, **settings
    )
    return optimizer
