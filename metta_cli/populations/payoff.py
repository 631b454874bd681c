"""The payoff table: what came of the matches between two players, as plain numbers.

Nothing here needs torch, so that a league can be shown quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from metta_cli.algorithms.ratings import win_rate, win_rate_interval


@dataclass
class Record:
    """The matches of one player against another. With decay the numbers are not whole.

    Attributes:
        wins: of the first player.
        draws: matches in which both sides had the same return.
        losses: of the first player.
        own_return: sum over matches of the mean return of the first player's agents.
        other_return: the same of the second player's.
    """

    wins: float = 0.0
    draws: float = 0.0
    losses: float = 0.0
    own_return: float = 0.0
    other_return: float = 0.0

    @property
    def matches(self) -> float:
        """How many there were."""
        return self.wins + self.draws + self.losses

    @property
    def points(self) -> float:
        """Wins, and half the draws."""
        return self.wins + 0.5 * self.draws

    @property
    def win_rate(self) -> float:
        """See `metta_cli.algorithms.ratings.win_rate`."""
        return win_rate(self.wins, self.draws, self.losses)

    @property
    def win_rate_interval(self) -> tuple[float, float]:
        """See `metta_cli.algorithms.ratings.win_rate_interval`."""
        return win_rate_interval(self.wins, self.draws, self.losses)

    @property
    def mean_returns(self) -> tuple[float, float] | None:
        """Mean return per agent of both sides; None without matches."""
        if not self.matches:
            return None
        return self.own_return / self.matches, self.other_return / self.matches

    def add(self, own_return: float, other_return: float, decay: float = 1.0) -> None:
        """Count a match; everything before it first shrinks by `decay`."""
        for name, value in asdict(self).items():
            setattr(self, name, value * decay)
        self.own_return += own_return
        self.other_return += other_return
        if own_return == other_return:
            self.draws += 1
        elif own_return > other_return:
            self.wins += 1
        else:
            self.losses += 1


class PayoffTable:
    """The records of pairs of players.

    Args:
        decay: factor on a record with every new match of the pair; 1 never forgets.
    """

    def __init__(self, decay: float = 1.0) -> None:
        self.decay = decay
        self.records: dict[tuple[str, str], Record] = {}

    def add(self, player: str, other: str, own_return: float, other_return: float) -> None:
        """Count a match by the mean returns per agent of both sides."""
        record = self.records.setdefault((player, other), Record())
        record.add(own_return, other_return, self.decay)

    def between(self, player: str, other: str) -> Record:
        """Return the record of a pair, empty if it has not met; changing it changes no table."""
        return Record(**asdict(self.records.get((player, other), Record())))

    def win_rates(self, player: str, others: Sequence[str]) -> np.ndarray:
        """Return the win rates of a player, float64 `[P]`; 0.5 against whom it has not met."""
        return np.array([self.between(player, other).win_rate for other in others], dtype=np.float64)

    def players(self) -> list[str]:
        """Return everybody who has played, in the order of their first match."""
        return list(dict.fromkeys(name for pair in self.records for name in pair))

    def points(self, players: Sequence[str]) -> np.ndarray:
        """Return the points of each player against each, float64 `[P, P]`; a record counts for both sides."""
        index = {name: position for position, name in enumerate(players)}
        points = np.zeros((len(players), len(players)))
        for (player, other), record in self.records.items():
            if player in index and other in index:
                points[index[player], index[other]] += record.points
                points[index[other], index[player]] += record.matches - record.points
        return points

    def forget(self, player: str) -> None:
        """Drop every record that a player is part of."""
        self.records = {pair: record for pair, record in self.records.items() if player not in pair}

    def to_json(self) -> list[dict[str, Any]]:
        """Return one object for each pair."""
        return [
            {"player": player, "other": other, **asdict(record)}
            for (player, other), record in self.records.items()
        ]

    @classmethod
    def from_json(cls, data: Iterable[dict[str, Any]], decay: float = 1.0) -> PayoffTable:
        """Return the table that `to_json` described."""
        table = cls(decay)
        for entry in data:
            numbers = {name: float(entry[name]) for name in asdict(Record())}
            table.records[str(entry["player"]), str(entry["other"])] = Record(**numbers)
        return table
