"""The league of a training run: built from the configuration, kept up to date, written beside the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.manifest import CheckpointManifest
from metta_cli.config.league import LeagueConfig
from metta_cli.populations.environment import OpponentEnvironment
from metta_cli.populations.league import League
from metta_cli.populations.matchmaking import Member
from metta_cli.populations.opponents import OpponentPool
from metta_cli.populations.self_play import SelfPlay, SnapshotStore
from metta_cli.runs.directory import RunDirectory
from metta_cli.training.callbacks import Callback
from metta_cli.training.trainer import Metrics, Trainer

CALLBACK = "league"
"""Name of the callback, and of its state in a checkpoint."""
REPORT_VERSION = 1


def named_members(config: LeagueConfig) -> list[Member]:
    """Return the members that the configuration names in `opponents`."""
    return [
        Member(opponent.id, "opponent", opponent.uri, weight=opponent.weight) for opponent in config.opponents
    ]


def create_league(
    config: LeagueConfig,
    directory: RunDirectory,
    *,
    members: Sequence[Member],
    pool: OpponentPool,
    policy: nn.Module,
    manifest: CheckpointManifest,
    num_rows: int,
    device: torch.device,
    trainer_state: Mapping[str, Any] | None = None,
) -> tuple[League, SelfPlay | None]:
    """Return the league, and what takes its snapshots in the mode self_play.

    Trap: call it once the policy has its weights, and before the environment is reset: the first episodes
    are matched by what the league knows.

    Args:
        config: mode, matchmaking and self-play.
        directory: of the run; snapshots go to its `league/`.
        members: opponents that are in the pool already; at least one, unless the mode is self_play.
        pool: the snapshots are added to it.
        policy: the learner, as its run begins or goes on.
        manifest: of any checkpoint of the run.
        num_rows: agents of all environments.
        device: where the opponents act.
        trainer_state: of the checkpoint that the run goes on from.

    Raises:
        MettaError: a snapshot is gone or damaged, or cannot be written.
    """
    league = League(config, members)
    saved = (trainer_state or {}).get("callbacks", {}).get(CALLBACK)
    if saved is not None:
        league.load_state_dict(saved)
    if config.mode != "self_play":
        return league, None
    store = SnapshotStore(directory.league, directory.checkpoints, manifest)
    self_play = SelfPlay(league, pool, store, num_rows, device)
    self_play.start(policy)
    return league, self_play


class LeagueCallback(Callback):
    """Keeps the league up to date, saves it in checkpoints, and writes `league.json` after every epoch.

    Args:
        league: of the run.
        self_play: takes its snapshots; None in the other modes.
        environment: where its matches are played.
        directory: of the run.
    """

    def __init__(
        self,
        league: League,
        self_play: SelfPlay | None,
        environment: OpponentEnvironment,
        directory: RunDirectory,
    ) -> None:
        self.league, self.self_play = league, self_play
        self.environment, self.directory = environment, directory

    def on_epoch_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if self.self_play is not None:
            self.self_play.begin_epoch(trainer.policy)

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """See `Callback`."""
        state = trainer.state
        if self.self_play is not None:
            playing = set(self.environment.opponents)
            self.self_play.end_epoch(trainer.policy, state.epoch, state.agent_steps, playing)
        progress = {"run": self.directory.run, "epoch": state.epoch, "agent_steps": state.agent_steps}
        report = {"format_version": REPORT_VERSION, **progress, **self.league.report()}
        write_file(self.directory.league_report, json.dumps(report, indent=1, allow_nan=False) + "\n")
        return self.league.metrics()

    def state_dict(self) -> dict[str, Any]:
        """See `Callback`."""
        return self.league.state_dict()

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """See `Callback`."""
        self.league.load_state_dict(data)
