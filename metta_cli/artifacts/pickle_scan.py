"""What a pickle would do, found without doing it.

A pickle is a program for a small stack machine. The scan follows what it puts on the stack, but where the
program calls something, the scan only notes the name. It answers what a reader must know first: which
classes and functions it names, how large the storages are that it declares, and whether it builds tuples
that take for ever to hash.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_TUPLE_DEPTH = 100
MAX_TUPLE_WEIGHT = 100_000
"""Limit of the values in a tuple, shared ones counted as often as they occur; hashing visits them all."""

_STORES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_FETCHES = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_CALLS = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"}
_EXTENSIONS = {"EXT1", "EXT2", "EXT4"}
_PYTHON_2_MODULES = {"__builtin__": "builtins"}


@dataclass(frozen=True)
class PickleContents:
    """What a pickle says.

    Attributes:
        protocol: version of the pickle format.
        global_names: every class and function that it names, as `module.name`.
        storages: key of every storage that a tensor refers to -> the number of elements it declares.
    """

    protocol: int
    global_names: frozenset[str]
    storages: dict[str, int]


class _Item(NamedTuple):
    """A value on the stack: how much hashing it visits, how deep, and what is known of it."""

    weight: int
    depth: int
    value: object = None


_MARK = _Item(0, 0)
_UNKNOWN = _Item(1, 1)


def scan_pickle(data: bytes) -> PickleContents:
    """Read a pickle without running it.

    Args:
        data: the pickle; what follows its end is not read.

    Raises:
        ValueError: it is damaged, or takes for ever to unpickle.
    """
    scan = _Scan()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape sequence in a name: no program writes it
            for opcode, argument, _ in pickletools.genops(data):
                scan.step(opcode, argument)
    except (IndexError, KeyError, TypeError, OverflowError, Warning) as error:
        raise ValueError(f"damaged pickle ({type(error).__name__})") from error
    return PickleContents(scan.protocol, frozenset(scan.global_names), scan.storages)


class _Scan:
    """The stack machine."""

    def __init__(self) -> None:
        self.protocol = 0
        self.global_names: set[str] = set()
        self.storages: dict[str, int] = {}
        self._stack: list[_Item] = []
        self._memo: dict[int, _Item] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one instruction."""
        name = opcode.name
        if name == "PROTO":
            self.protocol = argument
        elif name in _STORES:
            index = len(self._memo) if name == "MEMOIZE" else argument
            self._memo[index] = self._stack[-1]
        elif name in _FETCHES:
            self._stack.append(self._memo[argument])
        elif name == "MARK":
            self._stack.append(_MARK)
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        else:
            popped = self._pop(opcode)
            if opcode.stack_after:
                self._stack.append(self._result(name, argument, popped))

    def _pop(self, opcode: pickletools.OpcodeInfo) -> list[_Item]:
        """Take from the stack what the instruction takes."""
        num_below = len(opcode.stack_before)
        above: list[_Item] = []
        if pickletools.markobject in opcode.stack_before:
            num_below = opcode.stack_before.index(pickletools.markobject)
            while (item := self._stack.pop()) is not _MARK:
                above.append(item)
            above.reverse()
        split = len(self._stack) - num_below
        if split < 0:
            raise IndexError("the stack is empty")
        below = self._stack[split:]
        del self._stack[split:]
        return below + above

    def _result(self, name: str, argument: Any, popped: list[_Item]) -> _Item:
        """Return what the instruction puts on the stack."""
        if name in ("GLOBAL", "INST"):
            return self._name_global(*argument.split(" ", 1))
        if name == "STACK_GLOBAL":
            return self._name_global(*(str(item.value) for item in popped))
        if name in _EXTENSIONS:
            return self._name_global("copyreg.extension", str(argument))
        if name in ("BINPERSID", "PERSID"):
            self._note_storage(popped[0].value if popped else argument)
            return _UNKNOWN
        if name == "REDUCE":
            self._check_encoding(popped[0].value, popped[1].value)
        if name in _TUPLES or name in _CALLS:
            item = _combined(popped)
            if item.depth > MAX_TUPLE_DEPTH or item.weight > MAX_TUPLE_WEIGHT:
                raise ValueError("tuples nested so deep or so often that unpickling takes for ever")
            return item
        return _Item(1, 1, argument) if isinstance(argument, str | int) else _UNKNOWN

    def _name_global(self, module: str, name: str) -> _Item:
        full_name = f"{_PYTHON_2_MODULES.get(module, module)}.{name}"
        self.global_names.add(full_name)
        return _Item(1, 1, full_name)

    def _check_encoding(self, function: object, arguments: object) -> None:
        """Refuse to encode text in ways that pickles never do, and that take for ever for long ones."""
        if function == "_codecs.encode":
            match arguments:
                case (_, "latin1"):
                    return
            raise ValueError("text in an encoding that pickles do not have")

    def _note_storage(self, identifier: object) -> None:
        """Note what a tensor refers to: ("storage", type, key, device, number of elements)."""
        match identifier:
            case (("storage" | b"storage"), _, key, _, int(num_elements)):
                self.storages[str(key)] = max(num_elements, self.storages.get(str(key), 0))


def _combined(items: list[_Item]) -> _Item:
    weight = 1 + sum(item.weight for item in items)
    depth = 1 + max((item.depth for item in items), default=0)
    value = tuple(item.value for item in items) if len(items) <= 8 else None
    return _Item(weight, depth, value)
