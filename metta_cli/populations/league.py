"""The league: whom the learner may meet, what came of it, and whom it meets next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from metta_cli.algorithms.matchmaking import quality_after_win
from metta_cli.config.league import LEARNER, LIVE, LeagueConfig
from metta_cli.populations.matchmaking import Member, match_probabilities
from metta_cli.populations.opponents import MatchResult
from metta_cli.populations.payoff import PayoffTable
from metta_cli.populations.ratings import Rating, rate_players

SNAPSHOT = "snapshot"


class League:
    """Keeps the record of every opponent and chooses by it; a `Matchmaker`.

    Two tables: `recent`, with decay, is what matchmaking looks at. `phases` never forgets, and tells the
    learner after one snapshot from the learner after the next: those are rated as different players.
    Matches against the live copy of the learner are counted in `recent` only: it is another player in
    every epoch.

    Args:
        config: mode and matchmaking.
        opponents: those that the configuration names, in its order.

    Attributes:
        members: whom the learner may meet, first those that the configuration names, then snapshots.
        recent: the learner's matches, with decay.
        phases: the matches by phase of the learner, without decay.
        outcomes: of the last matches that the gate, or the curriculum, looks at; 1 won, 0.5 drawn, 0 lost.
        stage: in the mode curriculum, which of the members is being met.
        retired: snapshot that made room -> epoch at which it did; its weights may still be needed.
        snapshot_agent_steps: agent steps of the learner at its last snapshot.
    """

    def __init__(self, config: LeagueConfig, opponents: Sequence[Member]) -> None:
        self.config = config
        self.members: list[Member] = list(opponents)
        self.recent = PayoffTable(config.matchmaking.decay)
        self.phases = PayoffTable()
        is_curriculum = config.mode == "curriculum"
        matches = config.curriculum.matches if is_curriculum else config.self_play.gate_matches
        self.outcomes: deque[float] = deque(maxlen=matches)
        self.stage = 0
        self.retired: dict[str, int] = {}
        self.snapshot_agent_steps = 0
        self._probabilities: np.ndarray | None = None

    @property
    def ids(self) -> list[str]:
        """The ids of the members."""
        return [member.id for member in self.members]

    @property
    def snapshots(self) -> list[Member]:
        """The members that are copies of the learner, oldest first."""
        return [member for member in self.members if member.kind == SNAPSHOT]

    @property
    def phase(self) -> str:
        """What ratings call the learner as it is now: `learner@v40` once snapshot `v40` is taken."""
        snapshots = self.snapshots
        return f"{LEARNER}@{snapshots[-1].id}" if snapshots else LEARNER

    def choose(self, generator: np.random.Generator) -> str:
        """See `Matchmaker`."""
        if self.config.mode == "curriculum":
            return self.members[self.stage].id
        if self.config.mode == "self_play" and generator.random() < self.config.self_play.live_share:
            return LIVE
        index = generator.choice(len(self.members), p=self.probabilities())
        return self.members[int(index)].id

    def probabilities(self) -> np.ndarray:
        """Return how likely each member is to be met next, the live copy left aside; float64 `[P]`."""
        if self._probabilities is None:
            if self.config.mode == "curriculum":
                self._probabilities = np.eye(len(self.members))[self.stage]
            else:
                self._probabilities = match_probabilities(
                    self.config.method,
                    self.config.matchmaking,
                    self.members,
                    self.recent.win_rates(LEARNER, self.ids),
                )
        return self._probabilities

    def record(self, result: MatchResult) -> None:
        """See `Matchmaker`. A snapshot that has made room meanwhile is not counted any more."""
        returns = result.learner_return, result.opponent_return
        if result.opponent not in self.ids:
            if result.opponent == LIVE:
                self.recent.add(LEARNER, LIVE, *returns)
            return
        self.recent.add(LEARNER, result.opponent, *returns)
        self.phases.add(self.phase, result.opponent, *returns)
        if result.outcome == 1.0 and self.config.method == "quality":
            qualities = np.array([member.quality for member in self.members])
            beaten = self.ids.index(result.opponent)
            rate = self.config.matchmaking.quality_learning_rate
            self.members[beaten].quality = quality_after_win(qualities, beaten, rate)
        if self.config.mode != "curriculum" or result.opponent == self.members[self.stage].id:
            self.outcomes.append(result.outcome)
        self._advance()
        self._probabilities = None

    def _advance(self) -> None:
        """Take on the next opponent of a curriculum once this one is beaten often enough."""
        if self.config.mode != "curriculum" or self.stage + 1 == len(self.members):
            return
        if self.has_won(self.config.curriculum.win_rate):
            self.stage += 1
            self.outcomes.clear()

    def has_won(self, win_rate: float) -> bool:
        """Whether there were enough matches and this share of them was won."""
        return len(self.outcomes) == self.outcomes.maxlen and float(np.mean(self.outcomes)) >= win_rate

    def add_snapshot(self, snapshot: Member) -> None:
        """Let a copy of the learner take part; it begins with the highest quality of all."""
        snapshot.quality = max((member.quality for member in self.members), default=0.0)
        self.members.append(snapshot)
        self.snapshot_agent_steps = snapshot.agent_steps
        self.outcomes.clear()
        self._probabilities = None

    def retire(self, snapshot: Member, epoch: int) -> None:
        """Let a copy of the learner make room, and forget its matches."""
        self.members.remove(snapshot)
        self.retired[snapshot.id] = epoch
        self.recent.forget(snapshot.id)
        self.phases.forget(snapshot.id)
        self.phases.forget(f"{LEARNER}@{snapshot.id}")
        self._probabilities = None

    def ratings(self) -> dict[str, Rating]:
        """Rate the members and the learner of every phase; the first member has 0 points."""
        players = dict.fromkeys([*self.ids, self.phase, *self.phases.players()])
        return rate_players(self.phases, list(players), self.members[0].id)

    def metrics(self) -> dict[str, float]:
        """Return what is logged of the league."""
        rating = self.ratings()[self.phase]
        found = {
            "league/pool_size": float(len(self.members)),
            "league/win_rate": float(self.recent.win_rates(LEARNER, self.ids).mean()),
            "league/matches": sum(record.matches for record in self.phases.records.values()),
            "league/rating": rating.value,
            "league/rating_low": rating.low,
            "league/rating_high": rating.high,
        }
        if self.config.mode == "curriculum":
            found["league/curriculum_stage"] = float(self.stage)
        if self.snapshots:
            newest = self.snapshots[-1]
            found["league/newest_snapshot_epoch"] = float(newest.epoch)
            found["league/newest_snapshot_win_rate"] = self.recent.between(LEARNER, newest.id).win_rate
        return found

    def report(self) -> dict[str, Any]:
        """Return everything that a person may want to know, as JSON data."""
        probabilities = self.probabilities().tolist()
        return {
            "mode": self.config.mode,
            "method": self.config.method,
            "phase": self.phase,
            "curriculum_stage": self.stage if self.config.mode == "curriculum" else None,
            "anchor": self.members[0].id,
            "members": [
                {**asdict(member), "probability": probability}
                for member, probability in zip(self.members, probabilities, strict=True)
            ],
            "recent": self.recent.to_json(),
            "phases": self.phases.to_json(),
            "ratings": {name: asdict(rating) for name, rating in self.ratings().items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as JSON data."""
        return {
            "members": [asdict(member) for member in self.members],
            "recent": self.recent.to_json(),
            "phases": self.phases.to_json(),
            "outcomes": list(self.outcomes),
            "stage": self.stage,
            "retired": dict(self.retired),
            "snapshot_agent_steps": self.snapshot_agent_steps,
        }

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`, with the opponents that the configuration names now.

        One that it did not name before begins without matches; of one that it no longer names, only the
        record remains. Snapshots stay while the mode is self_play.
        """
        saved = [Member(**entry) for entry in data["members"]]
        named = [member for member in self.members if member.kind != SNAPSHOT]
        for member in named:
            for old in saved:
                if old.id == member.id:
                    member.quality, member.epoch, member.agent_steps = old.quality, old.epoch, old.agent_steps
        keeps_snapshots = self.config.mode == "self_play"
        self.members = named + [old for old in saved if old.kind == SNAPSHOT and keeps_snapshots]
        self.recent = PayoffTable.from_json(data["recent"], self.config.matchmaking.decay)
        self.phases = PayoffTable.from_json(data["phases"])
        self.outcomes.clear()
        self.outcomes.extend(data["outcomes"])
        self.stage = min(int(data["stage"]), max(0, len(self.members) - 1))
        self.retired = {str(name): int(epoch) for name, epoch in data["retired"].items()}
        self.snapshot_agent_steps = int(data["snapshot_agent_steps"])
        self._probabilities = None
