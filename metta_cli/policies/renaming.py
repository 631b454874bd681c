"""The names of features and actions as a program hands them over, and the numbers that weights know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from metta_cli.config.interface import EnvironmentInterface

NUM_FEATURE_IDS = 255  # 255 itself marks an empty token
NO_INTERFACE = EnvironmentInterface(
    action_names=(),
    feature_names=(),
    feature_scales=(),
    tag_names=(),
    observation_height=0,
    observation_width=0,
    num_tokens=0,
    agents_per_environment=0,
)


class ActionTable:
    """Between actions (type, argument) and flat indices.

    Types and arguments are counted through: the flat index is `type + cum[type] + argument`, where `cum` is
    the sum of the largest arguments of the types before. The type itself compensates for `cum` counting
    largest arguments instead of arguments.

    Args:
        action_names: of the types.
        action_max_params: largest argument of each type; None where types have no arguments.
    """

    def __init__(self, action_names: Sequence[str], action_max_params: Sequence[int] | None) -> None:
        largest = list(action_max_params or [0] * len(action_names))
        self.cum_action_max_params = torch.tensor([0, *accumulate(largest)])
        self.action_index_tensor = torch.tensor(
            [[kind, argument] for kind, last in enumerate(largest) for argument in range(last + 1)]
        )

    def to_logit_index(self, actions: Tensor) -> Tensor:
        """Return flat indices int64 `[B]` of actions int `[B, 2]`."""
        kind, argument = actions[:, 0].long(), actions[:, 1].long()
        return kind + self.cum_action_max_params.to(actions.device)[kind] + argument

    def to_action(self, index: Tensor) -> Tensor:
        """Return actions int64 `[B, 2]` of flat indices `[B]`."""
        return self.action_index_tensor.to(index.device)[index.long()]


def full_action_names(
    action_names: Sequence[str], action_max_params: Sequence[int] | None
) -> tuple[str, ...]:
    """Return the name of every flat action: `NAME_ARGUMENT`, or `NAME` where no type has an argument."""
    if action_max_params is None or not any(action_max_params):
        return tuple(action_names)
    pairs = zip(action_names, action_max_params, strict=True)
    return tuple(f"{name}_{argument}" for name, largest in pairs for argument in range(largest + 1))


def feature_numbers(interface: EnvironmentInterface) -> dict[str, int]:
    """Return feature name -> number; numbers that nothing has a name for are left out."""
    return {name: number for number, name in enumerate(interface.feature_names) if name}


def learn_features(known: Mapping[str, int], shown: Mapping[str, int]) -> dict[str, int]:
    """Return `known` with a number for every shown name; a new one collides with none that is known.

    Raises:
        ValueError: if all numbers are taken.
    """
    learned = dict(known)
    for name in shown:
        if name not in learned:
            free = set(range(NUM_FEATURE_IDS)) - set(learned.values())
            if not free:
                raise ValueError(f"feature {name}: all {NUM_FEATURE_IDS} numbers are taken")
            # Its own number where that is free, so that an agent that meets one environment renames nothing.
            learned[name] = shown[name] if shown[name] in free else min(free)
    return learned


def with_features(interface: EnvironmentInterface, numbers: Mapping[str, int]) -> EnvironmentInterface:
    """Return the interface with these features; a number without a feature has the name ``."""
    by_number = {number: name for name, number in numbers.items()}
    names = tuple(by_number.get(number, "") for number in range(max(by_number, default=-1) + 1))
    return dataclasses.replace(interface, feature_names=names, feature_scales=(1.0,) * len(names))


def shown_interface(
    features: EnvironmentInterface | Mapping[str, Any],
    action_names: Sequence[str] | None,
    action_max_params: Sequence[int] | None,
    like: EnvironmentInterface | None,
) -> EnvironmentInterface:
    """Return what an environment shows; see `PyTorchAgentMixin.initialize_to_environment`.

    Args:
        features: the interface; or feature name -> number, or name -> a mapping with `id`.
        action_names: the actions, or the action types; None where the interface says them.
        action_max_params: the largest argument of each type.
        like: where the rest of an interface comes from; None knows nothing of it.

    Raises:
        ValueError: if the actions are not said anywhere.
    """
    if isinstance(features, EnvironmentInterface):
        interface = features
    else:
        numbers = {name: _number(value) for name, value in features.items()}
        interface = with_features(like or NO_INTERFACE, numbers)
        if action_names is None:
            raise ValueError("action_names is missing: a mapping of features does not say the actions")
    if action_names is None:
        return interface
    return dataclasses.replace(interface, action_names=full_action_names(action_names, action_max_params))


def _number(value: Any) -> int:
    return int(value["id"] if isinstance(value, Mapping) else value)
