"""Where a training run starts: at the weights of a policy, or at its own newest checkpoint."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from metta_cli.artifacts.checkpoints import Checkpoint, latest_valid_checkpoint
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.layers import ResolvedConfig
from metta_cli.config.schema import MettaConfig, PolicyConfig
from metta_cli.errors import CheckpointError, UsageError
from metta_cli.policies.remapping import interface_differences
from metta_cli.populations.players import is_builtin
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.dual_policy import warn_of_lost_opponents
from metta_cli.runs.external import to_checkpoint
from metta_cli.runs.policies import NO_TRUST, failed_to_load, read_weights, require_plugin
from metta_cli.runs.selection import initial_policy_uri
from metta_cli.training.trainer import Trainer

PLAIN_WEIGHTS_ONLY = (
    "training reads plain weights only: write them with torch.save(model.state_dict(), PATH), "
    "or with metta export --allow-pickle if you trust the file"
)

logger = logging.getLogger(__name__)


def initial_checkpoint(config: MettaConfig) -> Checkpoint | None:
    """Return the policy that a new run begins with, if the configuration names one."""
    uri = config.policy_uri or initial_policy_uri(
        config.trainer.initial_policy, Path(config.data_dir), config.seed
    )
    if uri is None:
        return None
    if is_builtin(uri):
        raise UsageError(
            f"policy_uri={uri}: a built-in player has no weights to train from",
            "leave policy_uri out to start from random weights, or name a run or checkpoint",
        )
    with failed_to_load():
        try:
            found = read_weights(uri, Path(config.data_dir), NO_TRUST)
        except CheckpointError as error:
            if "--allow-pickle" not in str(error.cure):
                raise
            raise CheckpointError(error.message, PLAIN_WEIGHTS_ONLY) from error
        return found if isinstance(found, Checkpoint) else to_checkpoint(found, config.pytorch, config.env)


def with_architecture_of(checkpoint: Checkpoint | None, resolved: ResolvedConfig) -> ResolvedConfig:
    """Return the configuration with the policy of a checkpoint, unless the user chose one."""
    if checkpoint is None or resolved.is_chosen("policy"):
        return resolved
    require_plugin(checkpoint.manifest)
    architecture = checkpoint.manifest.architecture
    policy = PolicyConfig(name=architecture.name, args=architecture.args)
    return replace(resolved, config=resolved.config.model_copy(update={"policy": policy}))


def newest_checkpoint(directory: RunDirectory, config: MettaConfig) -> Checkpoint | None:
    """Return where a run is, None if it begins; say why newer checkpoints are skipped."""
    checkpoint, skipped = latest_valid_checkpoint(directory.checkpoints)
    for reason in skipped:
        logger.warning("%s", reason)
    if checkpoint is not None:
        logger.info("going on from %s", checkpoint.manifest.name)
        warn_of_lost_opponents(checkpoint.manifest.config, config)
    return checkpoint


def go_on(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Give a trainer everything besides the weights that it had at a checkpoint of its run.

    Raises:
        CheckpointError: if the checkpoint holds a policy only.
    """
    if checkpoint.trainer_state is None:
        raise CheckpointError(
            f"{checkpoint.manifest.name} holds a policy only, so its run cannot go on",
            "start a new run from it with policy_uri=",
        )
    trainer.load_state_dict(checkpoint.trainer_state)


def check_fit(config: MettaConfig, interface: EnvironmentInterface, start: Checkpoint) -> None:
    """Refuse to train weights in an architecture or an environment that they were not made for.

    Args:
        config: its `policy` is what the weights are to be loaded into.
        interface: of the environment that is trained in.
        start: whose weights they are.

    Raises:
        CheckpointError: says how the two differ.
    """
    manifest = start.manifest
    wanted = (config.policy.name, config.policy.args)
    trained = (manifest.architecture.name, manifest.architecture.args)
    if wanted != trained:
        differ_by_name = wanted[0] != trained[0]
        shown = [name if differ_by_name else f"{name} {args}" for name, args in (trained, wanted)]
        raise CheckpointError(
            f"checkpoint {manifest.name} is policy {shown[0]}, the configuration asks for {shown[1]}",
            "leave out what it says about the policy, or train under another run name",
        )
    differences = interface_differences(manifest.passport, interface)
    if differences:
        raise CheckpointError(
            f"checkpoint {manifest.name} was trained in '{manifest.environment.name}' and does not fit "
            f"'{config.env.name}': {'; '.join(differences)}",
            f"train in env={manifest.environment.name}, or start a new run without this checkpoint",
        )
