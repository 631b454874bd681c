"""A policy among other names: features, tags and actions are matched by name, never by number."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.algorithms import distributions
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.tokens import EMPTY_LOCATION, MAX_BYTES


def interface_differences(passport: EnvironmentInterface, interface: EnvironmentInterface) -> list[str]:
    """Say, a line each, how an environment differs from the one that a policy was made for.

    Args:
        passport: what the policy knows.
        interface: what the environment shows and accepts.

    Returns:
        Empty if the policy fits as it is.
    """
    lines = []
    for kind, known, shown in (
        ("action", passport.action_names, interface.action_names),
        ("feature", passport.feature_names, interface.feature_names),
        ("tag", passport.tag_names, interface.tag_names),
    ):
        missing = [name for name in known if name not in shown]
        unknown = [name for name in shown if name not in known]
        if missing:
            lines.append(f"{kind}s that only the policy knows: {', '.join(missing)}")
        if unknown:
            lines.append(f"{kind}s that are new to the policy: {', '.join(unknown)}")
        if not missing and not unknown and known != shown:
            lines.append(f"{kind}s are numbered differently")
    window = (interface.observation_height, interface.observation_width)
    expected = (passport.observation_height, passport.observation_width)
    if window != expected:
        lines.append("observation window: {}x{} for the policy, {}x{} here".format(*expected, *window))
    return lines


class RemappedPolicy(nn.Module):
    """Run a policy in an environment whose features, tags and actions have other numbers.

    Tokens are rewritten into the numbers of the policy; tokens of features and tags that it has never
    seen are blanked. Its action probabilities are read by name and renormalised over the actions of
    the environment; actions that it does not know have probability zero.

    Args:
        policy: a policy that follows the contract.
        passport: the interface that the policy was made for.
        interface: the interface of the environment.

    Raises:
        ValueError: if not one action name is shared, or the observation windows differ in size.
    """

    feature_table: Tensor
    tag_table: Tensor
    columns: Tensor
    unknown: Tensor

    def __init__(
        self, policy: nn.Module, passport: EnvironmentInterface, interface: EnvironmentInterface
    ) -> None:
        super().__init__()
        shared = set(passport.action_names) & set(interface.action_names)
        if not shared:
            raise ValueError("the policy knows none of the actions of the environment")
        expected = (passport.observation_height, passport.observation_width)
        if expected != (interface.observation_height, interface.observation_width):
            raise ValueError("the observation windows differ in size")
        self.policy: Any = policy
        feature = _byte_table(interface.feature_names, passport.feature_names)
        tag = _byte_table(interface.tag_names, passport.tag_names)
        names = interface.feature_names
        self.tag_feature = names.index("tag") if "tag" in names else -1
        columns = [
            passport.action_names.index(name) if name in shared else 0 for name in interface.action_names
        ]
        unknown = [name not in shared for name in interface.action_names]
        self.register_buffer("feature_table", feature, persistent=False)
        self.register_buffer("tag_table", tag, persistent=False)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("unknown", torch.tensor(unknown), persistent=False)

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return the initial state of the wrapped policy."""
        state: RecurrentState = self.policy.initial_state(num_agents, device)
        return state

    def rewrite(self, tokens: Tensor) -> Tensor:
        """Return tokens uint8 `[..., K, 3]` in the numbers of the policy."""
        location, feature, value = tokens.unbind(-1)
        is_tag = feature == self.tag_feature
        new_feature = self.feature_table[feature.int()]
        new_tag = self.tag_table[value.int()]
        unknown = (new_feature < 0) | (is_tag & (new_tag < 0))
        columns = (
            torch.where(unknown, EMPTY_LOCATION, location),
            new_feature.clamp(min=0),
            torch.where(is_tag, new_tag.clamp(min=0), value),
        )
        return torch.stack([column.to(torch.uint8) for column in columns], dim=-1)

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        inner = td.copy()
        inner["env_obs"] = self.rewrite(td["env_obs"])
        placeholder = None if action is None else torch.zeros_like(action)
        inner = self.policy(inner, state, placeholder)
        log_probs = inner["full_log_probs"][..., self.columns].masked_fill(self.unknown, float("-inf"))
        log_probs = torch.log_softmax(log_probs, dim=-1)
        td["full_log_probs"] = log_probs
        if action is None:
            td["actions"] = distributions.sample(log_probs)
            td["act_log_prob"] = distributions.log_prob(log_probs, td["actions"])
            td["values"] = inner["values"]
        else:
            td["act_log_prob"] = distributions.log_prob(log_probs, action)
            td["entropy"] = distributions.entropy(log_probs)
            td["value"] = inner["value"]
        return td


def _byte_table(shown: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Return int16 `[256]`: number in the environment -> number in the policy, or -1."""
    index = {name: number for number, name in enumerate(known)}
    table = torch.full((MAX_BYTES,), -1, dtype=torch.int16)
    for number, name in enumerate(shown):
        table[number] = index.get(name, -1) if name else -1  # no name: no feature has this number
    return table
