"""`PyTorchAgentMixin`: what every agent does the same way, so that an architecture is only itself."""

from __future__ import annotations

import logging
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

import metta_cli.algorithms.distributions as distributions

logger = logging.getLogger(__name__)

MIXIN_DEFAULTS: dict[str, Any] = {"clip_range": 0.0, "analyze_weights_interval": 300}
CLIPPED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class PyTorchAgentMixin:
    """Mode handling, weight clipping and action conversion for policies.

    Use it before the module class, so that its methods win:

        class MyAgent(PyTorchAgentMixin, LSTMWrapper):
            def __init__(self, env, policy=None, **kwargs):
                mixin_params = self.extract_mixin_params(kwargs)
                super().__init__(env, policy or MyNetwork(env))
                self.init_mixin(**mixin_params)
    """

    clip_range: float
    analyze_weights_interval: int
    extra_kwargs: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class whose bases are in the order that would switch the mixin off."""
        super().__init_subclass__(**kwargs)
        order = [base for base in cls.__mro__ if base in (PyTorchAgentMixin, nn.Module)]
        if order and order[0] is nn.Module:
            raise TypeError(f"{cls.__name__}: PyTorchAgentMixin must come before the module class")

    def extract_mixin_params(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Split keyword arguments into those of the mixin and the rest, which lands in `extra_kwargs`.

        Args:
            kwargs: keyword arguments of the agent; not changed.

        Returns:
            The arguments of `init_mixin`.
        """
        own = {name: kwargs.get(name, default) for name, default in MIXIN_DEFAULTS.items()}
        return own | {"extra_kwargs": {name: kwargs[name] for name in kwargs if name not in MIXIN_DEFAULTS}}

    def init_mixin(
        self, clip_range: float, analyze_weights_interval: int, extra_kwargs: dict[str, Any]
    ) -> None:
        """Store the parameters of the mixin; call it after `super().__init__`.

        Args:
            clip_range: weights of linear and convolution layers stay within +-clip_range; 0 is off.
            analyze_weights_interval: epochs between weight analyses.
            extra_kwargs: what the agent was given beyond that; logged, since nothing reads it.
        """
        self.clip_range = clip_range
        self.analyze_weights_interval = analyze_weights_interval
        self.extra_kwargs = extra_kwargs
        if extra_kwargs:
            logger.warning("%s ignores the arguments %s", type(self).__name__, sorted(extra_kwargs))

    def clip_weights(self) -> None:
        """Clamp weights and biases of linear and convolution layers to +-`clip_range`, in place."""
        if self.clip_range <= 0:
            return
        assert isinstance(self, nn.Module)
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, CLIPPED_LAYERS):
                    for parameter in layer.parameters(recurse=False):
                        parameter.clamp_(-self.clip_range, self.clip_range)

    def set_tensordict_fields(self, td: TensorDict, observations: Tensor) -> tuple[int, int]:
        """Write `bptt` (steps per row) and `batch` (rows) and return them as `(B, TT)`.

        Args:
            td: batch size `[N]` when acting, `[M, T]` when training.
            observations: `[N, K, 3]` or `[M, T, K, 3]`.
        """
        batch = observations.shape[0]
        steps = 1 if observations.dim() == 3 else observations.shape[1]
        td.set_non_tensor("bptt", steps)
        td.set_non_tensor("batch", batch)
        return batch, steps

    def handle_inference_mode(
        self, td: TensorDict, logits_list: Tensor | list[Tensor], value: Tensor
    ) -> TensorDict:
        """Sample an action per agent.

        Args:
            td: the inputs, batch size `[N]`.
            logits_list: `[N, A]`, or a list that holds just this tensor.
            value: `[N]` or `[N, 1]`.

        Returns:
            td with `actions` int64 `[N]`, `act_log_prob` `[N]`, `values` `[N]`, `full_log_probs` `[N, A]`.
        """
        log_probs = torch.log_softmax(_single_head(logits_list), dim=-1)
        actions = distributions.sample(log_probs)
        td["actions"] = actions
        td["act_log_prob"] = distributions.log_prob(log_probs, actions)
        td["values"] = value.flatten()
        td["full_log_probs"] = log_probs
        return td

    def handle_training_mode(
        self, td: TensorDict, action: Tensor, logits_list: Tensor | list[Tensor], value: Tensor
    ) -> TensorDict:
        """Judge the actions that were taken.

        Args:
            td: the inputs, batch size `[M, T]`.
            action: int64 `[M, T]` flat action indices.
            logits_list: `[M * T, A]`, or a list that holds just this tensor.
            value: `[M * T]` or `[M * T, 1]`.

        Returns:
            td with `act_log_prob`, `entropy`, `value` `[M, T]` and `full_log_probs` `[M, T, A]`.
        """
        log_probs = torch.log_softmax(_single_head(logits_list), dim=-1).view(*action.shape, -1)
        td["act_log_prob"] = distributions.log_prob(log_probs, action)
        td["entropy"] = distributions.entropy(log_probs)
        td["value"] = value.view(action.shape)
        td["full_log_probs"] = log_probs
        return td


def _single_head(logits_list: Tensor | list[Tensor]) -> Tensor:
    if isinstance(logits_list, Tensor):
        return logits_list
    if len(logits_list) != 1:
        raise ValueError(f"expected one head over the flat actions, got {len(logits_list)}")
    return logits_list[0]
