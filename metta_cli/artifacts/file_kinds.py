"""What a file is, by its first bytes.

torch guesses, and says "legacy .tar format" about a file of zeros and `KeyError: 101` about a text. Here
each wrong kind has its own sentence, and torch sees only what it can read.
"""

from __future__ import annotations

import difflib
import os
import stat
from enum import Enum
from pathlib import Path

from metta_cli.artifacts.atomic import format_bytes
from metta_cli.errors import CheckpointError, NotFoundError

MAX_FILE_BYTES = 2 << 30
"""Larger files are refused: a policy takes megabytes, and reading takes up to three times the file."""

MAX_HEADER_BYTES = 16 << 20
"""Limit of what describes the tensors: the pickle of a .pt file, the header of a .safetensors file."""

_SAVE_WEIGHTS = "save the weights with torch.save(model.state_dict(), PATH)"
_SAVE_AGAIN = (
    "write it again: torch.save(torch.load(PATH, weights_only=True), NEW_PATH), with torch 2.6 or newer"
)

_PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LEGACY_MAGIC = (
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch.serialization.MAGIC_NUMBER
)

_OTHER_KINDS = [
    (b"\x1f\x8b", "a gzip file", "unpack it with gunzip first"),
    (b"BZh", "a bzip2 file", "unpack it first"),
    (b"\xfd7zXZ", "an xz file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", _SAVE_WEIGHTS),
    (b"\x93NUMPY", "a numpy array", _SAVE_WEIGHTS),
    (b"version https://git-lfs", "the placeholder that git-lfs leaves for a file", "fetch it: git lfs pull"),
    (b"PK\x05\x06", "an empty zip archive", _SAVE_WEIGHTS),
]


class FileKind(Enum):
    """The kinds that can be read, and the pickle, which is scanned so that it can be refused in detail."""

    ZIP = "zip"
    SAFETENSORS = "safetensors"
    BARE_PICKLE = "bare pickle"


def shown(text: str | Path, limit: int = 200) -> str:
    """Return a path, or a name that a stranger chose, as one printable line."""
    line = str(text) if str(text).isprintable() else ascii(str(text))
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def read_file(path: Path) -> bytes:
    """Read a regular file of a sensible size, whole: what is checked is then what is used.

    Raises:
        NotFoundError: there is nothing there.
        CheckpointError: it is a directory or a device, empty, too large, or unreadable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {shown(path)}", _nearest(path)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(
            f"{shown(path)} cannot be read: {reason}", "give the path of a file that you may read"
        ) from error
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    except OSError as error:
        raise CheckpointError(f"{shown(path)} cannot be read: {error.strerror}", "copy it again") from error
    finally:
        os.close(descriptor)


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        native = (path / "manifest.json").exists()
        cure = f"give it as file://{shown(path)}" if native else "give the .pt or .safetensors file in it"
        what = "a checkpoint directory of metta" if native else "a directory"
        raise CheckpointError(f"{shown(path)} is {what}, not a file", cure)
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{shown(path)} is not a regular file", "give the path of a file on disk")
    if status.st_size == 0:
        raise CheckpointError(f"{shown(path)} is empty: it has 0 bytes", "copy or save it again")
    if status.st_size > MAX_FILE_BYTES:
        raise CheckpointError(
            f"{shown(path)} has {format_bytes(status.st_size)}, which no policy needs; "
            f"the limit is {format_bytes(MAX_FILE_BYTES)}",
            "save only the weights, without optimizer state or data",
        )


def _nearest(path: Path) -> str:
    """Say which file of that directory could have been meant."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return f"its directory {shown(path.parent)} cannot be listed either"
    stems = difflib.get_close_matches(path.stem, [Path(name).stem for name in names], n=3, cutoff=0.6)
    close = [shown(path.parent / name) for name in sorted(names) if Path(name).stem in stems]
    if close:
        return "did you mean " + " or ".join(close[:3]) + "?"
    return "check the path; nothing in that directory has a similar name"


def kind_of(data: bytes, path: Path) -> FileKind:
    """Tell which reader a file needs.

    Args:
        data: the whole file, not empty.
        path: where it is, for messages.

    Raises:
        CheckpointError: no reader can read it; the message says what it is instead.
    """
    if data.startswith(b"PK\x03\x04"):
        return FileKind.ZIP
    if data.startswith(_LEGACY_MAGIC):
        raise CheckpointError(
            f"{shown(path)} has the format that torch.save wrote before torch 1.6, which has no checksums",
            _SAVE_AGAIN,
        )
    if data.startswith(_PICKLE_PROTOCOLS):
        return FileKind.BARE_PICKLE
    if _looks_like_safetensors(data):
        return FileKind.SAFETENSORS
    what, cure = _other_kind(data)
    raise CheckpointError(f"{shown(path)} is {what}, not a PyTorch or safetensors file", cure)


def _looks_like_safetensors(data: bytes) -> bool:
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 1 << 40


def _other_kind(data: bytes) -> tuple[str, str]:
    for start, what, cure in _OTHER_KINDS:
        if data.startswith(start):
            return what, cure
    if data[257:262] == b"ustar":
        return (
            "a tar archive",
            "unpack it first; if torch before 0.2 wrote it, write it again with a newer one",
        )
    head = data[:1024]
    if not head.strip(b"\0"):
        return "filled with zeros, as an interrupted copy leaves it", "copy it again"
    if b"<html" in head.lower() or b"<!doctype" in head.lower():
        return "a web page", "download the file itself, not the page that shows it"
    if head.isascii() and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file", _SAVE_WEIGHTS
    return "of an unknown kind", _SAVE_WEIGHTS
