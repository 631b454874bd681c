"""From the address of a checkpoint to the checkpoint, through the loader plugin of its scheme.

A loader plugin is a class that a distribution registers under the scheme that it serves:

    [project.entry-points."metta_cli.loaders"]
    ftp = "my_package.loaders:FtpLoader"

It is made without arguments whenever a URI of that scheme is loaded, and must follow `Loader`.
`metta_cli.testing.loaders.LoaderContract` tests that it does.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metta_cli.artifacts.checkpoints import Checkpoint
from metta_cli.artifacts.uris import Uri, parse_uri
from metta_cli.errors import PluginError, UnknownNameError
from metta_cli.extensions import LOADERS, load_plugin, plugin_names

DEFAULT_DATA_DIR = Path("train_dir")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForeignFile:
    """A file of weights that another tool wrote, found but not opened.

    A loader only says where it is. `metta_cli.artifacts.foreign` alone opens such files, so that what may
    be read, and what is refused, is decided in one place.

    Attributes:
        path: where it is on this machine.
    """

    path: Path


class Loader(Protocol):
    """What a loader plugin must be able to do."""

    def load(self, uri: Uri, *, device: str, data_dir: Path) -> Checkpoint | ForeignFile:
        """Return the checkpoint at `uri`, or the file there that another tool wrote.

        A loader that fetches over a network keeps what it fetched where it can be verified, gives up in
        bounded time, and executes nothing that it loads.

        Args:
            uri: what to load; `uri.path` and `uri.version` mean what the loader says they mean.
            device: where the weights go, such as `cpu` or `cuda:0`.
            data_dir: where the runs of this machine are.

        Returns:
            A checkpoint with tensors of its own, which the caller may change; or the place of a file, unread.

        Raises:
            NotFoundError: there is nothing at `uri`; the cure names what there is.
            CheckpointError: it is damaged, or is no checkpoint.
            AccessError: credentials are missing or refused.
        """
        ...


def load_checkpoint(
    uri: str, device: str = "cpu", *, data_dir: Path = DEFAULT_DATA_DIR
) -> Checkpoint | ForeignFile:
    """Return the checkpoint at an address, or the file there that another tool wrote.

    Args:
        uri: `RUN`, `RUN:v12`, a path, or `SCHEME://...`; without a version, the newest valid one.
        device: where the weights go.
        data_dir: where runs are looked for by name.

    Raises:
        UsageError: the address makes no sense.
        UnknownNameError: no plugin serves its scheme.
        PluginError: the plugin that does is broken.
        NotFoundError: there is nothing at that address.
        CheckpointError: what is there is damaged, or is no checkpoint.
    """
    parsed = parse_uri(uri)
    schemes = plugin_names(LOADERS)
    if parsed.scheme not in schemes:
        raise UnknownNameError("URI scheme", parsed.scheme, schemes)
    loader_class = load_plugin(LOADERS, parsed.scheme)
    if not isinstance(loader_class, type) or not hasattr(loader_class, "load"):
        raise PluginError(
            f"loader '{parsed.scheme}' is {loader_class!r}, not a class with a method load",
            "ask its author to follow metta_cli.artifacts.loaders.Loader",
        )
    loader: Loader = loader_class()
    logger.debug(
        "%s: loader %s.%s, runs in %s", parsed, loader_class.__module__, loader_class.__name__, data_dir
    )
    started = time.perf_counter()
    found = loader.load(parsed, device=device, data_dir=data_dir)
    if not isinstance(found, Checkpoint | ForeignFile):
        raise PluginError(
            f"loader '{parsed.scheme}' returned a {type(found).__name__} for {uri}, not a Checkpoint",
            "ask its author to follow metta_cli.artifacts.loaders.Loader",
        )
    what = found.manifest.name if isinstance(found, Checkpoint) else f"file {found.path}"
    logger.debug("%s: found %s in %.3f s", parsed, what, time.perf_counter() - started)
    return found
