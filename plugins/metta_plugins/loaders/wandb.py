"""The loader `wandb`: checkpoints, and files of other tools, that are artifacts on Weights & Biases."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from metta_cli.artifacts.cache import Cache
from metta_cli.artifacts.checkpoints import COMPLETE, MANIFEST, WEIGHTS, Checkpoint, read_checkpoint
from metta_cli.artifacts.loaders import ForeignFile
from metta_cli.artifacts.uris import Uri
from metta_cli.artifacts.wandb_client import ResolvedArtifact, download_artifact, resolve_artifact
from metta_cli.artifacts.wandb_references import parse_reference
from metta_cli.errors import CheckpointError

WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
USUAL_NAME = "model.pt"
"""The file that is meant where there are several, as most tools call the one with the weights."""

logger = logging.getLogger(__name__)


class WandbLoader:
    """Finds the checkpoint, or the file of weights, that is in an artifact.

    `wandb://ENTITY/PROJECT/TYPE/NAME[:VERSION]`, `wandb://ENTITY/PROJECT/NAME`, `wandb://run/NAME` and
    `wandb://sweep/NAME`, with `vN`, `latest` or an alias as the version. Which version is meant is asked of
    W&B every time, so `:latest` is never stale; what was downloaded once is not downloaded again.
    """

    def load(self, uri: Uri, *, device: str, data_dir: Path) -> Checkpoint | ForeignFile:
        """Return the checkpoint at `uri`; see `metta_cli.artifacts.loaders.Loader`."""
        resolved = resolve_artifact(parse_reference(uri))
        name = _weights_of(resolved)
        logger.debug("%s is %s, %s in it", uri, resolved.uri, name or "a checkpoint")
        directory = _fetch(resolved)
        if name is None:
            return read_checkpoint(directory / _checkpoint_of(resolved), device)
        return ForeignFile(directory / name)


def _fetch(resolved: ResolvedArtifact) -> Path:
    """Return a directory with the files of an artifact."""
    shown_percent = 0

    def show(num_bytes: int, total_bytes: int) -> None:
        nonlocal shown_percent
        percent = 100 * num_bytes // max(1, total_bytes)
        if percent >= shown_percent + 10 and total_bytes >= 10_000_000:
            shown_percent = percent
            logger.info("%s: %d %% of %d MB", resolved.uri, percent, total_bytes // 1_000_000)

    def fill(directory: Path) -> None:
        download_artifact(resolved, directory, progress=show)

    return Cache().fetch(f"{resolved.uri}, digest {resolved.digest}", fill, expected=resolved.files)


def _checkpoint_of(resolved: ResolvedArtifact) -> PurePosixPath:
    """Return the directory in an artifact that is a checkpoint of ours."""
    [mark] = [PurePosixPath(path) for path in resolved.files if PurePosixPath(path).name == COMPLETE]
    return mark.parent


def _weights_of(resolved: ResolvedArtifact) -> str | None:
    """Return the file of weights of another tool in an artifact; None if it holds a checkpoint of ours.

    Raises:
        CheckpointError: it holds neither, or several.
    """
    names = [PurePosixPath(path).name for path in resolved.files]
    if names.count(COMPLETE) == 1:
        return None
    if names.count(COMPLETE) > 1 or {MANIFEST, WEIGHTS} <= set(names):
        what = "several checkpoints" if COMPLETE in names else f"a checkpoint without its {COMPLETE} file"
        raise CheckpointError(f"{resolved.uri} holds {what}", "push one checkpoint with `metta push`")
    weights = [path for path in resolved.files if path.endswith(WEIGHT_SUFFIXES)]
    usual = [path for path in weights if PurePosixPath(path).name == USUAL_NAME]
    chosen = weights if len(weights) == 1 else usual
    if len(chosen) == 1:
        return chosen[0]
    shown = sorted(weights or resolved.files)
    listed = ", ".join([*shown[:6], *(["..."] if len(shown) > 6 else [])])
    if weights:
        raise CheckpointError(
            f"{resolved.uri} holds {len(weights)} files of weights: {listed}",
            f"download the right one, or log an artifact in which it is called {USUAL_NAME}",
        )
    raise CheckpointError(
        f"{resolved.uri} holds neither a checkpoint nor a file of weights, but {listed}",
        f"files of weights end in {', '.join(WEIGHT_SUFFIXES)}",
    )
