"""Tiny files that unpack to gigabytes, or take for ever, are refused before they do."""

import json
import struct
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import torch

from .foreign_files import DEFLATED, STORED, deflated_zeros, raw_zip, records, save


def bombs(directory: Path) -> list[Path]:
    """Write tiny files that claim, or unpack to, gigabytes."""
    plain = records(save({"a": torch.ones(4)}, directory / "plain.pt"))
    entries = {name: (name, STORED, data, len(data)) for name, data in plain.items()}
    pickled = next(name for name in plain if name.endswith("/data.pkl"))
    weights = next(name for name in plain if name.endswith("/data/0"))
    zeros = deflated_zeros(250)
    declared = plain[pickled].replace(b"cpuq\x06K\x04", b"cpuq\x06J" + struct.pack("<i", 2_000_000_000))
    assert declared != plain[pickled]
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10_000_000_000]}}
    )
    contents = {
        "deflated_weights": raw_zip(
            [*(entries | {weights: (weights, DEFLATED, zeros, 4_000_000_000)}).values()]
        ),
        "deflated_pickle": raw_zip(
            [*(entries | {pickled: (pickled, DEFLATED, zeros, 4_000_000_000)}).values()]
        ),
        "claimed_record": raw_zip(
            [*(entries | {weights: (weights, STORED, b"1234", 4_000_000_000)}).values()]
        ),
        "declared_storage": raw_zip(
            [*(entries | {pickled: (pickled, STORED, declared, len(declared))}).values()]
        ),
        "safetensors": len(header).to_bytes(8, "little") + header.encode(),
        "safetensors_header": (1 << 39).to_bytes(8, "little") + b"{" + bytes(100),
        "call": call(b"ctorch\nFloatTensor\n", 2_000_000_000),
        "bytes": call(b"c__builtin__\nbytearray\n", 2_000_000_000),
        "storage": call(b"ctorch.storage\nUntypedStorage\n", 2_000_000_000),
        "hash": raw_zip(
            [("a/data.pkl", STORED, exponential_key(), len(exponential_key())), entries[weights]]
        ),
        "depth": raw_zip([("a/data.pkl", STORED, deep_key(), len(deep_key())), entries[weights]]),
    }
    for name, content in contents.items():
        (directory / f"{name}.pt").write_bytes(content)
    save({"a": torch.zeros(1).expand(50_000, 50_000)}, directory / "expanded.pt")
    with open(directory / "sparse.pt", "wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(1 << 40)
    return [directory / f"{name}.pt" for name in (*contents, "expanded", "sparse")]


def call(function: bytes, argument: int) -> bytes:
    """Return an archive whose pickle calls something with a large number."""
    data = b"\x80\x02" + function + b"J" + struct.pack("<i", argument) + b"\x85R."
    return raw_zip([("a/data.pkl", STORED, data, len(data)), ("a/version", STORED, b"3\n", 2)])


def exponential_key() -> bytes:
    """Return a pickle with a dictionary key that takes 2**60 steps to hash."""
    return (
        b"\x80\x02}"
        + b"K\x01q\x00"
        + b"".join(b"h%c0h%c\x86q%c" % (i, i, i + 1) for i in range(60))
        + b"K\x01s."
    )


def deep_key() -> bytes:
    """Return a pickle with a dictionary key that is nested deeper than the C stack."""
    return b"\x80\x02}K\x01" + b"\x85" * 3_000_000 + b"K\x01s."


def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    paths = bombs(tmp_path)
    program = """
        import resource, sys
        from pathlib import Path
        import safetensors.torch
        from metta_cli.artifacts.foreign import read_foreign
        from metta_cli.errors import CheckpointError
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (400 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
        for path in sys.argv[1:]:
            try:
                read_foreign(Path(path))
            except CheckpointError as error:
                print(Path(path).stem, "|", error.message)
            else:
                print(Path(path).stem, "| was read")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    told = dict(line.split(" | ") for line in result.stdout.splitlines())
    expected = {
        "deflated_weights": "is compressed and would unpack to 4.0 GB",
        "deflated_pickle": "is compressed and would unpack to 4.0 GB",
        "claimed_record": "says that it holds 4.0 GB",
        "declared_storage": "declares a tensor of 2000000000 elements, for which it has 16 B",
        "safetensors": "damaged or truncated",
        "safetensors_header": "damaged or truncated",
        "call": "torch.FloatTensor",
        "bytes": "builtins.bytearray",
        "storage": "torch.storage.UntypedStorage",
        "hash": "takes for ever",
        "depth": "takes for ever",
        "expanded": "declares tensors of 10.0 GB",
        "sparse": "the limit is 2.1 GB",
    }
    assert set(told) == set(expected)
    assert {name: told[name] for name in told if expected[name] not in told[name]} == {}


def test_the_compressed_bomb_would_go_off(tmp_path: Path) -> None:
    [path] = [path for path in bombs(tmp_path) if path.stem == "deflated_weights"]
    assert path.stat().st_size < 8_000_000
    with zipfile.ZipFile(path) as archive, archive.open("plain/data/0") as record:
        num_bytes = sum(len(record.read(1 << 20)) for _ in range(64))
    assert num_bytes == 64 << 20
