"""Every registered policy keeps the contract, by itself and behind a change of names."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.extensions import POLICIES, plugin_names
from metta_cli.policies.registry import create_policy
from metta_cli.policies.remapping import RemappedPolicy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, PolicyContract

SMALL: dict[str, dict[str, object]] = {
    name: {"hidden_size": 48, "depth": 1} for name in ("lstm_transformer_2025", "transformer_2025")
}
"""Arguments of what is slow in its own size, that of 2025."""


class EveryPolicy(PolicyContract):
    architecture: str

    @pytest.fixture(autouse=True, params=plugin_names(POLICIES))
    def each_architecture(self, request: pytest.FixtureRequest) -> None:
        self.architecture = request.param


class TestRegisteredPolicies(EveryPolicy):
    def make_policy(self, interface: EnvironmentInterface) -> nn.Module:
        return create_policy(self.architecture, interface, SMALL.get(self.architecture, {}))


class TestRemappedPolicies(EveryPolicy):
    """The policy knows one action less, and everything under other numbers."""

    def make_policy(self, interface: EnvironmentInterface) -> nn.Module:
        passport = dataclasses.replace(
            interface,
            action_names=interface.action_names[:-1][::-1],
            feature_names=interface.feature_names[::-1],
            feature_scales=interface.feature_scales[::-1],
            tag_names=interface.tag_names[::-1],
        )
        return RemappedPolicy(
            create_policy(self.architecture, passport, SMALL.get(self.architecture, {})), passport, interface
        )


def test_the_built_in_architecture_is_among_them() -> None:
    assert "fast" in plugin_names(POLICIES)
    assert "tag" in EXAMPLE_INTERFACE.feature_names
