"""Checkpoints that another program wrote: `.pt`, TorchScript and `.safetensors` files.

A `.pt` file is a program for the pickle machine. It is read like this:

1. The whole file goes into memory, so that what is checked is what is used.
2. Its kind is told by its first bytes; the archive is checked record by record (`torch_zip`), its pickle
   is scanned without running it (`pickle_scan`).
3. Every class or function that the pickle names must be on the short list below. `torch.load` with
   `weights_only=True`, whose own list is longer, reads it then. There is no second try without it.
4. The weights are found (`state_dicts`) and checked: kind, type, size, finite.

Only `allow_pickle` lets the file run code. It is an argument and a command-line option, never a key of a
configuration or an environment variable, so that no file that somebody else wrote can set it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_cli.artifacts import torchscript
from metta_cli.artifacts.file_kinds import MAX_HEADER_BYTES, FileKind, kind_of, read_file, shown
from metta_cli.artifacts.pickle_scan import scan_pickle
from metta_cli.artifacts.state_dicts import FoundWeights, check_tensors, find_weights, unwrap_names
from metta_cli.artifacts.torch_zip import COPY_AGAIN, TorchArchive, read_archive
from metta_cli.artifacts.uris import parse_uri
from metta_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

STATE_DICT = "state_dict"
TORCHSCRIPT = "torchscript"
SAFETENSORS = "safetensors"
PICKLED_MODULE = "pickled_module"

LOCAL_SCHEMES = ("file", "pytorch")
"""URI schemes of files on this machine."""

_REBUILDING = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
    }
)
_VALUES = frozenset({"torch.Size", "torch.device", "builtins.set", "builtins.complex", "_codecs.encode"})
_TORCH_TYPE = re.compile(r"torch\.([A-Z]\w+Storage|u?int\d+|b?float\d+\w*|bool|complex\d+)")
_LEFT_ASIDE = frozenset(
    {
        "argparse.Namespace",
        "datetime.datetime",
        "numpy.dtype",
        "numpy.ndarray",
        "torch.torch_version.TorchVersion",
        *(
            f"{module}.{name}"
            for module in ("pathlib", "pathlib._local")
            for name in ("Path", "PosixPath", "WindowsPath")
        ),
        *(
            f"numpy.{core}.multiarray.{name}"
            for core in ("core", "_core")
            for name in ("scalar", "_reconstruct")
        ),
    }
)
"""What trainers often put beside the weights. It is not made: a `torchscript.Record` stands in for it."""

_OTHER_TENSORS = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.serialization\._get_layout|torch\.(q|per_)\w+"
    r"|torch\.(storage\.)?UntypedStorage|torch\.(sparse\.|cuda\.)*\w*Tensor"
)
_SHA256 = re.compile(r"(sha256:)?(?P<digest>[0-9a-fA-F]{64})")
_ASK_FOR_WEIGHTS = "ask its author for torch.save(model.state_dict(), PATH)"
_TRUST = f"nothing was run; {_ASK_FOR_WEIGHTS}, or add --allow-pickle if you trust whoever made the file"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a foreign file holds.

    Attributes:
        source: the path that it was read from.
        kind: `state_dict`, `torchscript`, `safetensors` or `pickled_module`.
        tensors: name -> tensor on the CPU, without gradient, floating-point ones as float32; containers and
            the names of wrappers are taken off. Tied weights share their memory.
        extras: what was left aside, such as the state of an optimizer: plain values as they are, of the rest
            only the kind.
        sha256: digest of the file.
        prefix: the names of wrappers that every tensor's name began with, such as `module.`.
        module: the module itself, for `pickled_module` only.
    """

    source: str
    kind: str
    tensors: dict[str, Tensor]
    extras: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    prefix: str = ""
    module: nn.Module | None = None


def require_sha256(uri: str, *, allow_pickle: bool, sha256: str | None) -> None:
    """Refuse to run what a remote file says unless the caller knows exactly which file it is.

    Raises:
        UsageError: `allow_pickle` for a remote file without its digest.
    """
    parsed = parse_uri(uri)
    remote = parsed.scheme not in LOCAL_SCHEMES or "://" in parsed.path
    if allow_pickle and remote and sha256 is None:
        raise UsageError(
            f"--allow-pickle runs code from {shown(uri)}, a remote file that can change",
            "add its digest, --sha256 HEX, as its author published it",
        )


