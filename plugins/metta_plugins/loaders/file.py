"""The loaders `file` and `pytorch`: checkpoints, and files of other tools, on this machine."""

from __future__ import annotations

import logging
from pathlib import Path

from metta_cli.artifacts.checkpoints import (
    COMPLETE,
    MANIFEST,
    Checkpoint,
    latest_valid_checkpoint,
    list_checkpoints,
    read_checkpoint,
)
from metta_cli.artifacts.loaders import ForeignFile
from metta_cli.artifacts.uris import DEFAULT_SCHEME, Uri
from metta_cli.errors import NotFoundError, suggestion

CHECKPOINTS = "checkpoints"
WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""What files of weights are called; one of any other name is loaded too, but never proposed."""

logger = logging.getLogger(__name__)


class FileLoader:
    """Finds checkpoints, which are directories, and files of weights that other tools wrote.

    A checkpoint is named in any of these ways:

    `train_dir/RUN/checkpoints/RUN:v12` or any copy of it, a run directory `train_dir/RUN` or its
    `checkpoints` directory (the newest valid checkpoint), either of them with `:v12` or `:latest`, and
    `RUN`, `RUN:v12`, `RUN:latest` for a run in the data directory. A path counts from the working
    directory first, then from the data directory.
    """

    def load(self, uri: Uri, *, device: str, data_dir: Path) -> Checkpoint | ForeignFile:
        """Return the checkpoint at `uri`; see `metta_cli.artifacts.loaders.Loader`."""
        path = Path(uri.path).expanduser()
        for place in dict.fromkeys((path, data_dir / path)):
            exact = place if uri.version is None else place.with_name(f"{place.name}:{uri.version}")
            if _is_checkpoint(exact):
                return read_checkpoint(exact, device)
            if exact.exists() and not exact.is_dir():
                return ForeignFile(exact)
            for directory, run in _checkpoint_directories(place):
                if list_checkpoints(directory, run) or directory.name == CHECKPOINTS:
                    return _choose(uri, directory, run, device)
        raise _nothing_at(uri, path, data_dir)


def _is_checkpoint(path: Path) -> bool:
    """Whether a directory is meant to be one checkpoint, complete or not."""
    return any((path / name).is_file() for name in (MANIFEST, COMPLETE))


def _checkpoint_directories(place: Path) -> list[tuple[Path, str | None]]:
    """Return the directories that `place` may stand for, with the run to look for in each."""
    found: list[tuple[Path, str | None]] = []
    if (place / CHECKPOINTS).is_dir():
        found.append((place / CHECKPOINTS, None))
    if place.is_dir():
        found.append((place, None))
    elif list_checkpoints(place.parent, place.name):
        found.append((place.parent, place.name))
    return found


def _choose(uri: Uri, directory: Path, run: str | None, device: str) -> Checkpoint:
    if uri.epoch is None:
        checkpoint, skipped = latest_valid_checkpoint(directory, run=run, device=device)
        for reason in skipped:
            logger.warning("skipped: %s", reason)
        if checkpoint is None:
            raise NotFoundError(
                f"{directory} holds no checkpoint yet", "wait for the run to save its first one"
            )
        return checkpoint
    complete = list_checkpoints(directory, run)
    for info in complete:
        if info.epoch == uri.epoch:
            return read_checkpoint(info.path, device)
    known = [f"v{info.epoch}" for info in complete]
    shown = known if len(known) <= 8 else [*known[:4], "...", *known[-3:]]
    raise NotFoundError(
        f"there is no {uri.version} in {directory}",
        f"there is {', '.join(shown)}" if shown else "it is empty",
    )


def _nothing_at(uri: Uri, path: Path, data_dir: Path) -> NotFoundError:
    named = uri.path + (f":{uri.version}" if uri.version else "")
    if path.is_dir():
        return NotFoundError(f"{path} is neither a run nor a checkpoint", _known(path.name, path, data_dir))
    if uri.scheme != DEFAULT_SCHEME or path.suffix in WEIGHT_SUFFIXES:
        return NotFoundError(f"there is no file '{named}'", _nearest_file(path))
    return NotFoundError(f"there is no run or checkpoint '{named}'", _known(path.name, path.parent, data_dir))


def _nearest_file(path: Path) -> str:
    """Return a cure that names what exists and comes closest to a path that does not."""
    directory = next(parent for parent in path.parents if parent.is_dir())
    if directory != path.parent:
        missing = directory / path.relative_to(directory).parts[0]
        siblings = [str(entry) for entry in sorted(directory.iterdir()) if entry.is_dir()]
        return f"there is no directory '{missing}'; {suggestion(str(missing), siblings)}"
    names = [str(entry) for entry in _files_in(directory)]
    if not names and directory.name == CHECKPOINTS and list_checkpoints(directory):
        return f"{directory.parent} is a run of metta: its address is '{directory.parent}', or with :vEPOCH"
    if not names:
        return f"{directory.resolve()} holds no file of weights"
    return suggestion(str(path), names)


def _files_in(directory: Path) -> list[Path]:
    """Return the files that are called as files of weights are."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.suffix in WEIGHT_SUFFIXES)


def _known(name: str, directory: Path, data_dir: Path) -> str:
    """Return a cure that names what could have been meant: runs by name, the rest by path."""
    runs = {path.name: path.name for path in _runs_in(data_dir)}
    others = [*_runs_in(directory), *_files_in(directory)]
    elsewhere = {path.name: str(path) for path in others if path.name not in runs}
    known = suggestion(name, [*runs, *elsewhere])
    for short, path in elsewhere.items():
        known = known.replace(f"'{short}'", f"'{path}'")
    if not runs and not elsewhere:
        return f"there is no run in {data_dir}; `metta train run=NAME` makes one"
    return known


def _runs_in(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if (path / CHECKPOINTS).is_dir())
