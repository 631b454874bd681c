import collections
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from metta_cli.artifacts.pickle_scan import MAX_TUPLE_DEPTH, scan_pickle

from .foreign_files import records, save


class Custom:
    def __init__(self, *values: Any) -> None:
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return Custom, self.values


class NamesOnly(pickle.Unpickler):
    """An unpickler that finds classes by really unpickling."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "content",
    [
        [1, 2.5, "a", None, True, b"bytes", (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {1: {2}}],
        collections.OrderedDict(a=Custom(1), b=[Custom(Custom("x"), 3)]),
        [Custom, Custom(), collections.Counter("hello"), range(3), frozenset({1}), 2**100, -5, "\u65e5"],
        [[Custom(i)] * 3 for i in range(20)],
    ],
)
def test_every_class_that_unpickling_would_look_up_is_named(content: object, protocol: int) -> None:
    data = pickle.dumps(content, protocol)
    reference = NamesOnly(data)
    reference.load()
    contents = scan_pickle(data)
    assert contents.global_names == {name.replace("__builtin__.", "builtins.") for name in reference.names}
    assert contents.protocol == (protocol if protocol >= 2 else 0)


def test_names_of_python_2_are_translated() -> None:
    assert scan_pickle(b"\x80\x02c__builtin__\neval\n.").global_names == {"builtins.eval"}


def test_the_old_instruction_that_names_and_calls_at_once_is_seen() -> None:
    assert scan_pickle(b"(S'ls'\nios\nsystem\n.").global_names == {"os.system"}


def test_storages_are_found_with_their_sizes(tmp_path: Path) -> None:
    tied = torch.ones(5, 6)
    content = {"a": torch.ones(3), "b": tied, "c": tied.t(), "d": torch.ones(70_000, dtype=torch.int64)}
    data = records(save(content, tmp_path / "x.pt"))["x/data.pkl"]
    assert scan_pickle(data).storages == {"0": 3, "1": 30, "2": 70_000}


def test_the_largest_of_two_claims_about_a_storage_counts() -> None:
    def reference(num_elements: int) -> bytes:
        identifier = ("storage", torch.FloatStorage, "0", "cpu", num_elements)
        return pickle.dumps(identifier, 2).removeprefix(b"\x80\x02").removesuffix(b".") + b"Q"

    assert scan_pickle(reference(7) + b"0" + reference(5) + b".").storages == {"0": 7}
    assert scan_pickle(reference(5) + b"0" + reference(7) + b".").storages == {"0": 7}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02u.",
        b"\x80\x02\x86.",
        b"\x80\x02h\x05.",
        b"\x80\x02Q.",
        b"\x80\x02t.",
        b"\xff",
        b"\x80\x02c\\Kos\nsystem\n.",
        b"\x80\x02c\xff\n\xff\n.",
    ],
)
def test_a_damaged_pickle_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        scan_pickle(data)


def test_what_follows_the_end_is_not_read() -> None:
    assert scan_pickle(b"\x80\x02}.cos\nsystem\n.").global_names == set()


def test_tuples_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    scan_pickle(b"K\x01" + b"\x85" * (MAX_TUPLE_DEPTH - 1) + b".")
    with pytest.raises(ValueError, match="nested so deep"):
        scan_pickle(b"K\x01" + b"\x85" * MAX_TUPLE_DEPTH + b".")


def test_bytes_are_encoded_as_pickles_do_and_in_no_other_way() -> None:
    data = pickle.dumps(b"a\xff", 2)
    scan_pickle(data)
    with pytest.raises(ValueError, match="an encoding that pickles do not have"):
        scan_pickle(data.replace(b"X\x06\x00\x00\x00latin1", b"X\x08\x00\x00\x00punycode"))


def test_lists_that_share_a_list_are_not_counted_as_copies() -> None:
    content: list[Any] = [1]
    for _ in range(60):
        content = [content, content]
    scan_pickle(pickle.dumps(content, 2))
