"""The parameters of a TorchScript archive, without its code.

`torch.jit.load` compiles what is in the archive and runs the parts that restore modules, which may open
files. The tensors need none of it: the archive's pickle is read with a plain record in the place of every
class, and the attributes of these records are the names of the state dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = "__torch__."
"""What the names of all classes of an archive begin with."""

FUNCTIONS = frozenset(
    f"torch.jit._pickle.{name}"
    for name in (
        "build_boollist",
        "build_doublelist",
        "build_intlist",
        "build_tensorlist",
        "restore_type_tag",
    )
)
"""Functions that the pickle of an archive names to rebuild lists and typed values."""

_MAX_MODULES = 10_000
_MAX_DEPTH = 64


class Record:
    """Stands in for an object of any class and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.attributes: object = {}

    def __new__(cls, *arguments: object) -> Record:
        """Make one, whatever the arguments."""
        record = super().__new__(cls)
        record.attributes = {}
        return record

    def __setstate__(self, state: object) -> None:
        """Take the state that the pickle gives it."""
        self.attributes = state


def first_argument(value: object, *_: object) -> object:
    """Stand in for each of `FUNCTIONS`: a list is the list that it is made from."""
    return value


def named_tensors(root: object) -> dict[str, Tensor]:
    """Return every tensor attribute of a module and its submodules, named as in its state dict.

    Raises:
        ValueError: it is not a module, has no tensors or keeps them in some packed form, or is nested without
            end.
    """
    if not isinstance(root, Record):
        raise ValueError(f"at its top is a {type(root).__name__}, not a module")
    tensors = dict(_walk(root, "", [_MAX_MODULES], 0))
    if not tensors:
        raise ValueError("it has no parameters; torch.jit.freeze makes them part of the code")
    return tensors


def _walk(module: Record, prefix: str, budget: list[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    import torch

    budget[0] -= 1
    if budget[0] < 0 or depth > _MAX_DEPTH:
        raise ValueError("its modules are nested without end")
    if not isinstance(module.attributes, dict):
        raise ValueError(f"module {prefix.rstrip('.') or 'at the top'} is packed, as quantized modules are")
    for name, value in module.attributes.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Record):
            yield from _walk(value, f"{prefix}{name}.", budget, depth + 1)
