"""What is wrong with a foreign file is found before torch, memory or the user suffers from it."""

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from metta_cli.artifacts import file_kinds
from metta_cli.artifacts.foreign import read_foreign
from metta_cli.config.layers import load_config
from metta_cli.errors import CheckpointError, ConfigError, MettaError, NotFoundError

from .foreign_files import (
    DEFLATED,
    STORED,
    Encoder,
    Malicious,
    raw_zip,
    records,
    save,
    save_torchscript,
    state,
    write_zip,
)


def refusal(path: Path) -> str:
    """Read a file that cannot be read, and return what the user is told."""
    with pytest.raises(CheckpointError) as caught:
        read_foreign(path)
    error = caught.value
    assert error.exit_code == 3
    assert error.cure
    assert str(error).isprintable(), "the message must be one line"
    assert "weights_only=False" not in str(error)
    return str(error)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "was_run"


@pytest.mark.parametrize(
    "write",
    [
        lambda evil, path: torch.save(evil, path),
        lambda evil, path: torch.save({"model": state(), "extra": evil}, path),
        lambda evil, path: torch.save(evil, path, pickle_protocol=4),
        lambda evil, path: torch.save(evil, path, _use_new_zipfile_serialization=False),
        lambda evil, path: path.write_bytes(pickle.dumps(evil)),
        lambda evil, path: path.write_bytes(pickle.dumps(evil, protocol=2)),
        lambda evil, path: path.write_bytes(pickle.dumps(evil, protocol=0)),
    ],
)
@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "METTA_ALLOW_PICKLE"])
def test_a_malicious_pickle_is_not_run(
    write: Callable[[object, Path], object],
    variable: str,
    marker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, "1")
    write(Malicious(marker), tmp_path / "x.pt")
    message = refusal(tmp_path / "x.pt")
    assert not marker.exists()
    assert "posix.mkdir" in message or "text file" in message or "before torch 1.6" in message


def test_the_marker_of_the_malicious_pickle_works(marker: Path, tmp_path: Path) -> None:
    path = save({"model": state(), "extra": Malicious(marker)}, tmp_path / "x.pt")
    read_foreign(path, allow_pickle=True)
    assert marker.exists()


def test_torchscript_with_a_foreign_class_is_not_run_even_with_permission(
    marker: Path, tmp_path: Path
) -> None:
    save_torchscript(tmp_path / "x.pt")
    content = records(tmp_path / "x.pt")
    name = next(name for name in content if name.endswith("/data.pkl"))
    content[name] = pickle.dumps(Malicious(marker), protocol=2)
    with pytest.raises(CheckpointError, match=r"posix\.mkdir"):
        read_foreign(write_zip(tmp_path / "y.pt", content), allow_pickle=True)
    assert not marker.exists()


@pytest.mark.parametrize(
    "layer",
    [
        {"words": ["allow_pickle=true"]},
        {"words": ["policy.allow_pickle=true"]},
        {"words": ["trainer.initial_policy.allow_pickle=true"]},
        {"options": {"allow_pickle": True}},
        {"environ": {"METTA_ALLOW_PICKLE": "true"}},
    ],
)
def test_no_configuration_can_permit_to_run_a_file(layer: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(?i)allow_pickle"):
        load_config(**layer)


def test_a_class_that_cannot_be_imported_says_what_to_install(tmp_path: Path) -> None:
    content = records(save(Encoder(), tmp_path / "x.pt"))
    name = next(name for name in content if name.endswith("/data.pkl"))
    content[name] = content[name].replace(Encoder.__module__.encode(), b"package_of_a_stranger")
    with pytest.raises(CheckpointError, match=r"No module named 'package_of_a_stranger'.*PYTHONPATH"):
        read_foreign(write_zip(tmp_path / "y.pt", content), allow_pickle=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty: it has 0 bytes"),
        (bytes(4096), "filled with zeros"),
        (b"epoch,loss\n1,0.5\n", "a text file"),
        (b"e\n", "a text file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00" + bytes(range(200)), "a gzip file"),
        (b"\x93NUMPY\x01\x00v\x00{}", "a numpy array"),
        (bytes(range(255, 3, -1)), "of an unknown kind"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"PK\x03\x04" + bytes(30), "damaged or truncated"),
        (b"\x80\x02", "a Python pickle that torch.save did not write"),
    ],
)
def test_a_file_of_another_kind_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    assert expected in refusal(tmp_path / "x.pt")


