"""What both sides got in one rollout: rewards, and the matches that ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metta_cli.populations.opponents import MatchResult


@dataclass
class Tally:
    """Counted from the start of a rollout.

    Attributes:
        learner_rewards: opponent id -> summed rewards of the learner's agents against it.
        opponent_rewards: opponent id -> summed rewards of its agents.
        matches: whole episodes that ended, in the order in which they did.
        sizes: agents of the learner and of the opponent in one environment.
    """

    sizes: tuple[int, int]
    learner_rewards: dict[str, float] = field(default_factory=dict)
    opponent_rewards: dict[str, float] = field(default_factory=dict)
    matches: list[MatchResult] = field(default_factory=list)

    @classmethod
    def of_all(cls, tallies: Sequence[Tally]) -> Tally:
        """Return what several processes counted, together; at least one."""
        total = cls(tallies[0].sizes)
        for tally in tallies:
            for opponent, learner in tally.learner_rewards.items():
                total.add_rewards(opponent, learner, tally.opponent_rewards[opponent])
            total.matches += tally.matches
        return total

    def add_rewards(self, opponent: str, learner: float, other: float) -> None:
        """Add the rewards of one step."""
        self.learner_rewards[opponent] = self.learner_rewards.get(opponent, 0.0) + learner
        self.opponent_rewards[opponent] = self.opponent_rewards.get(opponent, 0.0) + other

    def rewards(self, opponent: str | None = None) -> dict[str, float]:
        """Return the rewards of both sides, per agent and whole episode and in total.

        Args:
            opponent: count what was played against this one only; None counts everything.

        Returns:
            `policy_a_reward`, `npc_reward`, `combined_reward`: mean return per agent over the episodes
            that ended, absent if none did; the same names with `_total`: summed rewards of the rollout.
        """
        ids = self.learner_rewards if opponent is None else [opponent]
        learner = sum(self.learner_rewards.get(each, 0.0) for each in ids)
        other = sum(self.opponent_rewards.get(each, 0.0) for each in ids)
        found = {
            "policy_a_reward_total": learner,
            "npc_reward_total": other,
            "combined_reward_total": learner + other,
        }
        matches = [match for match in self.matches if opponent is None or match.opponent == opponent]
        if not matches:
            return found
        returns = np.array([[match.learner_return, match.opponent_return] for match in matches])
        means = returns.mean(axis=0)
        weights = np.array(self.sizes) / sum(self.sizes)
        found["policy_a_reward"] = float(means[0])
        found["combined_reward"] = float(means @ weights)
        if self.sizes[1]:
            found["npc_reward"] = float(means[1])
        return found