def read_foreign(path: Path, *, allow_pickle: bool = False, sha256: str | None = None) -> ForeignCheckpoint:
    """Read the weights of a file that another program wrote, without running anything in it.

    Trap: with `allow_pickle` a file that is not plain weights runs whatever it likes, as you.

    Args:
        path: the file.
        allow_pickle: unpickle what is not plain weights. Ask for `require_sha256` first if it is remote.
        sha256: the digest that the file must have, 64 hexadecimal digits.

    Raises:
        NotFoundError: there is no such file.
        CheckpointError: it is not readable as weights; the message says what it is and what to do.
        UsageError: `sha256` is no digest.
    """
    try:
        return _read(path, allow_pickle=allow_pickle, sha256=sha256)
    except MemoryError as error:
        raise CheckpointError(
            f"{shown(path)} needs more memory to be read than there is",
            "read it on a machine with more memory, or save only the weights",
        ) from error


def _read(path: Path, *, allow_pickle: bool, sha256: str | None) -> ForeignCheckpoint:
    data = read_file(path)
    digest = hashlib.sha256(data).hexdigest()
    require_digest(digest, sha256, shown(path))
    kind = kind_of(data, path)
    if kind is FileKind.BARE_PICKLE:
        raise _bare_pickle(data, path)
    if kind is FileKind.SAFETENSORS:
        found, name = _read_safetensors(data, path), SAFETENSORS
    else:
        found, name = _read_archive(read_archive(data, path), path, allow_pickle=allow_pickle)
    tensors, prefix = unwrap_names(found.tensors, path)
    logger.debug(
        "%s: %s of %d bytes, %d tensors, prefix %r taken off, left aside %s",
        path,
        name,
        len(data),
        len(tensors),
        prefix,
        found.extras,
    )
    check_tensors(tensors, len(data), path)
    return ForeignCheckpoint(
        str(path), name, _as_float32(tensors, path), found.extras, digest, prefix, found.module
    )


def require_digest(actual: str, expected: str | None, name: str) -> None:
    """Refuse what has another digest than the user asked for.

    Args:
        actual: sha256 of what is there, 64 lower-case hexadecimal digits.
        expected: the user's, in any case, with or without `sha256:` before it; None does not look.
        name: what the message calls it.

    Raises:
        UsageError: `expected` is no digest.
        CheckpointError: it is another one.
    """
    if expected is None:
        return
    match = _SHA256.fullmatch(expected)
    if match is None:
        raise UsageError(f"{shown(expected, 80)!r} is not a sha256", "give its 64 hexadecimal digits")
    if match["digest"].lower() != actual:
        raise CheckpointError(
            f"{name} is not the file that was asked for: its sha256 is {actual}", COPY_AGAIN
        )


def _bare_pickle(data: bytes, path: Path) -> CheckpointError:
    try:
        names = scan_pickle(data[:MAX_HEADER_BYTES]).global_names
    except ValueError:
        names = frozenset()
    named = f" and names {_listed(names)}" if names else ""
    return CheckpointError(
        f"{shown(path)} is a Python pickle that torch.save did not write{named}",
        f"nothing was run; {_ASK_FOR_WEIGHTS}",
    )


def _read_archive(archive: TorchArchive, path: Path, *, allow_pickle: bool) -> tuple[FoundWeights, str]:
    named = archive.pickle.global_names
    if archive.is_torchscript:
        named = frozenset(name for name in named if not name.startswith(torchscript.CLASSES))
    unsafe = named - _REBUILDING - _VALUES - _LEFT_ASIDE - torchscript.FUNCTIONS
    unsafe = frozenset(name for name in unsafe if not _TORCH_TYPE.fullmatch(name))
    if unsafe or archive.pickle.protocol != 2:
        if not allow_pickle or archive.is_torchscript:
            raise _refusal(unsafe, archive.pickle.protocol, path)
        return _run_pickle(archive, unsafe, path)
    content = _load_weights(archive, path)
    if not archive.is_torchscript:
        return find_weights(content, path), STATE_DICT
    try:
        return find_weights(torchscript.named_tensors(content), path), TORCHSCRIPT
    except ValueError as error:
        raise CheckpointError(
            f"{shown(path)} is a TorchScript archive without plain weights: {error}", _ASK_FOR_WEIGHTS
        ) from error


