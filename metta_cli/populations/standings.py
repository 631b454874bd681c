"""How a league stands, out of its files: needs no torch, so that it is shown quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metta_cli.config.league import LEARNER, LIVE
from metta_cli.populations.payoff import PayoffTable
from metta_cli.populations.ratings import Rating, rate_players


@dataclass(frozen=True)
class PayoffMatrix:
    """Win rates of the players of the rows against those of the columns.

    Attributes:
        rows: names.
        columns: names.
        win_rates: float64 `[rows, columns]`, NaN where two have not met.
        matches: float64 `[rows, columns]`.
        source: `training` or `evaluation`.
    """

    rows: list[str]
    columns: list[str]
    win_rates: np.ndarray
    matches: np.ndarray
    source: str


class Standings:
    """What `metta league show` shows.

    Args:
        report: content of `RUN/league.json`.
        evaluation: content of `RUN/league_evaluation.json`; None if nothing was evaluated.
    """

    COLUMNS = (
        "player",
        "kind",
        "epoch",
        "agent_steps",
        "matches",
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "learner_return",
        "opponent_return",
        "probability",
        "rating",
        "rating_low",
        "rating_high",
        "rated_by",
    )

    def __init__(self, report: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> None:
        self.report, self.evaluation = report, evaluation
        self.recent = PayoffTable.from_json(report["recent"])
        self.phases = PayoffTable.from_json(report["phases"])
        self.evaluated = PayoffTable.from_json(evaluation["matches"]) if evaluation else PayoffTable()

    @property
    def members(self) -> list[dict[str, Any]]:
        """Whom the learner may meet, the live copy aside."""
        return list(self.report["members"])

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each member, one for the live copy if it was met, and one for the learner.

        Win rate and returns are those of the learner in training, older matches decayed; a rating is in
        points ahead of the first member, by the evaluation for who took part in it, else by training.
        """
        ratings = self._ratings()
        rows = [
            self._row(member["id"], member["kind"], ratings, member)
            for member in sorted(self.members, key=lambda member: int(member["epoch"]))
        ]
        if (LEARNER, LIVE) in self.recent.records:
            rows.append(self._row(LIVE, LIVE, ratings, {}))
        phase = self.report["phase"]
        progress = {"epoch": self.report["epoch"], "agent_steps": self.report["agent_steps"]}
        rows.append(dict.fromkeys(self.COLUMNS) | {"player": phase, "kind": LEARNER} | progress)
        rows[-1] |= _rated(ratings.get(phase))
        known = {row["player"] for row in rows}
        for player in (self.evaluation or {}).get("players", []):
            if player["id"] not in known:
                rows.append(dict.fromkeys(self.COLUMNS) | {"player": player["id"], "kind": player["kind"]})
                rows[-1] |= {"epoch": player["epoch"], "agent_steps": player["agent_steps"]}
                rows[-1] |= _rated(ratings.get(player["id"]))
        return rows

    def _row(
        self,
        name: str,
        kind: str,
        ratings: Mapping[str, tuple[Rating, str]],
        member: Mapping[str, Any],
    ) -> dict[str, Any]:
        record = self.recent.between(LEARNER, name)
        low, high = record.win_rate_interval
        own, other = record.mean_returns or (None, None)
        met = sum(each.matches for (_, who), each in self.phases.records.items() if who == name)
        return {
            "player": name,
            "kind": kind,
            "epoch": member.get("epoch"),
            "agent_steps": member.get("agent_steps"),
            "matches": round(met) if member else None,
            "win_rate": record.win_rate if record.matches else None,
            "win_rate_low": low if record.matches else None,
            "win_rate_high": high if record.matches else None,
            "learner_return": own,
            "opponent_return": other,
            "probability": member.get("probability"),
            **_rated(ratings.get(name)),
        }

    def _ratings(self) -> dict[str, tuple[Rating, str]]:
        anchor = self.report["anchor"]
        trained = list(dict.fromkeys([anchor, *(member["id"] for member in self.members)]))
        trained += [name for name in self.phases.players() if name not in trained]
        found = {
            name: (rating, "training") for name, rating in rate_players(self.phases, trained, anchor).items()
        }
        players = self.evaluated.players()
        if anchor in players:
            rated = rate_players(self.evaluated, players, anchor)
            found |= {name: (rating, "evaluation") for name, rating in rated.items()}
        return found

    def matrix(self) -> PayoffMatrix:
        """Return the win rates of everybody against everybody if they were evaluated, else those of training.

        In training the rows are the learner after each of its snapshots.
        """
        if self.evaluation is not None:
            names = [str(player["id"]) for player in self.evaluation["players"]]
            points = self.evaluated.points(names)
            matches = points + points.T
            return PayoffMatrix(names, names, _shares(points, matches), matches, "evaluation")
        columns = [str(member["id"]) for member in self.members]
        rows = list(dict.fromkeys(player for player, _ in self.phases.records))
        pairs = [[self.phases.between(row, column) for column in columns] for row in rows]
        shape = (len(rows), len(columns))
        points = np.array([[pair.points for pair in row] for row in pairs]).reshape(shape)
        matches = np.array([[pair.matches for pair in row] for row in pairs]).reshape(shape)
        return PayoffMatrix(rows, columns, _shares(points, matches), matches, "training")

    def title(self) -> str:
        """Return one line about the whole league."""
        report = self.report
        chosen = f"{report['mode']}, {report['method']}"
        if report["mode"] == "curriculum":
            chosen = f"curriculum, opponent {report['curriculum_stage'] + 1} of {len(self.members)}"
        steps = f"{report['agent_steps']:,} agent steps"
        return f"{report['run']}: {chosen}, epoch {report['epoch']}, {steps}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        matrix = self.matrix()
        return {
            **{key: self.report[key] for key in ("run", "mode", "method", "epoch", "agent_steps", "anchor")},
            "curriculum_stage": self.report["curriculum_stage"],
            "players": self.rows(),
            "payoff": {
                "source": matrix.source,
                "rows": matrix.rows,
                "columns": matrix.columns,
                "win_rates": matrix.win_rates.tolist(),
                "matches": matrix.matches.tolist(),
            },
        }

    def text_rows(self) -> tuple[list[dict[str, Any]], Sequence[str]]:
        """Return rows for a person, and their columns: every number beside its interval."""
        columns = (
            "player",
            "kind",
            "epoch",
            "agent_steps",
            "matches",
            "win_rate",
            "returns",
            "chance",
            "rating",
        )
        rows = [_text_row(row) for row in self.rows()]
        for row in rows:
            if row["player"] == self.report["anchor"]:
                row["rating"] = "0 by definition"
        return rows, columns


def _rated(found: tuple[Rating, str] | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(("rating", "rating_low", "rating_high", "rated_by"))
    rating, source = found
    numbers = {"rating": rating.value, "rating_low": rating.low, "rating_high": rating.high}
    return {**numbers, "rated_by": source}


def _shares(points: np.ndarray, matches: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(points, matches, out=np.full_like(points, np.nan), where=matches > 0))


def _text_row(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("player", "kind", "epoch", "agent_steps", "matches")}
    if row["win_rate"] is not None:
        interval = f"({row['win_rate_low']:.2f} to {row['win_rate_high']:.2f})"
        shown["win_rate"] = f"{row['win_rate']:.2f} {interval}"
        shown["returns"] = f"{row['learner_return']:.3g} : {row['opponent_return']:.3g}"
    if row["probability"] is not None:
        shown["chance"] = f"{row['probability']:.2f}"
    if row["rating"] is not None:
        shown["rating"] = f"{row['rating']:+.0f} ({row['rating_low']:+.0f} to {row['rating_high']:+.0f})"
    return shown
