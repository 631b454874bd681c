"""From the name of an architecture to a policy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError, PluginError, suggestion
from metta_cli.extensions import POLICIES, load_plugin


def create_policy(name: str, interface: EnvironmentInterface, args: Mapping[str, Any]) -> nn.Module:
    """Build a new policy for an environment.

    Args:
        name: a name of the entry-point group `metta_cli.policies`.
        interface: what the policy will see and do.
        args: keyword arguments of the architecture.

    Raises:
        UnknownNameError: if nothing is registered under the name.
        PluginError: if what is registered cannot be loaded, or makes no `nn.Module`.
        ConfigError: if the architecture does not take one of the arguments.
    """
    factory: Any = load_plugin(POLICIES, name)
    _check_arguments(name, factory, args)
    policy = factory(interface, **args)
    if not isinstance(policy, nn.Module) or not hasattr(policy, "initial_state"):
        raise PluginError(
            f"policy '{name}' made a {type(policy).__name__}, which is not a policy",
            "it must be a torch.nn.Module with initial_state() and forward(); see docs/plugins.md",
        )
    return policy


def _check_arguments(name: str, factory: Any, args: Mapping[str, Any]) -> None:
    parameters = list(inspect.signature(factory).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for key in args:
        if key not in known:
            raise ConfigError(
                f"policy.args.{key}: policy '{name}' takes no such argument", suggestion(key, known)
            )
