"""From the name of an architecture to a policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError, PluginError, suggestion
from metta_cli.extensions import POLICIES, load_plugin

_registered: dict[str, Callable[..., Any]] = {}


@dataclass(frozen=True)
class Recipe:
    """How a policy was made, so that it can be made again.

    Attributes:
        name: of the architecture.
        interface: what it was made for.
        args: keyword arguments of the architecture.
    """

    name: str
    interface: EnvironmentInterface
    args: dict[str, Any] = field(default_factory=dict)


def register_policy(name: str, factory: Callable[..., Any]) -> None:
    """Make an architecture known by name in this process, as a plugin does in all.

    Args:
        name: goes before a plugin of that name.
        factory: called as `factory(interface, **args)`; a class, for instance.
    """
    _registered[name] = factory


def recipe_of(policy: nn.Module) -> Recipe | None:
    """Return how `create_policy` made a policy; None if something else made it."""
    return getattr(policy, "_metta_recipe", None)


def policy_factory(name: str) -> Any:
    """Return what makes a policy of an architecture.

    Raises:
        UnknownNameError: if nothing is registered under the name.
        PluginError: if what is registered cannot be loaded.
    """
    return _registered[name] if name in _registered else load_plugin(POLICIES, name)


def create_policy(name: str, interface: EnvironmentInterface, args: Mapping[str, Any]) -> nn.Module:
    """Build a new policy for an environment.

    Args:
        name: of the entry-point group `metta_cli.policies`, or of `register_policy`.
        interface: what the policy will see and do.
        args: keyword arguments of the architecture.

    Raises:
        UnknownNameError: if nothing is registered under the name.
        PluginError: if what is registered cannot be loaded, or makes no `nn.Module`.
        ConfigError: if the architecture does not take one of the arguments.
    """
    factory = policy_factory(name)
    _check_arguments(name, factory, args)
    policy = factory(interface, **args)
    if not isinstance(policy, nn.Module) or not hasattr(policy, "initial_state"):
        raise PluginError(
            f"policy '{name}' made a {type(policy).__name__}, which is not a policy",
            "it must be a torch.nn.Module with initial_state() and forward(); see docs/plugins.md",
        )
    policy._metta_recipe = Recipe(name, interface, dict(args))  # type: ignore[assignment]  # nn.Module's own
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
