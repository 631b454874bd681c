"""From the tensors of a foreign checkpoint to the policy that they are the weights of."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError
from metta_cli.policies.compat2025 import Compat2025
from metta_cli.policies.external import ForeignEnvironment, PytorchAgent
from metta_cli.policies.passports import (
    ADAPTER_KEYS,
    foreign_environment,
    has_x_first,
    known_interface,
    shapes_of,
)
from metta_cli.policies.remapping import RemappedPolicy, interface_differences
from metta_cli.policies.strict_weights import load_strictly
from metta_cli.policies.targets import TARGET, construct, of_layout

logger = logging.getLogger(__name__)

PUFFER_DEFAULT = "pufferlib.models.Default"


@dataclass(frozen=True)
class InferredArchitecture:
    """What tensors say about the policy that they belong to.

    Attributes:
        name: policy plugin, or importable class.
        args: its arguments.
        reasons: what it was recognised by, a line each.
    """

    name: str
    args: dict[str, Any]
    reasons: list[str] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """The architecture as the configuration `pytorch` would have it."""
        return {TARGET: self.name, **self.args}


def infer_architecture(tensors: Mapping[str, Tensor]) -> InferredArchitecture:
    """Recognise an architecture by the names and shapes of its tensors.

    Args:
        tensors: name -> tensor, without the prefixes of trainers.

    Raises:
        CheckpointError: if it is none of those that are known.
    """
    for recognise in (_puffer, _puffer_default, _fast, _lstm_transformer, _lstm_transformer_2025):
        found = recognise(tensors)
        logger.debug("%s: %s", recognise.__name__.lstrip("_"), "no" if found is None else found)
        if found is not None:
            return found
    shown = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4])
    raise CheckpointError(
        f"the architecture is not recognised from the tensors {shown}, ...",
        "describe it under `pytorch` in a configuration file or with --pytorch-config; recognised are"
        " puffer, puffer_recurrent, pufferlib.models.Default (with LSTMWrapper), fast, lstm_transformer,"
        " lstm_transformer_2025, transformer_2025",
    )


def _puffer(tensors: Mapping[str, Tensor]) -> InferredArchitecture | None:
    prefix = "policy." if "policy.network.0.weight" in tensors else ""
    needed = {f"{prefix}{name}.weight" for name in ("network.0", "self_encoder.0", "actor.0", "value")}
    if not needed <= tensors.keys():
        return None
    shapes = shapes_of(tensors)
    cnn_channels = tensors[f"{prefix}network.0.weight"].shape[0]
    is_recurrent = "lstm.weight_hh_l0" in tensors
    if not is_recurrent and prefix:
        return None
    args: dict[str, Any] = {
        "hidden_size": _width(tensors, f"{prefix}value.weight"),
        "cnn_channels": cnn_channels,
    }
    memory = "an LSTM (lstm.*)" if is_recurrent else "no LSTM"
    reasons = [
        f"PufferLib's Metta network: {shapes.num_channels} channels, {cnn_channels} CNN channels,"
        f" action heads {list(shapes.heads or ())}",
        f"{memory}, hidden size {args['hidden_size']}",
    ]
    return InferredArchitecture("puffer_recurrent" if is_recurrent else "puffer", args, reasons)


def _puffer_default(tensors: Mapping[str, Tensor]) -> InferredArchitecture | None:
    prefix = "policy." if "policy.encoder.0.weight" in tensors else ""
    needed = {f"{prefix}{name}.weight" for name in ("encoder.0", "decoder", "value")}
    if not needed <= tensors.keys() or tensors[f"{prefix}encoder.0.weight"].dim() != 2:
        return None
    num_hidden, num_inputs = tensors[f"{prefix}encoder.0.weight"].shape
    reasons = [f"PufferLib's generic policy: {num_inputs} inputs, hidden size {num_hidden}"]
    args: dict[str, Any] = {"hidden_size": num_hidden}
    if "lstm.weight_hh_l0" not in tensors:
        return InferredArchitecture(PUFFER_DEFAULT, args, reasons)
    policy = {TARGET: PUFFER_DEFAULT, **args}
    width = _width(tensors, "lstm.weight_hh_l0")
    wrapper = {"policy": policy, "input_size": num_hidden, "hidden_size": width}
    reasons.append(f"an LSTM (lstm.*), hidden size {width}")
    return InferredArchitecture("pufferlib.models.LSTMWrapper", wrapper, reasons)


def _fast(tensors: Mapping[str, Tensor]) -> InferredArchitecture | None:
    needed = {"policy.conv1.weight", "policy.actor_weight", "lstm.weight_hh_l0"}
    if not needed <= tensors.keys():
        return None
    args = {
        "hidden_size": _width(tensors, "lstm.weight_hh_l0"),
        "num_layers": _num_layers(tensors, "lstm.weight_hh_l"),
    }
    return InferredArchitecture("fast", args, [f"Fast: policy.conv1, policy.actor_weight; {args}"])


def _lstm_transformer(tensors: Mapping[str, Tensor]) -> InferredArchitecture | None:
    needed = {"policy.patches.weight", "policy.cls", "policy.self_vector.weight", "lstm.weight_hh_l0"}
    if not needed <= tensors.keys():
        return None
    args = {
        "width": tensors["policy.cls"].shape[-1],
        "hidden_size": _width(tensors, "lstm.weight_hh_l0"),
        "depth": _num_layers(tensors, "policy.blocks.", ".norm1.weight"),
        "feedforward": tensors["policy.blocks.0.linear1.weight"].shape[0],
    }
    return InferredArchitecture(
        "lstm_transformer", args, [f"LSTM-Transformer: policy.patches, policy.cls; {args}"]
    )


def _lstm_transformer_2025(tensors: Mapping[str, Tensor]) -> InferredArchitecture | None:
    is_recurrent = "lstm.weight_hh_l0" in tensors
    prefix = "policy." if is_recurrent else ""
    stem, patches, wide = (
        tensors.get(f"{prefix}{name}.weight")
        for name in ("conv_stem.0", "proj", "transformer.layers.0.linear1")
    )
    if stem is None or patches is None or wide is None or f"{prefix}cls_token" not in tensors:
        return None
    width = wide.shape[1]
    args: dict[str, Any] = {
        "cnn_channels": stem.shape[0],
        "hidden_size": width,
        "depth": _num_layers(tensors, f"{prefix}transformer.layers.", ".norm1.weight"),
        "patch_size": patches.shape[-1],
        "mlp_ratio": wide.shape[0] / width,
    }
    shapes = shapes_of(tensors)
    reasons = [
        f"the LSTM-Transformer of 2025 (conv_stem, cls_token, transformer.layers): {shapes.num_channels}"
        f" channels, {args['depth']} blocks, action heads {list(shapes.heads or ())}",
        f"{'an LSTM (lstm.*)' if is_recurrent else 'no LSTM'}, hidden size {width}; attention heads cannot"
        " be read off weights: num_heads is 6 unless the configuration says another number",
    ]
    name = "lstm_transformer_2025" if is_recurrent else "transformer_2025"
    return InferredArchitecture(name, args, reasons)


def _width(tensors: Mapping[str, Tensor], name: str) -> int:
    return int(tensors[name].shape[1])


def _num_layers(tensors: Mapping[str, Tensor], before: str, after: str = "") -> int:
    return sum(
        re.fullmatch(re.escape(before) + r"\d+" + re.escape(after), name) is not None for name in tensors
    )


def build_foreign(
    architecture: InferredArchitecture | Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    interface: EnvironmentInterface,
) -> nn.Module:
    """Build a policy for an environment from a description and the weights of a foreign checkpoint.

    Args:
        architecture: what `infer_architecture` returned, or the configuration `pytorch`: `_target_`, its
            arguments, and `ADAPTER_KEYS`.
        tensors: the weights; every one is used, by its exact name and shape.
        interface: of the environment.

    Returns:
        A policy that follows the contract in that environment.

    Raises:
        ConfigError: if the description is wrong.
        CheckpointError: if it does not fit the weights, or the policy does not fit the environment.
    """
    given = architecture.config if isinstance(architecture, InferredArchitecture) else architecture
    config = of_layout(given, is_2025=any("conv_stem." in name for name in tensors))
    adapter = {key: config.pop(key) for key in ADAPTER_KEYS if key in config}
    shapes = shapes_of(tensors)
    known, is_2025 = known_interface(adapter, shapes, interface)
    env = foreign_environment(adapter, known, shapes)
    policy = construct(config, env)
    load_strictly(policy, tensors)
    if not hasattr(policy, "initial_state"):
        policy = _agent_of(policy, env, str(config[TARGET]))
    x_first = has_x_first(adapter, env, shapes) if is_2025 else None
    return _fitted(policy, known, interface, x_first, str(config[TARGET]))


def adapt_module(
    module: nn.Module, name: str, adapter: Mapping[str, Any], interface: EnvironmentInterface
) -> nn.Module:
    """Fit a foreign module that is in memory to an environment.

    Args:
        module: with its weights.
        name: what messages call it.
        adapter: `ADAPTER_KEYS` of the configuration.
        interface: of the environment.

    Returns:
        A policy that follows the contract in that environment.

    Raises:
        ConfigError: if the configuration is wrong.
        CheckpointError: if the policy does not fit the environment.
    """
    shapes = shapes_of(module.state_dict())
    known, is_2025 = known_interface(adapter, shapes, interface)
    env = foreign_environment(adapter, known, shapes)
    x_first = has_x_first(adapter, env, shapes) if is_2025 else None
    return _fitted(_agent_of(module, env, name), known, interface, x_first, name)


def _agent_of(module: nn.Module, env: ForeignEnvironment, name: str) -> PytorchAgent:
    agent = PytorchAgent(module, env, name)
    _check(agent)
    return agent


def _fitted(
    policy: nn.Module,
    known: EnvironmentInterface,
    interface: EnvironmentInterface,
    x_first: bool | None,
    name: str,
) -> nn.Module:
    """Return the policy behind what it needs to act in an environment; `x_first` is for one of 2025."""
    if x_first is not None:
        return Compat2025(policy, known, interface, x_first=x_first)
    if known.num_tokens < interface.num_tokens:
        logger.warning(
            "the policy sees the nearest %d of up to %d tokens", known.num_tokens, interface.num_tokens
        )
    if not interface_differences(known, interface):
        return policy
    try:
        return RemappedPolicy(policy, known, interface)
    except ValueError as error:
        raise CheckpointError(
            f"{name} cannot play this environment: {error}",
            "; ".join(interface_differences(known, interface)),
        ) from None


def _check(agent: PytorchAgent) -> None:
    try:
        agent.check()
    except CheckpointError:
        raise
    except Exception as error:  # whatever a stranger's class does when it is called
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{agent.name} fails on an observation: {type(error).__name__}: {reason}",
            "see docs/external_policies.md for how an external policy is called",
        ) from error
