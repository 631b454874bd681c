"""Nested state <-> JSON and tensors, without pickle.

Optimizers and random generators keep their state in nested dictionaries, lists and tuples of numbers,
tensors and arrays. Pickle would store them, and would also run whatever a stranger put in the file.
Here the nesting becomes JSON, and every tensor a numbered entry of a safetensors file beside it.

A list and a plain scalar are JSON as they are; everything else is an object with one key that names
its kind:

    {"dict": [[key, value], ...]}   keys of any kind keep their type: `{0: ...}` stays `{0: ...}`
    {"tuple": [...]}                {"bytes": "<base64>"}           {"float": "nan"}
    {"tensor": "17"}                {"array": "18"}                 entries of the safetensors file
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def encode_state(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Take a nested state apart into JSON data and tensors.

    A dictionary subclass comes back as `dict`, a tensor on the CPU, without gradient and with a storage
    of its own; everything else comes back exactly.

    Args:
        state: dict, list, tuple, int, float, bool, str, None, bytes, `torch.Tensor` and `numpy.ndarray`,
            nested in any way.

    Returns:
        JSON data, and name -> tensor.

    Raises:
        TypeError: there is something else in it; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return _encode(state, tensors, "state"), tensors


def decode_state(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put together what `encode_state` took apart.

    Raises:
        ValueError: `data` was not made by `encode_state`, or a tensor is missing.
    """
    if isinstance(data, list):
        return [decode_state(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise ValueError(f"an object with one key expected, found {sorted(data)}")
    [(kind, content)] = data.items()
    match kind, content:
        case "dict", list():
            return {decode_state(key, tensors): decode_state(value, tensors) for key, value in content}
        case "tuple", list():
            return tuple(decode_state(item, tensors) for item in content)
        case "bytes", str():
            return base64.b64decode(content, validate=True)
        case "float", ("nan" | "inf" | "-inf"):
            return float(content)
        case (("tensor" | "array"), str()) if content in tensors:
            return tensors[content] if kind == "tensor" else tensors[content].numpy()
        case (("tensor" | "array"), _):
            raise ValueError(f"there is no tensor {content!r}")
    raise ValueError(f"no value is stored as {kind!r}")


def _encode(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [_encode(item, tensors, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"tuple": [_encode(item, tensors, f"{where}[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": [_encode_item(key, item, tensors, where) for key, item in value.items()]}
    if kind is bytes:
        return {"bytes": base64.b64encode(value).decode("ascii")}
    return _encode_tensor(value, tensors, where)


def _encode_item(key: Any, value: Any, tensors: dict[str, Tensor], where: str) -> list[Any]:
    return [_encode(key, tensors, f"a key of {where}"), _encode(value, tensors, f"{where}[{key!r}]")]


def _encode_tensor(value: Any, tensors: dict[str, Tensor], where: str) -> dict[str, str]:
    import numpy as np
    import torch

    name = str(len(tensors))
    if isinstance(value, torch.Tensor):
        tensors[name] = owned_tensor(value)
        return {"tensor": name}
    if type(value) is np.ndarray and value.dtype.kind in "biufc":
        native = value.astype(value.dtype.newbyteorder("="), order="C", copy=True)
        tensors[name] = torch.from_numpy(native)
        return {"array": name}
    described = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"{where} is a {described}, which a checkpoint cannot hold; convert it to plain data")


def owned_tensor(tensor: Tensor) -> Tensor:
    """Return a contiguous CPU copy without gradient, sharing storage with nothing.

    safetensors refuses tensors that are views of one storage, such as tied weights.
    """
    import torch

    return tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
