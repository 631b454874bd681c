"""Policies of MettaGrid's own interface as opponents: by class, by short name, or as a bundle.

They act one agent at a time, in Python, and are slow beside a batched policy. Each environment has a
policy object of its own, so that agents of one team may share what they know and others may not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mettagrid.config.id_map import ObservationFeatureSpec
from mettagrid.policy.loader import initialize_or_load_policy, resolve_policy_class_path
from mettagrid.policy.policy import AgentPolicy, MultiAgentPolicy, PolicySpec
from mettagrid.policy.policy_env_interface import PolicyEnvInterface
from mettagrid.policy.prepare_policy_spec import load_policy_spec_from_path
from mettagrid.policy.submission import POLICY_MANIFEST_FILENAME, POLICY_SPEC_FILENAME
from mettagrid.simulator import AgentObservation
from mettagrid.simulator.interface import ObservationToken

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError, PluginError
from metta_cli.policies.tokens import EMPTY_LOCATION
from metta_cli.populations.opponents import Opponent, OpponentSource
from metta_cli.populations.players import Turn

SCHEME = "mettagrid://"
_VIBE_PREFIX = "change_vibe_"


def is_mettagrid_policy(uri: str) -> bool:
    """Tell whether an address is `mettagrid://...`, or the path of a bundle."""
    if uri.startswith(SCHEME):
        return True
    path = Path(uri)
    if path.suffix == ".zip":
        return path.is_file()
    return any((path / name).is_file() for name in (POLICY_SPEC_FILENAME, POLICY_MANIFEST_FILENAME))


def mettagrid_opponent(uri: str, device: torch.device, *, allow_code: bool) -> OpponentSource:
    """Return a policy of MettaGrid's own interface as an opponent.

    Args:
        uri: `mettagrid://random`, `mettagrid://package.module.Class`, or a bundle (a directory or .zip with
            `policy_spec.json` or `cogames.toml`), with or without `mettagrid://` before it.
        device: handed to the policy.
        allow_code: whether the user trusts code that is not of MettaGrid itself; a bundle may bring any.

    Raises:
        CheckpointError: it would run code that nobody vouches for, or the bundle cannot be read.
    """
    address = uri.removeprefix(SCHEME)
    is_bundle = is_mettagrid_policy(address)
    class_path = address if is_bundle else resolve_policy_class_path(address)
    if not allow_code and (is_bundle or not class_path.startswith("mettagrid.")):
        raise CheckpointError(
            f"{uri} runs code of whoever wrote it, as a pickle does",
            "add --allow-pickle to metta dual-train or metta eval if you trust it",
        )
    spec = _bundle(uri, Path(address)) if is_bundle else PolicySpec(class_path=class_path)

    def create(interface: EnvironmentInterface, num_rows: int) -> Opponent:
        def make() -> MultiAgentPolicy:
            return initialize_or_load_policy(environment_info(interface), spec, str(device))

        try:
            make()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(
                f"{uri} cannot be made: {reason}", "see that it works with MettaGrid"
            ) from error
        return MettaGridOpponent(uri, make, interface)

    return OpponentSource(uri, create, description={"uri": uri, "class": spec.class_path})


def _bundle(uri: str, path: Path) -> PolicySpec:
    try:
        return load_policy_spec_from_path(path.absolute())
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{uri} is no bundle that can be read: {reason}", "export it again") from error


class MettaGridOpponent:
    """Asks one `AgentPolicy` for every row.

    MettaGrid's policies draw from the global generators of Python, NumPy and torch: they are seeded from
    the noise of the turn meanwhile, and put back.

    Args:
        name: what messages call it.
        make: returns a new policy; called once for every environment.
        interface: of the environments.
    """

    def __init__(
        self, name: str, make: Callable[[], MultiAgentPolicy], interface: EnvironmentInterface
    ) -> None:
        self.name, self._make, self._interface = name, make, interface
        self._features = environment_info(interface).obs_features
        self._action = {action: index for index, action in enumerate(interface.action_names)}
        self._teams: dict[int, MultiAgentPolicy] = {}
        self._agents: dict[int, AgentPolicy] = {}

    def act(self, turn: Turn, rows: np.ndarray) -> np.ndarray:
        """See `metta_cli.populations.opponents.Opponent`."""
        actions = np.zeros(len(rows), dtype=np.int64)
        with _seeded(int(turn.noise[0] * 2**32)):
            for index, row in enumerate(rows.tolist()):
                policy = self._agent(row)
                if turn.episode_starts[index]:
                    policy.reset()
                chosen = policy.step(self._observation(row, turn.observations[index]))
                actions[index] = self._action[chosen.name]
        return actions

    def _agent(self, row: int) -> AgentPolicy:
        if row not in self._agents:
            slot, agent = divmod(row, self._interface.agents_per_environment)
            if slot not in self._teams:
                self._teams[slot] = self._make()
            self._agents[row] = self._teams[slot].agent_policy(agent)
        return self._agents[row]

    def _observation(self, row: int, tokens: np.ndarray) -> AgentObservation:
        seen = [
            ObservationToken(self._features[feature], value, (location, feature, value))
            for location, feature, value in tokens.tolist()
            if location != EMPTY_LOCATION
        ]
        return AgentObservation(row % self._interface.agents_per_environment, seen)


def environment_info(interface: EnvironmentInterface) -> PolicyEnvInterface:
    """Return our description of an environment as MettaGrid's."""
    names = interface.action_names
    features = zip(interface.feature_names, interface.feature_scales, strict=True)
    return PolicyEnvInterface(
        obs_features=[
            ObservationFeatureSpec(id=index, name=name, normalization=scale)
            for index, (name, scale) in enumerate(features)
        ],
        tags=list(interface.tag_names),
        action_names=[name for name in names if not name.startswith(_VIBE_PREFIX)],
        vibe_action_names=[name for name in names if name.startswith(_VIBE_PREFIX)],
        num_agents=interface.agents_per_environment,
        observation_shape=(interface.num_tokens, 3),
        egocentric_shape=(interface.observation_height, interface.observation_width),
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, and put them back afterwards."""
    python, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
