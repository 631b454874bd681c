"""From the address of an opponent to something that plays."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import (
    AccessError,
    CheckpointError,
    IncompatibleError,
    MettaError,
    NotFoundError,
    StorageError,
)
from metta_cli.policies.remapping import interface_differences
from metta_cli.populations.opponents import Opponent, OpponentSource, PlayerOpponent, PolicyOpponent
from metta_cli.populations.players import PlayerSource, builtin_source, is_builtin
from metta_cli.runs.policies import NO_TRUST, LoadedPolicy, Trust, load_policy

WANDB_SCHEME = "wandb://"
LIST_RUNS = "metta list-runs --format uris prints what can be loaded"

logger = logging.getLogger(__name__)


def load_opponent(
    uri: str,
    device: torch.device,
    *,
    data_dir: Path,
    architecture: Mapping[str, Any] | None = None,
    trust: Trust = NO_TRUST,
) -> OpponentSource:
    """Return who plays under an address.

    Args:
        uri: a built-in player (`random`, `noop`, `scripted`, also after `mock://`), or whatever
            `load_policy` takes.
        device: where a policy computes.
        data_dir: where runs are looked for by name.
        architecture: of the file of another tool; empty or None recognises it from the weights.
        trust: what the user vouches for in such a file.

    Raises:
        MettaError: if it cannot be loaded: there is no other opponent to fall back on.
    """
    if is_builtin(uri):
        logger.info("Loaded NPC policy from built-in player: %s", uri)
        return _builtin(builtin_source(uri))
    with _failed_to_load(uri):
        policy = load_policy(uri, device, data_dir=data_dir, architecture=architecture, trust=trust)
    if uri.startswith(WANDB_SCHEME):
        logger.info("Loaded NPC policy from WandB artifact: %s", uri.removeprefix(WANDB_SCHEME))
    else:
        logger.info("Loaded NPC policy from checkpoint: %s", uri)

    def create(interface: EnvironmentInterface, num_rows: int) -> Opponent:
        return PolicyOpponent(uri, _fitted(uri, policy, interface), num_rows, device)

    return OpponentSource(uri, create, description={"uri": uri, **policy.description})


def _builtin(source: PlayerSource) -> OpponentSource:
    def create(interface: EnvironmentInterface, num_rows: int) -> Opponent:
        return PlayerOpponent(source.name, source.create(interface, num_rows))

    return OpponentSource(source.name, create, source.reads_scripted_actions, {"uri": source.name})


def _fitted(uri: str, policy: LoadedPolicy, interface: EnvironmentInterface) -> torch.nn.Module:
    """Return the policy as it plays in one environment, matched by name where that is needed.

    Raises:
        CheckpointError: if it cannot act there; says how the two differ.
    """
    try:
        module, differences = policy.fit(interface)
    except CheckpointError as error:
        passport = policy.passport
        known = interface_differences(passport, interface) if passport is not None else []
        lines = [error.message, *(line for line in known if line not in error.message)]
        raise CheckpointError(
            f"NPC policy {uri} cannot play here: {'; '.join(lines)}",
            "choose an opponent that was trained in an environment like this one",
        ) from error
    if differences:
        logger.warning("NPC policy %s is matched by name: %s", uri, "; ".join(differences))
    return module


@contextmanager
def _failed_to_load(uri: str) -> Iterator[None]:
    """Say in the documented words that it is the opponent that could not be loaded, and what to do."""
    try:
        yield
    except (IncompatibleError, NotFoundError, AccessError, StorageError) as error:
        reason = error.message.removeprefix("Failed to load policy: ")
        if uri.startswith(WANDB_SCHEME):
            message = f"Could not load NPC policy from WandB artifact {uri}: {reason}"
        elif isinstance(error, IncompatibleError):
            message = f"Checkpoint NPC policy must be a PyTorch module: {reason}"
        else:
            message = f"Could not load NPC policy from {uri}: {reason}"
        raise _same_kind(error)(message, error.cure or LIST_RUNS) from error


def _same_kind(error: MettaError) -> type[MettaError]:
    """Return the class that decides the exit code, for those whose constructor takes more than a message."""
    kinds = (CheckpointError, IncompatibleError, NotFoundError, AccessError, StorageError)
    return next(kind for kind in kinds if isinstance(error, kind))
