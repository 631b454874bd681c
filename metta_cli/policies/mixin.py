"""`PyTorchAgentMixin`: what every agent does the same way, so that an architecture is only itself."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

import metta_cli.algorithms.distributions as distributions
from metta_cli.algorithms.regularization import squared_distance
from metta_cli.algorithms.weights import weight_metrics
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import RecurrentState, interface_behind
from metta_cli.policies.remapping import RemappedPolicy
from metta_cli.policies.renaming import (
    ActionTable,
    feature_numbers,
    learn_features,
    shown_interface,
    with_features,
)
from metta_cli.policies.tokens import TokenConv2d

logger = logging.getLogger(__name__)

MIXIN_DEFAULTS: dict[str, Any] = {
    "clip_range": 0.0,
    "analyze_weights_interval": 300,
    "l2_init_weight_update_interval": 0,
}
CLIPPED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, TokenConv2d)
HEAD_GAIN = 0.01


class PyTorchAgentMixin:
    """Mode handling, weights, and the names of actions and features for policies.

    Use it before the module class, so that its methods win:

        class MyAgent(PyTorchAgentMixin, LSTMWrapper):
            def __init__(self, env, policy=None, **kwargs):
                mixin_params = self.extract_mixin_params(kwargs)
                super().__init__(env, policy or MyNetwork(env))
                self.init_mixin(**mixin_params)

    Attributes:
        clip_range: see `init_mixin`.
        analyze_weights_interval: see `init_mixin`.
        l2_init_weight_update_interval: see `init_mixin`.
        extra_kwargs: arguments that nothing reads.
        original_feature_mapping: feature name -> the number that the weights know it by; None until
            `initialize_to_environment`.
    """

    clip_range: float
    analyze_weights_interval: int
    l2_init_weight_update_interval: int
    extra_kwargs: dict[str, Any]
    original_feature_mapping: dict[str, int] | None
    _original: EnvironmentInterface | None
    _action_table: ActionTable | None
    _initial_weights: dict[str, Tensor]

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
        self,
        clip_range: float,
        analyze_weights_interval: int,
        extra_kwargs: dict[str, Any],
        l2_init_weight_update_interval: int = 0,
    ) -> None:
        """Store the parameters of the mixin; call it after `super().__init__`.

        Args:
            clip_range: weights of linear and convolution layers stay within +-clip_range; 0 is off.
            analyze_weights_interval: epochs between weight analyses.
            extra_kwargs: what the agent was given beyond that; logged, since nothing reads it.
            l2_init_weight_update_interval: epochs after which L2-init pulls towards the weights of then,
                where the configuration of the training says nothing; 0 is never.
        """
        self.clip_range = clip_range
        self.analyze_weights_interval = analyze_weights_interval
        self.l2_init_weight_update_interval = l2_init_weight_update_interval
        self.extra_kwargs = extra_kwargs
        self.original_feature_mapping = None
        self._original = self._action_table = None
        self._initial_weights = {}
        self._fitted: RemappedPolicy | None = None
        if extra_kwargs:
            logger.warning("%s ignores the arguments %s", type(self).__name__, sorted(extra_kwargs))

    def __call__(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """Run `forward`, behind the names of the environment if `initialize_to_environment` found others."""
        fitted: RemappedPolicy | None = getattr(self, "_fitted", None)
        called: TensorDict = (fitted or self._as_made)(td, state, action)
        return called

    def _as_made(self, td: TensorDict, state: RecurrentState | None, action: Tensor | None) -> TensorDict:
        called: TensorDict = super().__call__(td, state, action)  # type: ignore[misc]  # that of nn.Module
        return called

    # -- weights ---------------------------------------------------------------------------------------

    def clip_weights(self) -> None:
        """Clamp weights and biases of linear and convolution layers to +-`clip_range`, in place."""
        if self.clip_range <= 0:
            return
        with torch.no_grad():
            for layer in self._layers().values():
                for parameter in layer.parameters(recurse=False):
                    parameter.clamp_(-self.clip_range, self.clip_range)

    def l2_init_loss(self) -> Tensor:
        """Return the squared distance of the weights from their snapshot, a scalar with gradients.

        Weights of linear and convolution layers count; biases, embeddings and recurrent weights do not.
        Without a snapshot the weights of this call become it.
        """
        if not self._initial_weights:
            self.update_l2_init_weight_copy()
        weights = {name: layer.weight for name, layer in self._layers().items()}
        initial = {name: weight.to(weights[name].device) for name, weight in self._initial_weights.items()}
        return squared_distance(weights, initial)

    def update_l2_init_weight_copy(self) -> None:
        """Make the weights of now those that `l2_init_loss` measures from."""
        self._initial_weights = {
            name: layer.weight.detach().clone() for name, layer in self._layers().items()
        }

    def compute_weight_metrics(self, delta: float = 0.01) -> list[dict[str, Any]]:
        """Return norm and spectrum of every weight of two or more dimensions.

        Args:
            delta: see `metta_cli.algorithms.weights.weight_metrics`.

        Returns:
            For each its `name` and the metrics of `weight_metrics`.
        """
        module = cast(nn.Module, self)
        return [
            {"name": name, **weight_metrics(parameter, delta)}
            for name, parameter in module.named_parameters()
            if parameter.dim() >= 2
        ]

    def create_action_heads(self, env: Any, input_size: int = 528) -> nn.ModuleList:
        """Return one linear layer from features to the logits of all flat actions, in a list.

        The logits start close to zero, so that a new policy acts almost uniformly.

        Args:
            env: the environment, or its interface.
            input_size: features.
        """
        head = nn.Linear(input_size, interface_behind(env).num_actions)
        nn.init.orthogonal_(head.weight, HEAD_GAIN)
        nn.init.zeros_(head.bias)
        return nn.ModuleList([head])

    def _layers(self) -> dict[str, Any]:
        named = cast(nn.Module, self).named_modules()
        return {name: layer for name, layer in named if isinstance(layer, CLIPPED_LAYERS)}

    # -- modes -----------------------------------------------------------------------------------------

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

    # -- names -----------------------------------------------------------------------------------------

    def initialize_to_environment(
        self,
        features: EnvironmentInterface | Mapping[str, Any],
        action_names: Sequence[str] | None = None,
        action_max_params: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        is_training: bool | None = None,
    ) -> None:
        """Act in an environment whose features and actions have other numbers, matched by name.

        What the weights know is fixed by the environment that the agent was made for, or by the first one
        that it meets if it was made without. From then on tokens are rewritten into those numbers before
        `forward` sees them. A feature that the weights do not know is blanked in evaluation; in training
        it gets a number that no other feature has. Actions are chosen and judged by name; one that the
        weights do not know has probability zero. Everything is derived anew in every call, so that going
        back to an earlier environment leaves nothing of the last one.

        Args:
            features: the interface of the environment; or feature name -> number, or name -> a mapping with
                `id`, in which case the values of `tag` stay as they are.
            action_names: the actions; with `action_max_params` the action types. None takes those of the
                interface.
            action_max_params: the largest argument of each action type.
            device: where the agent goes; None leaves it where it is.
            is_training: whether unknown features are learned; None asks `self.training`.

        Raises:
            ValueError: if not one action is known, or the observation windows differ in size.
        """
        module = cast(nn.Module, self)
        if device is not None:
            module.to(device)
        made_for = self._original or _interface_or_none(getattr(self, "env", None))
        shown = shown_interface(features, action_names, action_max_params, made_for)
        self._original = made_for or shown
        known = self.original_feature_mapping or feature_numbers(self._original)
        if module.training if is_training is None else is_training:
            known = learn_features(known, feature_numbers(shown))
        self.original_feature_mapping = known
        self._action_table = ActionTable(action_names or shown.action_names, action_max_params)
        passport = with_features(self._original, known)
        if not passport.tag_names:
            passport = dataclasses.replace(passport, tag_names=shown.tag_names)
        self._fitted = None
        if any(known.get(name) != number for name, number in feature_numbers(shown).items()) or _rest(
            passport
        ) != _rest(shown):
            fitted = RemappedPolicy(cast(Any, self._as_made), passport, shown)
            self._fitted = fitted.to(next(module.parameters()).device)

    def restore_original_feature_mapping(self, mapping: Mapping[str, int]) -> None:
        """Take the numbers that the weights know features by from an earlier life; call it before fitting.

        Args:
            mapping: `original_feature_mapping` as it was saved.
        """
        self.original_feature_mapping = dict(mapping)

    def _convert_action_to_logit_index(self, flattened_action: Tensor) -> Tensor:
        """Return flat indices `[B]` of actions `[B, 2]` (type, argument): `type + cum[type] + argument`.

        Before `initialize_to_environment` every action of `env` is a type without arguments.
        """
        return self._table().to_logit_index(flattened_action)

    def _convert_logit_index_to_action(self, action_logit_index: Tensor) -> Tensor:
        """Return actions `[B, 2]` (type, argument) of flat indices `[B]`; the inverse of the above."""
        return self._table().to_action(action_logit_index)

    def _table(self) -> ActionTable:
        if self._action_table is None:
            self._action_table = ActionTable(interface_behind(cast(Any, self).env).action_names, None)
        return self._action_table


def _rest(interface: EnvironmentInterface) -> tuple[Any, ...]:
    """Return what, apart from features, must be the same for a policy to need no renaming."""
    return (
        interface.tag_names,
        interface.action_names,
        interface.observation_height,
        interface.observation_width,
    )


def _interface_or_none(env: Any) -> EnvironmentInterface | None:
    interface = interface_behind(env)
    return interface if isinstance(interface, EnvironmentInterface) else None


def _single_head(logits_list: Tensor | list[Tensor]) -> Tensor:
    if isinstance(logits_list, Tensor):
        return logits_list
    if len(logits_list) != 1:
        raise ValueError(f"expected one head over the flat actions, got {len(logits_list)}")
    return logits_list[0]