def test_a_zip_of_something_else_is_named_with_what_it_holds(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.pt", {"photos/cat.jpg": b"cat", "photos/dog.jpg": b"dog"})
    message = refusal(tmp_path / "x.pt")
    assert "torch.save did not write it: it holds photos/cat.jpg, photos/dog.jpg" in message


def test_the_format_before_torch_1_6_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    path = save(state(), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert "torch.save(torch.load(PATH, weights_only=True), NEW_PATH)" in refusal(path)


def test_another_pickle_protocol_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    path = save(state(), tmp_path / "x.pt", pickle_protocol=4)
    assert "without pickle_protocol" in refusal(path)


def test_a_directory_is_named(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)
    (tmp_path / "manifest.json").touch()
    assert "file://" in refusal(tmp_path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pt")
    assert "not a regular file" in refusal(tmp_path / "x.pt")


def test_a_missing_file_is_not_found_and_its_neighbour_is_proposed(tmp_path: Path) -> None:
    (tmp_path / "walker.pt").touch()
    (tmp_path / "other.pt").touch()
    with pytest.raises(NotFoundError, match=r"walkr\.pt \(did you mean [^ ]*walker\.pt\?\)") as caught:
        read_foreign(tmp_path / "walkr.pt")
    assert caught.value.exit_code == 5
    with pytest.raises(NotFoundError, match="nothing in that directory"):
        read_foreign(tmp_path / "zzzz")
    with pytest.raises(NotFoundError, match="cannot be listed either"):
        read_foreign(tmp_path / "nowhere" / "x.pt")


@pytest.mark.parametrize(
    "name", ["a\nb.pt", "caf\u00e9 \u65e5\u672c.pt", "\udcff.pt", "with space.pt", "-x.pt"]
)
def test_any_path_can_be_read_and_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(save(state(), tmp_path / "plain").read_bytes())
    assert len(read_foreign(path).tensors) == len(state())
    path.write_bytes(b"")
    assert "is empty" in refusal(path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop"])
def test_an_impossible_path_is_an_error_of_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in refusal(tmp_path / name)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.pt", "wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(file_kinds.MAX_FILE_BYTES + 1)
    assert "the limit is 2.1 GB" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([torch.ones(1)], "it is a list"),
        ({}, "an empty dictionary"),
        ({"epoch": 3}, "no tensor under the keys epoch"),
        ({"net": {"a.weight": torch.ones(1)}}, "there are tensors under 'net', but none under model, policy"),
        ({"model": {"a": torch.ones(1)}, "agent": {"b": torch.ones(1)}}, "under 'model' and 'agent'"),
        ({"a": torch.ones(1), "_orig_mod.a": torch.ones(1)}, "names two tensors alike"),
        ({"state": {0: {"exp_avg": torch.ones(1)}}}, "holds no weights"),
        ({0: torch.ones(1)}, "holds no weights"),
        ({"model": torch.tensor(3)}, "no floating-point tensor"),
        ({"a.weight": torch.ones(3, dtype=torch.int64)}, "a.weight is int64"),
        ({"a.bias": torch.ones(3, dtype=torch.bool)}, "a.bias is bool"),
        ({"lstm.weight_ih_l0": torch.ones(3, dtype=torch.uint8)}, "lstm.weight_ih_l0 is uint8"),
        ({"a": torch.ones(3, dtype=torch.complex64)}, "a is complex64"),
        ({"a": torch.eye(3).to_sparse()}, "a kind that weights do not have"),
        ({"a": torch.ones(3).to(torch.uint16)}, "a kind that weights do not have"),
        ({"a": torch.ones(3, device="meta")}, "a kind that weights do not have"),
        ({"a": torch.tensor([1.0, float("nan")])}, "NaN or infinite: a"),
        (
            {"a": torch.ones(1), "b": torch.tensor(-float("inf")), "c": torch.tensor(float("nan"))},
            ": b and 1 more",
        ),
        ({"a\n\x1b[31m": torch.tensor(float("nan"))}, r"'a\n\x1b[31m'"),
        ({"a": torch.zeros(1).expand(50_000, 50_000)}, "declares tensors of 10.0 GB"),
    ],
)
def test_what_cannot_be_weights_is_refused(content: object, expected: str, tmp_path: Path) -> None:
    assert expected in refusal(save(content, tmp_path / "x.pt"))


def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = save(state(), tmp_path / "whole.pt").read_bytes()
    save_file(state(), tmp_path / "whole.safetensors")
    safe = (tmp_path / "whole.safetensors").read_bytes()
    for content in (whole, safe):
        for num_bytes in [*range(1, len(content), len(content) // 25), len(content) - 1]:
            (tmp_path / "x.pt").write_bytes(content[:num_bytes])
            refusal(tmp_path / "x.pt")


def test_one_flipped_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    weights = torch.randn(64, 64)
    content = bytearray(save({"a.weight": weights}, tmp_path / "x.pt").read_bytes())
    start = content.find(weights.numpy().tobytes())
    assert start > 0
    for offset in range(start, start + weights.numel() * 4, 797):
        content[offset] ^= 1 << offset % 8
        (tmp_path / "x.pt").write_bytes(content)
        assert "Bad CRC-32" in refusal(tmp_path / "x.pt")
        content[offset] ^= 1 << offset % 8


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path: Path) -> None:
    expected = {"a.weight": torch.randn(5), "b.weight": torch.randn(3)}
    content = bytearray(save({"model": expected, "epoch": 3}, tmp_path / "x.pt").read_bytes())
    generator = random.Random(0)
    num_found = 0
    for _ in range(300):
        offset, bit = generator.randrange(len(content)), 1 << generator.randrange(8)
        content[offset] ^= bit
        (tmp_path / "x.pt").write_bytes(content)
        try:
            found = read_foreign(tmp_path / "x.pt").tensors
        except MettaError:
            num_found += 1
        else:
            assert set(found) == set(expected), offset
            assert all(torch.equal(found[name], expected[name]) for name in expected), offset
        content[offset] ^= bit
    assert num_found > 50


def test_a_pickle_of_any_bytes_is_an_error_or_weights(marker: Path, tmp_path: Path) -> None:
    content = records(save({"model": state(), "epoch": 3, "x": [1.5, None]}, tmp_path / "x.pt"))
    name = next(name for name in content if name.endswith("/data.pkl"))
    original, generator = content[name], random.Random(1)
    num_refused = 0
    for _ in range(300):
        mutated = bytearray(original)
        for _ in range(generator.randrange(1, 4)):
            mutated[generator.randrange(len(mutated))] = generator.randrange(256)
        content[name] = bytes(mutated)
        try:
            read_foreign(write_zip(tmp_path / "y.pt", content))
        except MettaError as error:
            assert str(error).isprintable()  # noqa: PT017
            num_refused += 1
    assert num_refused > 50


def test_an_archive_that_lies_about_itself_is_refused(tmp_path: Path) -> None:
    content = records(save({"a": torch.ones(4)}, tmp_path / "x.pt"))
    entries = [(name, STORED, data, len(data)) for name, data in content.items()]
    for index, (name, method, data, size) in enumerate(entries):
        if "/data/" in name or name.endswith(".pkl"):
            for claimed in (size + 1, size - 1, 4_000_000_000):
                lie = [*entries[:index], (name, method, data, claimed), *entries[index + 1 :]]
                (tmp_path / "x.pt").write_bytes(raw_zip(lie))
                refusal(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(raw_zip([*entries, entries[0]]))
    assert "two records have one name" in refusal(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(raw_zip(entries))
    assert torch.equal(read_foreign(tmp_path / "x.pt").tensors["a"], torch.ones(4))


def test_encrypted_and_compressed_archives_are_named(tmp_path: Path) -> None:
    content = records(save(state(), tmp_path / "x.pt"))
    write_zip(tmp_path / "x.pt", content, DEFLATED)
    assert "torch.save never compresses" in refusal(tmp_path / "x.pt")
    write_zip(tmp_path / "x.pt", content)
    data = bytearray((tmp_path / "x.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        start = archive.start_dir
    data[start + 8] |= 1
    (tmp_path / "x.pt").write_bytes(data)
    assert "is encrypted" in refusal(tmp_path / "x.pt")


def script_archive(path: Path, pickled: bytes) -> Path:
    """Write a TorchScript archive of any pickle."""
    return write_zip(path, {"a/data.pkl": pickled, "a/constants.pkl": b"\x80\x02).", "a/version": b"3\n"})


def script_object(attributes: bytes) -> bytes:
    """Return the instructions that make an object with some attributes."""
    return b"c__torch__\nM\n)\x81" + attributes + b"b"


def test_torchscript_modules_without_end_are_refused(tmp_path: Path) -> None:
    # each module holds the one before twice: 2**40 modules by 40 instructions
    program = script_object(b"}") + b"q\x00"
    for i in range(40):
        program += script_object(b"}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cu" % (i, i)) + b"q%c" % (i + 1)
    assert "nested without end" in refusal(script_archive(tmp_path / "x.pt", b"\x80\x02" + program + b"."))


def test_torchscript_without_plain_weights_is_refused(tmp_path: Path) -> None:
    packed = script_object(b"}X\x01\x00\x00\x00a" + script_object(b"K\x01K\x02\x86") + b"s")
    message = refusal(script_archive(tmp_path / "x.pt", b"\x80\x02" + packed + b"."))
    assert "module a is packed" in message
    frozen = script_object(b"}X\x08\x00\x00\x00training\x89s")
    message = refusal(script_archive(tmp_path / "x.pt", b"\x80\x02" + frozen + b"."))
    assert "it has no parameters" in message
    assert "at its top is a list" in refusal(script_archive(tmp_path / "x.pt", b"\x80\x02]."))


@pytest.mark.parametrize("num_bytes", [file_kinds.MAX_HEADER_BYTES, 1 << 30])
def test_a_safetensors_header_that_is_too_large_is_not_parsed(num_bytes: int, tmp_path: Path) -> None:
    metadata = {"note": "x" * file_kinds.MAX_HEADER_BYTES}
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors", metadata)
    data = (tmp_path / "x.safetensors").read_bytes()
    if num_bytes > len(data):
        data = num_bytes.to_bytes(8, "little") + data[8:]
    (tmp_path / "x.safetensors").write_bytes(data)
    assert "its header should have" in refusal(tmp_path / "x.safetensors")
