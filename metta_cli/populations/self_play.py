"""Self-play: the learner meets copies of itself, those of the past and one of the present."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from metta_cli.artifacts.atomic import remove_directory
from metta_cli.artifacts.checkpoints import list_checkpoints, read_checkpoint, save_checkpoint
from metta_cli.artifacts.manifest import CheckpointManifest
from metta_cli.config.league import LIVE
from metta_cli.populations.league import SNAPSHOT, League
from metta_cli.populations.matchmaking import Member
from metta_cli.populations.opponents import OpponentPool, PolicyOpponent

logger = logging.getLogger(__name__)


class SnapshotStore:
    """The weights of the snapshots of a run, as checkpoints `RUN:vEPOCH` without trainer state.

    Trap: a run that goes on after a crash goes back to its last checkpoint, and so does its league. The
    weights of a snapshot that made room are therefore kept as long as there is a checkpoint of the run
    that still counts on it, and those of a snapshot that no checkpoint knows are deleted.

    Args:
        directory: `RUN/league`.
        checkpoints: `RUN/checkpoints`.
        manifest: of the run where it begins, or goes on; other snapshots fill in how far they are.
        writes: whether this process writes and deletes; of several that train together, one does.
    """

    def __init__(
        self, directory: Path, checkpoints: Path, manifest: CheckpointManifest, *, writes: bool = True
    ) -> None:
        self.writes = writes
        self.directory, self.checkpoints, self.manifest = directory, checkpoints, manifest

    def path(self, snapshot: str) -> Path:
        """Return where the weights of a snapshot are."""
        return self.directory / f"{self.manifest.run}:{snapshot}"

    def save(self, policy: nn.Module, epoch: int, agent_steps: int) -> Path:
        """Write the weights of the learner as they are now.

        Raises:
            StorageError: they cannot be written.
        """
        if not self.writes:
            return self.path(f"v{epoch}")
        state = {"epoch": epoch, "agent_steps": agent_steps, "created_at": datetime.now(UTC)}
        return save_checkpoint(self.directory, self.manifest.model_copy(update=state), policy.state_dict())

    def load(self, snapshot: str) -> dict[str, Tensor]:
        """Return the weights of a snapshot, on the CPU.

        Raises:
            NotFoundError: they are gone.
            CheckpointError: they are damaged.
        """
        return read_checkpoint(self.path(snapshot)).weights

    def keep_only(self, snapshots: Iterable[str]) -> None:
        """Delete all other weights."""
        kept = {self.path(snapshot) for snapshot in snapshots}
        for info in list_checkpoints(self.directory) if self.writes else ():
            if info.path not in kept:
                remove_directory(info.path)

    def is_needed(self, retired_at_epoch: int) -> bool:
        """Whether a checkpoint of the run counts on a snapshot that made room at this epoch."""
        return any(info.epoch < retired_at_epoch for info in list_checkpoints(self.checkpoints))


class SelfPlay:
    """Takes snapshots of the learner, lets them play, and keeps the copy of the present up to date.

    Args:
        league: in the mode self_play.
        pool: the snapshots are added to it.
        store: where the weights are.
        num_rows: agents of all environments, `N`.
        device: where the opponents act.
    """

    def __init__(
        self, league: League, pool: OpponentPool, store: SnapshotStore, num_rows: int, device: torch.device
    ) -> None:
        self.league, self.pool, self.store = league, pool, store
        self.num_rows, self.device = num_rows, device
        self.config = league.config.self_play

    def start(self, policy: nn.Module) -> None:
        """Fill the pool: the snapshots that the league has, or else the first one, and the live copy.

        Args:
            policy: the learner as its run begins, or goes on.

        Raises:
            MettaError: a snapshot is gone or damaged, or cannot be written.
        """
        self.store.keep_only([member.id for member in self.league.snapshots] + list(self.league.retired))
        self._live = PolicyOpponent(LIVE, policy, self.num_rows, self.device)
        self.pool.add(LIVE, self._live)
        for member in self.league.snapshots:
            past = copy.deepcopy(policy)
            past.load_state_dict(self.store.load(member.id))
            self.pool.add(member.id, self._opponent(member.id, past))
        if not self.league.snapshots:
            self._take_snapshot(policy, self.store.manifest.epoch, self.store.manifest.agent_steps)

    def begin_epoch(self, policy: nn.Module) -> None:
        """Give the live copy the weights of the learner; they then stay for an epoch."""
        self._live.policy.load_state_dict(policy.state_dict())

    def end_epoch(self, policy: nn.Module, epoch: int, agent_steps: int, playing: Collection[str]) -> None:
        """Take a snapshot if one is due, and let go of those that made room.

        Args:
            policy: the learner.
            epoch: epochs finished.
            agent_steps: taken by the learner so far.
            playing: ids of the opponents in episodes that go on.
        """
        if self._is_due(agent_steps):
            self._take_snapshot(policy, epoch, agent_steps)
            while len(self.league.snapshots) > self.config.max_snapshots:
                self.league.retire(most_crowded(self.league.snapshots), epoch)
        for snapshot, retired_at_epoch in list(self.league.retired.items()):
            if snapshot in self.pool and snapshot not in playing:
                self.pool.remove(snapshot)
            if snapshot not in self.pool and not self.store.is_needed(retired_at_epoch):
                del self.league.retired[snapshot]
                self.store.keep_only([*self.league.ids, *self.league.retired])

    def _is_due(self, agent_steps: int) -> bool:
        interval, gate = self.config.snapshot_interval_agent_steps, self.config.win_rate_gate
        if interval is not None and agent_steps - self.league.snapshot_agent_steps >= interval:
            return True
        return gate is not None and self.league.has_won(gate)

    def _take_snapshot(self, policy: nn.Module, epoch: int, agent_steps: int) -> None:
        name = f"v{epoch}"
        path = self.store.save(policy, epoch, agent_steps)
        self.pool.add(name, self._opponent(name, policy))
        self.league.add_snapshot(Member(name, SNAPSHOT, str(path), epoch=epoch, agent_steps=agent_steps))
        logger.info("snapshot %s of the learner joins the league (%d agent steps)", name, agent_steps)

    def _opponent(self, name: str, policy: nn.Module) -> PolicyOpponent:
        return PolicyOpponent(name, policy, self.num_rows, self.device)


def most_crowded(snapshots: Sequence[Member]) -> Member:
    """Return the snapshot whose neighbours are closest to each other in agent steps.

    Neither the first nor the newest: without it, the others still span the whole run.

    Args:
        snapshots: at least three, oldest first.
    """
    gaps = [
        after.agent_steps - before.agent_steps
        for before, after in zip(snapshots, snapshots[2:], strict=False)
    ]
    return snapshots[1 + gaps.index(min(gaps))]
