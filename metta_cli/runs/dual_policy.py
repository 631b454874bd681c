"""Training against opponents: load them, put them into the environment, and report on both sides."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metta_cli.artifacts.checkpoints import Checkpoint
from metta_cli.config.dual_policy import DualPolicyConfig
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.schema import MettaConfig
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.populations.assignment import create_assignment, teams_of
from metta_cli.populations.environment import OpponentEnvironment
from metta_cli.populations.opponents import (
    Matchmaker,
    MatchResult,
    OpponentPool,
    OpponentSource,
)
from metta_cli.populations.tally import Tally
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.league import CALLBACK as LEAGUE
from metta_cli.runs.league import LeagueCallback, create_league
from metta_cli.runs.opponents import load_opponent, script_opponent
from metta_cli.runs.policies import NO_TRUST, Trust
from metta_cli.training.callbacks import Callback
from metta_cli.training.environment import TrainingEnvironment
from metta_cli.training.rollout import RolloutStatistics
from metta_cli.training.trainer import Metrics, Trainer

PREFIX = "dual_policy/"
RECENT_MATCHES = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opponents:
    """The loaded opponents of a run.

    Attributes:
        config: which agents they play.
        sources: id -> opponent, in the order of the configuration.
        weights: id -> how often it is met.
    """

    config: DualPolicyConfig
    sources: dict[str, OpponentSource]
    weights: dict[str, float]

    @property
    def read_scripted_actions(self) -> bool:
        """Whether the environment has to be opened with its scripted baseline."""
        return any(source.reads_scripted_actions for source in self.sources.values())

    def check(self, spec: EnvironmentSpec) -> None:
        """Try whether everything fits an environment.

        Raises:
            ConfigError: if the share of the learner does not.
            CheckpointError: if an opponent cannot act there; says how the two differ.
        """
        learners_per_environment(self.config, spec)
        interface = interface_of(build(spec))
        for source in self.sources.values():
            source.create(interface, 1)

    def create_pool(self, environment: VectorEnvironment) -> OpponentPool:
        """Return new opponents for an environment."""
        return OpponentPool(
            {
                name: source.create(environment.interface, environment.num_agents)
                for name, source in self.sources.items()
            }
        )

    def enter(
        self, environment: VectorEnvironment, pool: OpponentPool, matchmaker: Matchmaker, seed: int
    ) -> OpponentEnvironment:
        """Return the environment with opponents in it.

        Args:
            environment: not yet reset.
            pool: the opponents.
            matchmaker: chooses from the pool.
            seed: of assignments and of the opponents' actions.
        """
        entered = OpponentEnvironment(
            environment,
            pool,
            matchmaker,
            learner_share=self.config.policy_a_percentage,
            assignment=self.config.assignment,
            seed=seed,
        )
        learners, others = entered.sizes
        shown = {
            "enabled": True,
            "policy_a_percentage": self.config.policy_a_percentage,
            "assignment": self.config.assignment,
            "policy_a_agents": learners * environment.num_environments,
            "npc_agents": others * environment.num_environments,
            "npc": {name: self.weights.get(name, 1.0) for name in pool.ids()},
        }
        logger.info("Dual-policy system initialized: %s", json.dumps(shown))
        return entered


def add_opponents(
    opponents: Opponents | None,
    environment: VectorEnvironment,
    seed: int,
    *,
    config: MettaConfig,
    directory: RunDirectory,
    device: torch.device,
    checkpoint: Checkpoint | None,
) -> tuple[TrainingEnvironment, dict[str, Callback]]:
    """Return what the trainer trains in, and the callbacks that go with it.

    Args:
        opponents: None is training alone.
        environment: not yet reset.
        seed: of everything random about opponents.
        config: of the run.
        directory: of the run.
        device: where opponents act.
        checkpoint: that the run goes on from; None for a run that begins.
    """
    if opponents is None:
        return environment, {}
    uris = {name: source.name for name, source in opponents.sources.items()}
    league = create_league(opponents.config, uris, opponents.weights, checkpoint)
    entered = opponents.enter(environment, opponents.create_pool(environment), league, seed)
    keeper = LeagueCallback(league, entered, config, directory, device, checkpoint)
    return entered, {"dual_policy": DualPolicyMetrics(entered), LEAGUE: keeper}


def load_opponents(config: MettaConfig, device: torch.device, trust: Trust = NO_TRUST) -> Opponents | None:
    """Return the opponents that a configuration asks for; None if it asks for none.

    Args:
        config: its section `trainer.dual_policy`.
        device: where policies compute.
        trust: what the user vouches for in files of other tools.

    Raises:
        MettaError: if one of them cannot be loaded.
    """
    dual = config.trainer.dual_policy
    if not dual.enabled:
        return None
    if dual.mode == "single" and dual.npc_uri is None:
        options = dual.scripted_npc.model_dump(exclude={"type"})
        source = script_opponent(dual.scripted_npc.type, **options)
        return Opponents(dual, {source.name: source}, {source.name: 1.0})
    npc = dual.checkpoint_npc
    architecture = npc.pytorch if npc is not None else {}
    listed = [(each.id, each.uri, each.weight) for each in dual.opponents]
    if not listed and dual.npc_uri is not None and dual.mode == "single":
        listed = [(dual.npc_uri, dual.npc_uri, 1.0)]
    sources = {
        name: load_opponent(
            uri, device, data_dir=Path(config.data_dir), architecture=architecture, trust=trust
        )
        for name, uri, _ in listed
    }
    return Opponents(dual, sources, {name: weight for name, _, weight in listed})


def warn_of_lost_opponents(before: Mapping[str, Any], config: MettaConfig) -> None:
    """Say so if a run that trained against opponents goes on without any.

    Args:
        before: configuration in the checkpoint that the run goes on from.
        config: of the session that begins.
    """
    had_opponents = before.get("trainer", {}).get("dual_policy", {}).get("enabled", False)
    if had_opponents and not config.trainer.dual_policy.enabled:
        logger.warning(
            "this run trained against opponents until now, and goes on without: repeat the settings of "
            "trainer.dual_policy, or the command in command.txt of the run, to keep them"
        )


def learners_per_environment(config: DualPolicyConfig, spec: EnvironmentSpec) -> int:
    """Return how many agents of an environment learn; all where there is no opponent.

    Raises:
        ConfigError: if the share leaves one side without agents.
    """
    teams = teams_of(spec)
    if not config.enabled:
        return len(teams)
    return create_assignment(config.assignment, config.policy_a_percentage, teams).num_learners


class DualPolicyMetrics(Callback):
    """Tells the matchmaker how matches ended, and measures both sides.

    Everything is counted in this process, where all environments come together: the number of workers
    changes no metric.

    Args:
        environment: reset by the trainer.
    """

    def __init__(self, environment: OpponentEnvironment) -> None:
        self.environment = environment
        self.recent: dict[str, deque[float]] = {}
        self.episodes: dict[str, int] = {}

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Count from zero again."""
        self.environment.start_tally()

    def on_rollout_end(self, trainer: Trainer, rollout: RolloutStatistics) -> Metrics:
        """Return the metrics of both sides, over all opponents and for each."""
        learners, others = self.environment.sizes
        tally = Tally.of_all(trainer.world.gather(self.environment.tally))
        num_environments = self.environment.environment.num_environments * trainer.world.size
        metrics = {PREFIX + name: value for name, value in tally.rewards().items()}
        metrics[PREFIX + "policy_a_agent_count"] = float(learners * num_environments)
        metrics[PREFIX + "npc_agent_count"] = float(others * num_environments)
        if not others:
            return metrics
        for match in tally.matches:
            self._record(match)
        self._forget_the_gone()
        for opponent in tally.learner_rewards:
            prefix = f"{PREFIX}npc/{opponent}/"
            metrics |= {prefix + name: value for name, value in tally.rewards(opponent).items()}
        for opponent, outcomes in self.recent.items():
            prefix = f"{PREFIX}npc/{opponent}/"
            metrics[prefix + "win_rate"] = float(np.mean(outcomes))
            metrics[prefix + "episodes"] = float(self.episodes[opponent])
        return metrics

    def _record(self, match: MatchResult) -> None:
        self.environment.matchmaker.record(match)
        outcomes = self.recent.setdefault(match.opponent, deque(maxlen=RECENT_MATCHES))
        outcomes.append(match.outcome)
        self.episodes[match.opponent] = self.episodes.get(match.opponent, 0) + 1

    def _forget_the_gone(self) -> None:
        """Drop the counts of opponents that have left the pool, such as old snapshots of the learner."""
        pool = self.environment.pool
        self.recent = {name: outcomes for name, outcomes in self.recent.items() if name in pool}
        self.episodes = {name: count for name, count in self.episodes.items() if name in pool}

    def state_dict(self) -> dict[str, Any]:
        """Return what was counted over epochs."""
        return {
            "recent": {opponent: list(outcomes) for opponent, outcomes in self.recent.items()},
            "episodes": dict(self.episodes),
        }

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.recent = {
            opponent: deque(outcomes, maxlen=RECENT_MATCHES) for opponent, outcomes in data["recent"].items()
        }
        self.episodes = dict(data["episodes"])
