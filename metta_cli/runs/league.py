"""The league of a training run: built from the configuration, kept up to date, written beside the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metta_cli.artifacts.atomic import write_file
from metta_cli.artifacts.checkpoints import Architecture, Checkpoint, CheckpointManifest
from metta_cli.config.dual_policy import DualPolicyConfig
from metta_cli.config.schema import MettaConfig
from metta_cli.populations.environment import OpponentEnvironment
from metta_cli.populations.league import League
from metta_cli.populations.matchmaking import Member
from metta_cli.populations.self_play import SelfPlay, SnapshotStore
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.league_files import FORMAT_VERSION
from metta_cli.runs.provenance import versions
from metta_cli.training.callbacks import Callback
from metta_cli.training.distributed import World
from metta_cli.training.trainer import Metrics, Trainer

CALLBACK = "league"
"""Name of the callback, and of its state in a checkpoint."""


def create_league(
    config: DualPolicyConfig,
    uris: Mapping[str, str],
    weights: Mapping[str, float],
    checkpoint: Checkpoint | None,
) -> League:
    """Return the league of a run, as it begins or goes on.

    Trap: the first episodes are matched when the environment is reset, so the state of a league that goes
    on is read here and not when the trainer gets its own.

    Args:
        config: mode, matchmaking and self-play.
        uris: opponent id -> its URI, in the order of the configuration.
        weights: opponent id -> how often it is met, by the method weights.
        checkpoint: that the run goes on from; None for a run that begins.
    """
    members = [Member(name, "opponent", uri, weight=weights[name]) for name, uri in uris.items()]
    league = League(config, members)
    state = (checkpoint.trainer_state if checkpoint is not None else None) or {}
    saved = state.get("callbacks", {}).get(CALLBACK)
    if saved is not None:
        league.load_state_dict(saved)
    return league


class LeagueCallback(Callback):
    """Keeps the league up to date, saves it in checkpoints, and writes `league.json` after every epoch.

    Args:
        league: of the run; the matchmaker of `environment`.
        environment: where its matches are played, not yet reset.
        config: of the run.
        directory: of the run.
        device: where opponents act.
        checkpoint: that the run goes on from; None for a run that begins.
    """

    def __init__(
        self,
        league: League,
        environment: OpponentEnvironment,
        config: MettaConfig,
        directory: RunDirectory,
        device: torch.device,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.league, self.environment, self.directory = league, environment, directory
        self.self_play: SelfPlay | None = None
        if league.config.mode != "self_play":
            return
        start = checkpoint.manifest if checkpoint is not None else None
        manifest = CheckpointManifest(
            run=directory.run,
            epoch=start.epoch if start is not None else 0,
            agent_steps=start.agent_steps if start is not None else 0,
            architecture=Architecture(name=config.policy.name, args=config.policy.args),
            passport=environment.interface,
            environment=config.env,
            config=config.model_dump(mode="json"),
            versions=versions(),
        )
        store = SnapshotStore(
            directory.league, directory.checkpoints, manifest, writes=World.current().is_first
        )
        num_rows = environment.environment.num_agents
        self.self_play = SelfPlay(league, environment.pool, store, num_rows, device)

    def on_epoch_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if self.self_play is not None:
            self.self_play.begin_epoch(trainer.policy)

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """See `Callback`."""
        state = trainer.state
        if self.self_play is not None:
            playing = set().union(*trainer.world.gather(self.environment.opponents))
            self.self_play.end_epoch(trainer.policy, state.epoch, state.agent_steps, playing)
        if not trainer.world.is_first:
            return self.league.metrics()
        progress = {"run": self.directory.run, "epoch": state.epoch, "agent_steps": state.agent_steps}
        report = {"format_version": FORMAT_VERSION, **progress, **self.league.report()}
        write_file(self.directory.league_report, json.dumps(report, indent=1, allow_nan=False) + "\n")
        return self.league.metrics()

    def state_dict(self) -> dict[str, Any]:
        """See `Callback`."""
        return self.league.state_dict()

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Nothing is left to do: `create_league` has read it, and the first episodes are matched by it."""


def begin_league(callbacks: Mapping[str, Callback], policy: nn.Module) -> None:
    """Let copies of the learner take part in the league of a run, if it has one in the mode self_play.

    Call it when the policy has its weights, and before the trainer resets the environment.

    Raises:
        MettaError: a snapshot is gone or damaged, or cannot be written.
    """
    league = callbacks.get(CALLBACK)
    if isinstance(league, LeagueCallback) and league.self_play is not None:
        league.self_play.start(policy)