def _refusal(unsafe: frozenset[str], protocol: int, path: Path) -> CheckpointError:
    if not unsafe:
        return CheckpointError(
            f"{shown(path)} has pickle protocol {protocol}; torch reads only 2 safely",
            "save it again, with torch.save and without pickle_protocol",
        )
    if all(_OTHER_TENSORS.fullmatch(name) for name in unsafe):
        return CheckpointError(
            f"{shown(path)} holds tensors of a kind that weights do not have; it needs {_listed(unsafe)}",
            "save them as dense float32 tensors: .to_dense(), .dequantize(), .float()",
        )
    return CheckpointError(
        f"{shown(path)} is more than weights: to read it would run {_listed(unsafe)}", _TRUST
    )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names, key=lambda name: (name.startswith("torch."), name))
    more = f" and {len(ordered) - 6} more" if len(ordered) > 6 else ""
    return ", ".join(shown(name, 80) for name in ordered[:6]) + more


def _load_weights(archive: TorchArchive, path: Path) -> object:
    """Let torch rebuild the tensors; whatever else the file names becomes a record without behaviour."""
    import torch

    stand_ins: list[Any] = [
        (type(name.rsplit(".", 1)[-1], (torchscript.Record,), {}), name)
        for name in archive.pickle.global_names
        if name in _LEFT_ASIDE or name.startswith(torchscript.CLASSES)
    ]
    stand_ins += [(torchscript.first_argument, name) for name in torchscript.FUNCTIONS]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(archive.repacked(), map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # a crafted pickle makes torch raise anything; its advice is to run the file
        raise CheckpointError(
            f"{shown(path)} is damaged: torch cannot rebuild its tensors ({type(error).__name__})", COPY_AGAIN
        ) from error


def _run_pickle(archive: TorchArchive, unsafe: frozenset[str], path: Path) -> tuple[FoundWeights, str]:
    """Unpickle a file whose maker the caller trusts."""
    import torch

    logger.warning("unpickling %s runs %s", shown(path), _listed(unsafe) or "no code that it names")
    try:
        content = torch.load(archive.repacked(), map_location="cpu", weights_only=False, mmap=False)
    except Exception as error:  # it is a stranger's code that runs
        reason = shown(str(error).split("\n", 1)[0], 160)
        raise CheckpointError(
            f"{shown(path)} cannot be unpickled: {type(error).__name__}: {reason}",
            "install the package that its classes are from, or put it on PYTHONPATH",
        ) from error
    found = find_weights(content, path)
    return found, STATE_DICT if found.module is None else PICKLED_MODULE


def _read_safetensors(data: bytes, path: Path) -> FoundWeights:
    import safetensors.torch

    num_header_bytes = int.from_bytes(data[:8], "little")
    try:
        if num_header_bytes > min(MAX_HEADER_BYTES, len(data) - 8):
            raise ValueError(f"its header should have {num_header_bytes} bytes")
        metadata = json.loads(data[8 : 8 + num_header_bytes]).get("__metadata__", {})
        tensors = safetensors.torch.load(data)
    except (
        safetensors.SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            f"{shown(path)} is damaged or truncated: {shown(str(error), 120)}", COPY_AGAIN
        ) from error
    found = find_weights(tensors, path)
    return FoundWeights(found.tensors, None, {f"metadata.{shown(k, 80)}": v for k, v in metadata.items()})


def _as_float32(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    import torch

    other = {t.dtype for t in tensors.values() if t.is_floating_point() and t.dtype != torch.float32}
    if other:
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in other))
        logger.warning("%s: weights stored as %s are used as float32", shown(path), kinds)
    return {
        name: tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        for name, tensor in tensors.items()
    }
