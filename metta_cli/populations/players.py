"""Who plays an episode: the built-in players, and any policy.

A player sees only its own rows of a `Turn`, keeps its own memory of them, and returns one flat action
for each. All chance comes with the turn as one number per row, a pure function of seed, episode, agent
and step, so that neither the number of workers nor the other rows can change a player's choice.

Shape letters: `n` rows that the player acts for, `K` observation tokens, `A` actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import IncompatibleError, UnknownNameError
from metta_cli.policies.contract import Policy, RecurrentState
from metta_cli.populations.scripts import SCRIPTS, create_script

MOCK_SCHEME = "mock://"


@dataclass(frozen=True)
class Turn:
    """What the players see at one step of the environments.

    Attributes:
        observations: uint8 `[n, K, 3]`, cut to the longest one.
        episode_starts: bool `[n]`, True where the observation is the first of an episode.
        noise: float64 `[n]`, uniform in [0, 1), the only source of chance of a player.
        scripted_actions: int `[n]`, what the scripted baseline of the environment would do; None
            unless the environment was opened with it.
    """

    observations: np.ndarray
    episode_starts: np.ndarray
    noise: np.ndarray
    scripted_actions: np.ndarray | None = None


class Player(Protocol):
    """Chooses the actions of some agents."""

    def act(self, turn: Turn) -> np.ndarray:
        """Return flat actions, int64 `[n]`."""
        ...


class RandomPlayer:
    """Draws uniformly from all flat actions, vibes included: what a policy with equal logits does.

    Args:
        interface: of the environment that is played.
    """

    def __init__(self, interface: EnvironmentInterface) -> None:
        self.num_actions = interface.num_actions

    def act(self, turn: Turn) -> np.ndarray:
        """Return one action in `[0, A)` per row."""
        return (turn.noise * self.num_actions).astype(np.int64)


class NoopPlayer:
    """Does nothing.

    Args:
        interface: of the environment that is played; it must have the action `noop`.
    """

    def __init__(self, interface: EnvironmentInterface) -> None:
        self.noop = interface.action_names.index("noop")

    def act(self, turn: Turn) -> np.ndarray:
        """Return `noop` for every row."""
        return np.full(len(turn.observations), self.noop, dtype=np.int64)


class ScriptedPlayer:
    """Does what the scripted baseline of the environment proposes; the baseline may look at the true map."""

    def act(self, turn: Turn) -> np.ndarray:
        """Return the proposed actions.

        Raises:
            ValueError: if the environment was opened without its scripted baseline.
        """
        if turn.scripted_actions is None:
            raise ValueError("the environment proposes no scripted actions")
        return turn.scripted_actions.astype(np.int64)


class PolicyPlayer:
    """Samples from a policy, with a recurrent state that is the player's own.

    The policy draws actions too, from torch's generator; those are not used, the turn's noise is.
    Where the logits of one row depend on the other rows of the batch, as the last bits of a matrix
    product may, so does the choice.

    Args:
        policy: follows `metta_cli.policies.contract.Policy`; already fits the environment.
        num_agents: `n`.
        device: where the policy lives.
        name: what messages call it.
    """

    def __init__(
        self, policy: nn.Module, num_agents: int, device: torch.device | str = "cpu", name: str = "policy"
    ) -> None:
        self.policy, self.device, self.name = policy, torch.device(device), name
        self.state = cast(Policy, policy).initial_state(num_agents, self.device)

    def act(self, turn: Turn) -> np.ndarray:
        """Return one sampled action per row.

        Raises:
            IncompatibleError: if the policy gives no probabilities, as with weights that are not numbers.
        """
        return choose_actions(self.policy, self.state, turn, self.device, self.name)


@torch.no_grad()
def choose_actions(
    policy: nn.Module, state: RecurrentState, turn: Turn, device: torch.device, name: str
) -> np.ndarray:
    """Return one action per row, sampled from a policy by the noise of the turn.

    Args:
        policy: follows `metta_cli.policies.contract.Policy`.
        state: of the rows; updated in place.
        turn: what the rows see.
        device: where the policy lives.
        name: what messages call it.

    Returns:
        int64 `[n]`.

    Raises:
        IncompatibleError: if the policy gives no probabilities, as with weights that are not numbers.
    """
    td = TensorDict(
        {
            "env_obs": torch.from_numpy(turn.observations).to(device),
            "dones": torch.from_numpy(turn.episode_starts).to(device),
        },
        batch_size=[len(turn.observations)],
    )
    log_probs = policy(td, state=state)["full_log_probs"]
    probabilities = np.exp(log_probs.double().cpu().numpy())
    if not np.allclose(probabilities.sum(axis=1), 1.0, atol=0.05):
        raise IncompatibleError(
            f"{name} gives action probabilities that do not sum to 1",
            "its weights may hold NaN, or `full_log_probs` are not log-probabilities",
        )
    return sample_actions(probabilities, turn.noise)


def sample_actions(probabilities: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the action at quantile `noise` of every row; one of probability 0 is never chosen.

    Args:
        probabilities: float64 `[n, A]`, not negative, not all 0; they need not sum to exactly 1.
        noise: float64 `[n]`, a multiple of 2**-52 in [0, 1).

    Returns:
        int64 `[n]`.
    """
    cumulative = probabilities.cumsum(axis=1)
    return np.asarray((cumulative <= (noise * cumulative[:, -1])[:, None]).sum(axis=1))


