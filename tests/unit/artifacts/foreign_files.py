"""Files as other programs write them, and as an attacker would."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

STORED, DEFLATED = 0, 8


class Encoder(nn.Module):
    """A small module with parameters, buffers, a recurrent layer and a list of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 3)])
        self.lstm = nn.LSTM(3, 5)
        self.norm = nn.BatchNorm1d(3)
        self.sizes = [3, 4]
        self.register_buffer("features", torch.arange(6, dtype=torch.uint8))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(Encoder().state_dict())


def save(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def save_torchscript(path: Path) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.script(Encoder())
        torch.jit.save(module, path)
    return dict(module.state_dict())


def records(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, content: dict[str, bytes], method: int = STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def raw_zip(entries: list[tuple[str, int, bytes, int]]) -> bytes:
    """Build an archive whose entries say whatever they like.

    Args:
        entries: name, compression method, stored bytes, size that it claims to unpack to.
    """
    body, directory = io.BytesIO(), io.BytesIO()
    for name, method, data, claimed in entries:
        crc = zlib.crc32(data)
        common = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, crc, len(data), claimed, len(name), 0)
        offset = body.tell()
        body.write(b"PK\x03\x04" + common + name.encode() + data)
        directory.write(
            b"PK\x01\x02\x14\x00" + common + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name.encode()
        )
    end = struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(entries), len(entries), directory.tell(), body.tell(), 0
    )
    return body.getvalue() + directory.getvalue() + end


def deflated_zeros(num_blocks: int, block_bytes: int = 16_000_000) -> bytes:
    """Return a valid deflate stream of zeros, built from one compressed block."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    compressor.compress(b"")
    block = compressor.compress(bytes(block_bytes)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return block * num_blocks + zlib.compressobj(9, zlib.DEFLATED, -15).flush(zlib.Z_FINISH)
