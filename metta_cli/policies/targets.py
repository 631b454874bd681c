"""The architecture of an external policy as its user writes it down: a class, its arguments, nested.

_target_: my_policy.Recurrent
hidden_size: 512
policy:
  _target_: my_policy.Policy
  cnn_channels: 128
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from metta_cli.errors import ConfigError, UnknownNameError, suggestion
from metta_cli.extensions import POLICIES, load_plugin, plugin_names

TARGET = "_target_"
HISTORICAL = {
    "metta.agent.external.example.Recurrent": "puffer_recurrent",
    "metta.agent.external.example.Policy": "puffer",
    "metta.agent.external.lstm_transformer.Recurrent": "lstm_transformer",
    "metta.agent.external.lstm_transformer.Policy": "lstm_transformer",
}
"""Names that old configurations use -> the plugin that is the same architecture."""
OF_2025 = {
    "metta.agent.external.lstm_transformer.Recurrent": "lstm_transformer_2025",
    "metta.agent.external.lstm_transformer.Policy": "transformer_2025",
}
"""Of these names, those whose weights of 2025 have another layout -> the plugin that has it."""


def of_layout(config: Mapping[str, Any], *, is_2025: bool) -> dict[str, Any]:
    """Return a configuration with the names of `OF_2025` replaced, if the weights are of that layout."""
    found = {
        key: of_layout(value, is_2025=is_2025) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
    if is_2025 and TARGET in found:
        found[TARGET] = OF_2025.get(str(found[TARGET]), found[TARGET])
    return found


def construct(config: Mapping[str, Any], env: Any) -> nn.Module:
    """Build the module that a configuration describes; `env` is the first argument of every class in it.

    Args:
        config: `_target_` and keyword arguments; an argument with a `_target_` is built first.
        env: what the policy will see and do.

    Raises:
        ConfigError: if there is no such class, or it cannot be built with the arguments.
    """
    if TARGET not in config:
        raise ConfigError(
            f"pytorch: {TARGET} is missing", f"name the class of the policy; {suggestion('', _names())}"
        )
    name = str(config[TARGET])
    target = find_target(name)
    arguments = {
        key: construct(value, env) if isinstance(value, Mapping) and TARGET in value else value
        for key, value in config.items()
        if key != TARGET
    }
    _check_arguments(name, target, arguments)
    try:
        module = target(env, **arguments)
    except ConfigError:
        raise
    except Exception as error:  # whatever a stranger's class does when it is built
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"pytorch: {name} cannot be built: {type(error).__name__}: {reason}",
            "it is called as CLASS(env, **arguments); correct the arguments or the class",
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"pytorch: {name} makes a {type(module).__name__}", "name a torch.nn.Module")
    return module


def find_target(name: str) -> Any:
    """Return the class of a name.

    Args:
        name: the name of a policy plugin; `MODULE.CLASS`, where a file of the working directory comes
            before an installed module; `FILE.py:CLASS`; or a name of `HISTORICAL`.

    Raises:
        ConfigError: if there is no such class, or its module cannot be imported.
        PluginError: if the plugin cannot be loaded.
    """
    name = HISTORICAL.get(name, name)
    if "." not in name:
        try:
            return load_plugin(POLICIES, name)
        except UnknownNameError as error:
            raise ConfigError(f"pytorch.{TARGET}: {error.message}", error.cure) from None
    place, _, attribute = name.rpartition(":" if ".py:" in name else ".")
    try:
        module = _module(place)
        return getattr(module, attribute)
    except Exception as error:  # whatever a stranger's module does when it is imported
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"pytorch.{TARGET}: {name} cannot be loaded: {type(error).__name__}: {reason}",
            f"name a class of an importable module, of a file in {Path.cwd()}, or one of:"
            f" {', '.join(_names())}",
        ) from error


def _names() -> list[str]:
    return [*plugin_names(POLICIES), *HISTORICAL]


def _module(place: str) -> ModuleType:
    path = Path(place if place.endswith(".py") else place.replace(".", "/") + ".py").resolve()
    if not path.is_file():
        return importlib.import_module(place)
    name = f"metta_user_file_{path.stem}_{abs(hash(path))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _check_arguments(name: str, target: Any, arguments: Mapping[str, Any]) -> None:
    parameters = list(inspect.signature(target).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for key in arguments:
        if key not in known:
            raise ConfigError(f"pytorch.{key}: {name} takes no such argument", suggestion(key, known))
