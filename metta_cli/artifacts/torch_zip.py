"""The zip archive that `torch.save` and `torch.jit.save` write, checked before torch sees it.

torch trusts what an archive says about itself: it unpacks compressed records of any size, and never looks
at a checksum. So the archive is read here, and torch is given a new one that holds only the records that
passed. Two readers can then not disagree on what a crafted archive contains.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from metta_cli.artifacts.atomic import format_bytes
from metta_cli.artifacts.file_kinds import MAX_HEADER_BYTES, shown
from metta_cli.artifacts.pickle_scan import PickleContents, scan_pickle
from metta_cli.errors import CheckpointError

COPY_AGAIN = "copy or download it again; if that does not help, use another checkpoint"

_ENCRYPTED = 0x1
_END_OF_ARCHIVE = b"PK\x05\x06"
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""Whatever `zipfile` raises on a damaged or crafted archive."""


@dataclass(frozen=True)
class TorchArchive:
    """The records of an archive, verified.

    Attributes:
        records: `data.pkl`, `data/0`, ... -> content.
        pickle: what `data.pkl` says.
        is_torchscript: whether `torch.jit.save` wrote it.
    """

    records: dict[str, bytes]
    pickle: PickleContents
    is_torchscript: bool

    def repacked(self) -> io.BytesIO:
        """Return an archive that torch can load, with these records and nothing else."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self.records.items():
                archive.writestr(f"archive/{name}", content)
        buffer.seek(0)
        return buffer


def read_archive(data: bytes, path: Path) -> TorchArchive:
    """Read and check an archive. Nothing in it is run or unpacked.

    Args:
        data: the whole file.
        path: where it is, for messages.

    Raises:
        CheckpointError: it is truncated or damaged, compressed, declares more than it holds, or was not
            written by torch.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _relevant_entries(archive.infolist(), path)
            _check_entries(list(entries.values()), len(data), path)
            is_torchscript = any(name.endswith("/constants.pkl") for name in archive.namelist())
            records = {name: archive.read(entry) for name, entry in entries.items()}
    except _DAMAGE as error:
        reason = "its end is missing" if data.find(_END_OF_ARCHIVE) < 0 else str(error)
        raise _damaged(path, reason) from error
    short = [name for name, entry in entries.items() if len(records[name]) != entry.file_size]
    if short:
        raise _damaged(path, f"record {short[0]} is shorter than it says")
    return TorchArchive(records, _scan(records, path), is_torchscript)


def _relevant_entries(entries: list[zipfile.ZipInfo], path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return what torch would read, by its name inside the one folder of the archive."""
    if len({entry.filename for entry in entries}) != len(entries):
        raise _damaged(path, "two records have one name")
    pickles = [entry.filename for entry in entries if entry.filename.count("/") == 1]
    folders = [name.split("/")[0] for name in pickles if name.endswith("/data.pkl")]
    if len(folders) != 1:
        held = ", ".join(shown(entry.filename, 40) for entry in entries[:3])
        raise CheckpointError(
            f"{shown(path)} is a zip archive, but torch.save did not write it: it holds {held or 'nothing'}",
            "give the .pt or .safetensors file; if it is in this archive, unpack it first",
        )
    inside = {
        entry.filename.removeprefix(f"{folders[0]}/"): entry
        for entry in entries
        if entry.filename.startswith(f"{folders[0]}/")
    }
    wanted = ("data.pkl", "version", "byteorder")
    return {name: entry for name, entry in inside.items() if name in wanted or name.startswith("data/")}


def _check_entries(entries: list[zipfile.ZipInfo], num_bytes: int, path: Path) -> None:
    """Refuse what would need more memory than the file has bytes."""
    unpacked = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{shown(path)} is compressed and would unpack to {format_bytes(unpacked)}; "
            "torch.save never compresses",
            "unpack it and write it again with torch.save, if you trust whoever made it",
        )
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise CheckpointError(f"{shown(path)} is encrypted", "decrypt it first")
    if unpacked > num_bytes:
        raise CheckpointError(
            f"{shown(path)} says that it holds {format_bytes(unpacked)}, but has {format_bytes(num_bytes)}",
            COPY_AGAIN,
        )


def _scan(records: dict[str, bytes], path: Path) -> PickleContents:
    pickle_bytes = len(records["data.pkl"])
    if pickle_bytes > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{shown(path)} describes its tensors in {format_bytes(pickle_bytes)}; "
            f"the limit is {format_bytes(MAX_HEADER_BYTES)}",
            "save only the weights, without lists of other data",
        )
    try:
        contents = scan_pickle(records["data.pkl"])
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    for key, num_elements in contents.storages.items():
        has = len(records.get(f"data/{key}", b""))
        if num_elements > has:
            raise CheckpointError(
                f"{shown(path)} declares a tensor of {num_elements} elements, "
                f"for which it has {format_bytes(has)}",
                COPY_AGAIN,
            )
    return contents


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{shown(path)} is damaged or truncated: {shown(reason, 120)}", COPY_AGAIN)
