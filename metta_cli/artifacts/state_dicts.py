"""From what a foreign file holds to the weights in it.

Trainers wrap the weights: in a dictionary beside the state of the optimizer, in `DistributedDataParallel`,
in `torch.compile`. The wrapping is taken off by fixed rules. Where these leave a doubt the answer is an
error, for a wrong guess would load half a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_cli.artifacts.atomic import format_bytes
from metta_cli.artifacts.file_kinds import shown
from metta_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

CONTAINER_KEYS = ("model", "policy", "state_dict", "model_state_dict", "policy_state_dict", "agent")
"""Keys under which a dictionary may hold the weights."""

WRAPPERS = ("module", "_orig_mod", "policy")
"""Names that are taken off the front where every name begins with them."""

MAX_SHARING = 4
"""How many times the size of the file its tensors may describe; tied weights are described twice."""

_MAX_NESTING = 8
_SAVE_WEIGHTS = "save the weights with torch.save(model.state_dict(), PATH)"


@dataclass(frozen=True)
class FoundWeights:
    """The weights of a file, and how they were wrapped.

    Attributes:
        tensors: name -> tensor.
        module: the module that they are the state of, if a whole module was read.
        extras: what was beside them.
    """

    tensors: dict[str, Tensor]
    module: nn.Module | None = None
    extras: dict[str, Any] = field(default_factory=dict)


def find_weights(content: object, path: Path) -> FoundWeights:
    """Find the state dict in what a file holds.

    Args:
        content: a state dict, a module, or dictionaries around one under `CONTAINER_KEYS`.
        path: where it was read, for messages.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    found = _find(content, _MAX_NESTING, path)
    if found is None:
        raise CheckpointError(f"{shown(path)} holds no weights: {_described(content)}", _SAVE_WEIGHTS)
    return found


def _find(content: object, nesting: int, path: Path) -> FoundWeights | None:
    import torch

    if isinstance(content, torch.nn.Module):
        return FoundWeights(dict(content.state_dict()), content)
    if not isinstance(content, Mapping) or nesting == 0:
        return None
    inner = {key: _find(content[key], nesting - 1, path) for key in CONTAINER_KEYS if key in content}
    holders = {key: found for key, found in inner.items() if found is not None}
    if len(holders) > 1:
        raise CheckpointError(
            f"{shown(path)} holds weights more than once: under {' and '.join(map(repr, holders))}",
            "save the one that you mean in a file of its own",
        )
    for key, found in holders.items():
        return FoundWeights(found.tensors, found.module, found.extras | _left_aside(content, {key}))
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        return None
    unnamed = [key for key in tensors if not isinstance(key, str)]
    if unnamed:
        return None  # the state of an optimizer is numbered
    return FoundWeights(tensors, None, _left_aside(content, set(tensors)))


def _left_aside(content: Mapping[Any, Any], used: set[str]) -> dict[str, Any]:
    """Return what else a dictionary holds: plain values as they are, of the rest only the kind."""
    return {
        shown(str(key), 80) if isinstance(key, str | int) else type(key).__name__: (
            value
            if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)
            else type(value).__name__
        )
        for key, value in content.items()
        if key not in used
    }


def _described(content: object) -> str:
    """Say what there is instead of weights."""
    import torch

    if not isinstance(content, Mapping):
        return f"it is a {type(content).__name__}"
    if not content:
        return "it is an empty dictionary"
    elsewhere = [
        key
        for key, value in content.items()
        if isinstance(key, str)
        and isinstance(value, Mapping)
        and any(isinstance(name, str) and isinstance(inner, torch.Tensor) for name, inner in value.items())
    ]
    if elsewhere:
        keys = ", ".join(repr(shown(key, 40)) for key in elsewhere[:5])
        return f"there are tensors under {keys}, but none under {', '.join(CONTAINER_KEYS)}"
    keys = ", ".join(shown(str(key), 40) if isinstance(key, str | int) else "?" for key in list(content)[:8])
    return f"it has no tensor under the keys {keys}"


def unwrap_names(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], str]:
    """Take the names of wrappers off the names of the tensors.

    `_orig_mod.` goes wherever it stands, for only `torch.compile` writes it; `module.` and `policy.` go where
    every name begins with them, as often as it does.

    Returns:
        The tensors under their inner names, and the prefix that was taken off.

    Raises:
        CheckpointError: two tensors would have one name.
    """
    names = {name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in tensors}
    prefix = ""
    while shared := _shared_wrapper(names.values()):
        prefix += f"{shared}."
        names = {name: inner.removeprefix(f"{shared}.") for name, inner in names.items()}
    if len(set(names.values())) != len(names):
        raise CheckpointError(
            f"{shown(path)} names two tensors alike once '_orig_mod.' is taken off",
            "save the state dict of one model only",
        )
    return {names[name]: tensor for name, tensor in tensors.items()}, prefix


def _shared_wrapper(names: Any) -> str | None:
    first = {name.split(".", 1)[0] if "." in name else None for name in names}
    wrapper = first.pop() if len(first) == 1 else None
    return wrapper if wrapper in WRAPPERS else None


def check_tensors(tensors: Mapping[str, Tensor], num_bytes: int, path: Path) -> None:
    """Refuse tensors that cannot be the weights of a policy.

    Args:
        tensors: name -> tensor, on the CPU.
        num_bytes: size of the file that they come from.
        path: where it is, for messages.

    Raises:
        CheckpointError: one is of another kind or type than weights are, or not finite, or together they
            are larger than the file, as a view that repeats one number can be.
    """
    import torch

    for name, tensor in tensors.items():
        _check_kind(name, tensor, path)
    described = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if described > MAX_SHARING * num_bytes:
        raise CheckpointError(
            f"{shown(path)} declares tensors of {format_bytes(described)}, but has {format_bytes(num_bytes)}",
            "call .contiguous() on tensors made with expand() before saving them",
        )
    if not any(tensor.is_floating_point() for tensor in tensors.values()):
        raise CheckpointError(f"{shown(path)} holds no floating-point tensor, so no weights", _SAVE_WEIGHTS)
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CheckpointError(
            f"{shown(path)} has weights that are NaN or infinite: {shown(bad[0], 80)}{more}",
            "use a checkpoint from before the training diverged",
        )


def _check_kind(name: str, tensor: Tensor, path: Path) -> None:
    import torch

    integers = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}
    weights = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    what = f"{shown(path)}: tensor {shown(name, 80)}"
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointError(f"{what} is sparse, quantized or without data", "save it as a dense tensor")
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.dtype not in integers | weights:
        raise CheckpointError(f"{what} is {kind}; weights are float32", "save the model after model.float()")
    if name.rsplit(".", 1)[-1].startswith(("weight", "bias")) and tensor.dtype not in weights:
        raise CheckpointError(
            f"{what} is {kind}, but weights and biases are floating-point",
            "save the model as it was trained, without converting its weights",
        )
