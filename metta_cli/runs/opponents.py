"""From the address of an opponent to something that plays."""

from __future__ import annotations

import difflib
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
    UsageError,
)
from metta_cli.policies.remapping import interface_differences
from metta_cli.populations.opponents import Opponent, OpponentSource, PlayerOpponent, PolicyOpponent
from metta_cli.populations.players import BUILTIN_PLAYERS, builtin_source, is_builtin
from metta_cli.populations.scripts import SCRIPTS, create_script
from metta_cli.runs.mettagrid_opponent import is_mettagrid_policy, mettagrid_opponent
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
        uri: a built-in player (one of `BUILTIN_PLAYERS`, also after `mock://`), a policy of MettaGrid
            (`mettagrid://CLASS`, or a bundle), or whatever `load_policy` takes.
        device: where a policy computes.
        data_dir: where runs are looked for by name.
        architecture: of the file of another tool; empty or None recognises it from the weights.
        trust: what the user vouches for in such a file.

    Raises:
        MettaError: if it cannot be loaded: there is no other opponent to fall back on.
    """
    if is_builtin(uri):
        source = builtin_opponent(uri)
        logger.info("Loaded NPC policy from built-in player: %s", uri)
        return source
    if is_mettagrid_policy(uri):
        source = mettagrid_opponent(uri, device, allow_code=trust.allow_pickle)
        logger.info("Loaded NPC policy from MettaGrid: %s", uri)
        return source
    with _failed_to_load(uri):
        policy = load_policy(uri, device, data_dir=data_dir, architecture=architecture, trust=trust)
    if uri.startswith(WANDB_SCHEME):
        logger.info("Loaded NPC policy from WandB artifact: %s", uri.removeprefix(WANDB_SCHEME))
    else:
        logger.info("Loaded NPC policy from checkpoint: %s", uri)
    return policy_opponent(uri, policy, device)


def policy_opponent(uri: str, policy: LoadedPolicy, device: torch.device) -> OpponentSource:
    """Return a policy as the opponent of others, fitted by name to every environment that it plays in."""
    told: set[str] = set()

    def create(interface: EnvironmentInterface, num_rows: int) -> Opponent:
        module, differences = _fitted(uri, policy, interface)
        lines = "; ".join(differences)
        if lines and lines not in told:
            told.add(lines)
            logger.warning("policy %s is matched by name: %s", uri, lines)
        return PolicyOpponent(uri, module, num_rows, device)

    return OpponentSource(uri, create, description={"uri": uri, **policy.description})


def builtin_opponent(uri: str) -> OpponentSource:
    """Return a built-in player as the opponent of others.

    Raises:
        UnknownNameError: if there is no such player.
    """
    source = builtin_source(uri)
    if source.name in SCRIPTS:
        return script_opponent(source.name)

    def create(interface: EnvironmentInterface, num_rows: int) -> Opponent:
        return PlayerOpponent(source.name, source.create(interface, num_rows))

    return OpponentSource(source.name, create, source.reads_scripted_actions, {"uri": source.name})


def script_opponent(name: str, **options: Any) -> OpponentSource:
    """Return `roomba` or `grid_search`; see `metta_cli.populations.scripts.create_script` for the options."""

    def create(interface: EnvironmentInterface, num_rows: int) -> Opponent:
        return PolicyOpponent(name, create_script(interface, name, **options), num_rows)

    return OpponentSource(name, create, description={"uri": name, **options})


def _fitted(
    uri: str, policy: LoadedPolicy, interface: EnvironmentInterface
) -> tuple[torch.nn.Module, list[str]]:
    """Return the policy as it plays in one environment, and what is matched by name.

    Raises:
        CheckpointError: if it cannot act there; says how the two differ.
    """
    try:
        return policy.fit(interface)
    except CheckpointError as error:
        passport = policy.passport
        known = interface_differences(passport, interface) if passport is not None else []
        lines = [error.message, *(line for line in known if line not in error.message)]
        raise CheckpointError(
            f"policy {uri} cannot play here: {'; '.join(lines)}",
            "choose one that was trained in an environment like this one",
        ) from error


@contextmanager
def _failed_to_load(uri: str) -> Iterator[None]:
    """Say in the documented words that it is the opponent that could not be loaded, and what to do."""
    try:
        yield
    except MettaError as error:
        if isinstance(error, UsageError):
            raise
        reason = error.message.removeprefix("Failed to load policy: ")
        if uri.startswith(WANDB_SCHEME):
            message = f"Could not load NPC policy from WandB artifact {uri}: {reason}"
        elif isinstance(error, IncompatibleError):
            message = f"Checkpoint NPC policy must be a PyTorch module: {reason}"
        else:
            message = f"Could not load NPC policy from {uri}: {reason}"
        raise _same_kind(error)(message, _builtin_meant(uri) or error.cure or LIST_RUNS) from error


def _builtin_meant(uri: str) -> str | None:
    """Return a cure if an address that could not be loaded looks like the name of a built-in player."""
    close = difflib.get_close_matches(uri, [*BUILTIN_PLAYERS, *SCRIPTS], n=1, cutoff=0.75)
    return f"did you mean '{close[0]}'?" if close else None


def _same_kind(error: MettaError) -> type[MettaError]:
    """Return the class that decides the exit code, for those whose constructor takes more than a message."""
    kinds = (CheckpointError, IncompatibleError, NotFoundError, AccessError, StorageError)
    return next((kind for kind in kinds if isinstance(error, kind)), MettaError)
