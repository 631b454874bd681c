"""Opponents: who may play against the learner, and who does in each episode.

An opponent acts for any of the agents of all environments and remembers each by its row, so that one
forward pass serves all of its agents. All of its chance comes with the turn.

Shape letters: `N` agents in all environments, `n` rows that one opponent acts for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError, IncompatibleError, UnknownNameError
from metta_cli.policies.contract import Policy
from metta_cli.populations.players import Player, Turn, choose_actions


class OpponentError(IncompatibleError):
    """An opponent failed while it played."""


class Opponent(Protocol):
    """Acts for some agents and does not learn.

    Attributes:
        name: what messages and results call it; a URI if it has one.
    """

    name: str

    def act(self, turn: Turn, rows: np.ndarray) -> np.ndarray:
        """Return flat actions, int64 `[n]`.

        Args:
            turn: what the `n` agents see; where `episode_starts`, the memory of the row is forgotten.
            rows: int64 `[n]`, distinct, in `[0, N)`: which agents these are. A row that is left out keeps
                its memory.
        """
        ...


@dataclass(frozen=True)
class OpponentSource:
    """Makes an opponent for an environment.

    Attributes:
        name: what results call it; a URI.
        create: takes the interface of the environment and its number of rows `N`, returns a new opponent.
        reads_scripted_actions: whether its turns need `scripted_actions`.
        description: what it is known by again.
    """

    name: str
    create: Callable[[EnvironmentInterface, int], Opponent]
    reads_scripted_actions: bool = False
    description: Mapping[str, Any] = field(default_factory=dict)


class PolicyOpponent:
    """Samples from a policy, with a recurrent state for each of the `N` rows.

    The policy is copied: weights that the learner goes on changing are not those of its opponent. Its
    gradients are off, and torch's random generators are not touched.

    Args:
        name: what messages call it.
        policy: follows `metta_cli.policies.contract.Policy`; already fits the environment.
        num_rows: `N`.
        device: where the policy lives.
        shares_weights: use the module itself, as it changes; for play against the live learner.
    """

    def __init__(
        self,
        name: str,
        policy: nn.Module,
        num_rows: int,
        device: torch.device | str = "cpu",
        *,
        shares_weights: bool = False,
    ) -> None:
        self.name, self.device = name, torch.device(device)
        self.policy = policy if shares_weights else copy.deepcopy(policy).eval().requires_grad_(False)
        self.state = cast(Policy, self.policy).initial_state(num_rows, self.device)

    @torch.no_grad()
    def act(self, turn: Turn, rows: np.ndarray) -> np.ndarray:
        """See `Opponent`.

        Raises:
            IncompatibleError: if the policy gives no probabilities, as with weights that are not numbers.
        """
        index = torch.from_numpy(rows).to(self.device)
        state = {name: part[:, index] for name, part in self.state.items()}
        with _own_random(self.device):
            actions = choose_actions(self.policy, state, turn, self.device, self.name)
        for name, part in state.items():
            self.state[name][:, index] = part
        return actions


class PlayerOpponent:
    """A player without memory, such as the built-in ones, as an opponent.

    Args:
        name: what messages call it.
        player: keeps nothing between turns.
    """

    def __init__(self, name: str, player: Player) -> None:
        self.name, self.player = name, player

    def act(self, turn: Turn, rows: np.ndarray) -> np.ndarray:
        """See `Opponent`."""
        return self.player.act(turn)


class OpponentPool:
    """The opponents of a run, by id."""

    def __init__(self, opponents: Mapping[str, Opponent] | None = None) -> None:
        self._opponents: dict[str, Opponent] = dict(opponents or {})

    def add(self, opponent_id: str, opponent: Opponent) -> None:
        """Let an opponent take part.

        Raises:
            ValueError: if the id is taken.
        """
        if opponent_id in self._opponents:
            raise ValueError(f"there is an opponent '{opponent_id}' already")
        self._opponents[opponent_id] = opponent

    def remove(self, opponent_id: str) -> None:
        """Let an opponent go; episodes that it is playing must have ended."""
        del self._opponents[opponent_id]

    def ids(self) -> list[str]:
        """Return the ids in the order in which they were added."""
        return list(self._opponents)

    def __getitem__(self, opponent_id: str) -> Opponent:
        """Return an opponent.

        Raises:
            UnknownNameError: if there is none of that id.
        """
        if opponent_id not in self._opponents:
            raise UnknownNameError("opponent", opponent_id, self._opponents)
        return self._opponents[opponent_id]

    def __contains__(self, opponent_id: object) -> bool:
        """Whether there is an opponent of that id."""
        return opponent_id in self._opponents

    def __len__(self) -> int:
        """Return how many opponents there are."""
        return len(self._opponents)


@dataclass(frozen=True)
class MatchResult:
    """How an episode ended for both sides.

    Attributes:
        opponent: id of the opponent.
        learner_return: mean return of the agents that learn.
        opponent_return: mean return of the agents of the opponent.
    """

    opponent: str
    learner_return: float
    opponent_return: float

    @property
    def outcome(self) -> float:
        """For the learner: 1.0 won, 0.5 drawn, 0.0 lost."""
        return 0.5 + 0.5 * float(np.sign(self.learner_return - self.opponent_return))


class Matchmaker(Protocol):
    """Chooses the opponent of every episode."""

    def choose(self, generator: np.random.Generator) -> str:
        """Return the id of the opponent of an episode that begins.

        Args:
            generator: of this episode alone; the only source of chance.
        """
        ...

    def record(self, result: MatchResult) -> None:
        """Take note of an episode that ended.

        Called after the acting of an epoch, in the order in which the episodes ended. Episodes that were
        cut short and those of a rollout that was given up are left out.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: nested dicts and lists of plain values and tensors."""
        ...

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        ...


class FixedMatchmaker:
    """Draws the opponent by fixed weights; with one opponent it is always that one.

    Args:
        weights: id -> weight, not negative; they need not sum to 1.

    Raises:
        ConfigError: if the weights make no probabilities.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        values = np.array(list(weights.values()), dtype=np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise ConfigError(
                f"the weights of the opponents are {dict(weights)}",
                "give each a number that is not negative, and one at least a positive one",
            )
        self.ids = list(weights)
        self.probabilities = values / values.sum()

    def choose(self, generator: np.random.Generator) -> str:
        """See `Matchmaker`."""
        return self.ids[int(generator.choice(len(self.ids), p=self.probabilities))]

    def record(self, result: MatchResult) -> None:
        """Results change no weight."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes, so nothing is saved."""
        return {}

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """See `state_dict`."""


@contextmanager
def _own_random(device: torch.device) -> Iterator[None]:
    """Put torch's random generators back afterwards: how an opponent acts changes no draw of the learner."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