def uniform_noise(seed: int, episodes: np.ndarray, agents: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return one uniform number for each (episode, agent, step); the same arguments, the same number.

    Source: SplitMix64, Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators",
        https://doi.org/10.1145/2660193.2660195; every (episode, agent) has its own stream.

    Args:
        seed: of the evaluation, not negative.
        episodes: int `[n]`, number of the episode.
        agents: int `[n]`, index of the agent within its environment.
        steps: int `[n]`, steps since the start of the episode.

    Returns:
        float64 `[n]` in [0, 1), multiples of 2**-52.
    """
    bits = np.full(len(episodes), seed, dtype=np.uint64)
    for part in (episodes, agents, steps):
        bits = _splitmix64(bits + _GOLDEN * (part.astype(np.uint64) + np.uint64(1)))
    return np.asarray((bits >> np.uint64(12)) * 2.0**-52)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _splitmix64(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed


@dataclass(frozen=True)
class PlayerSource:
    """Makes the player of each simulation.

    Attributes:
        name: what results call it; a URI.
        create: takes the interface of the environment and the number of rows, returns a new player.
        reads_scripted_actions: whether its turns need `scripted_actions`.
    """

    name: str
    create: Callable[[EnvironmentInterface, int], Player]
    reads_scripted_actions: bool = False


def _script_source(name: str) -> PlayerSource:
    def create(interface: EnvironmentInterface, num_agents: int) -> Player:
        return PolicyPlayer(create_script(interface, name), num_agents, name=name)

    return PlayerSource(name, create)


BUILTIN_PLAYERS = {
    "random": PlayerSource("random", lambda interface, num_agents: RandomPlayer(interface)),
    "noop": PlayerSource("noop", lambda interface, num_agents: NoopPlayer(interface)),
    "scripted": PlayerSource(
        "scripted", lambda interface, num_agents: ScriptedPlayer(), reads_scripted_actions=True
    ),
    **{name: _script_source(name) for name in SCRIPTS},
}


def is_builtin(uri: str) -> bool:
    """Tell whether a URI names a built-in player: one of `BUILTIN_PLAYERS`, or anything `mock://`."""
    return uri in BUILTIN_PLAYERS or uri.startswith(MOCK_SCHEME)


def builtin_source(uri: str) -> PlayerSource:
    """Return the source of a built-in player.

    Args:
        uri: a name of `BUILTIN_PLAYERS`, with or without `mock://` before it.

    Raises:
        UnknownNameError: if there is no such player.
    """
    name = uri.removeprefix(MOCK_SCHEME)
    if name not in BUILTIN_PLAYERS:
        raise UnknownNameError("built-in player", name, BUILTIN_PLAYERS)
    return BUILTIN_PLAYERS[name]
