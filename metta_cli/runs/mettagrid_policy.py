"""Our policies behind MettaGrid's own policy interface, so that its runners can play them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mettagrid.policy.policy import AgentPolicy, MultiAgentPolicy
from mettagrid.policy.policy_env_interface import PolicyEnvInterface
from mettagrid.simulator import Action, AgentObservation, Simulation
from tensordict import TensorDict
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import Policy
from metta_cli.policies.tokens import EMPTY_LOCATION
from metta_cli.runs.policies import load_policy


class MettaPolicy(MultiAgentPolicy):
    """A checkpoint of ours for `mettagrid.policy.loader.initialize_or_load_policy`.

    Args:
        policy_env_info: what MettaGrid says about the environment.
        device: where the policy acts.
    """

    def __init__(self, policy_env_info: PolicyEnvInterface, device: str = "cpu", **kwargs: Any) -> None:
        super().__init__(policy_env_info, device=device, **kwargs)
        self.device = torch.device(device)
        self._fitted: nn.Module | None = None

    def load_policy_data(self, policy_data_path: str) -> None:
        """Load a checkpoint directory, or a file of weights of another tool.

        Raises:
            MettaError: if it cannot be read, or does not fit the environment.
        """
        loaded = load_policy(str(Path(policy_data_path)), self.device)
        self._fitted = loaded.fit(interface_from(self.policy_env_info))[0].eval()

    def network(self) -> nn.Module:
        """Return the policy, fitted to the environment.

        Raises:
            ValueError: if nothing has been loaded yet.
        """
        if self._fitted is None:
            raise ValueError("no weights are loaded: give the policy a data_path")
        return self._fitted

    def agent_policy(self, agent_id: int) -> AgentPolicy:
        """Return the policy of one agent, with a memory of its own."""
        return MettaAgentPolicy(self.policy_env_info, self.network(), self.device)


class MettaAgentPolicy(AgentPolicy):
    """One agent.

    Args:
        policy_env_info: what MettaGrid says about the environment.
        policy: follows our contract, shared by all agents.
        device: where it acts.
    """

    def __init__(self, policy_env_info: PolicyEnvInterface, policy: nn.Module, device: torch.device) -> None:
        super().__init__(policy_env_info)
        self._policy, self._device = policy, device
        self._num_tokens = policy_env_info.observation_shape[0]
        self.reset()

    def reset(self, simulation: Simulation | None = None) -> None:
        """Forget what was seen: an episode starts."""
        self._state = cast(Policy, self._policy).initial_state(1, self._device)
        self._starts = True

    def step(self, obs: AgentObservation) -> Action:
        """Return a sampled action."""
        tokens = torch.full((1, self._num_tokens, 3), EMPTY_LOCATION, dtype=torch.uint8)
        raw = [token.raw_token for token in obs.tokens[: self._num_tokens]]
        if raw:
            tokens[0, : len(raw)] = torch.from_numpy(np.array(raw, dtype=np.uint8))
        td = TensorDict({"env_obs": tokens, "dones": torch.tensor([self._starts])}, batch_size=[1])
        with torch.no_grad():
            td = self._policy(td.to(self._device), self._state)
        self._starts = False
        return Action(name=self.policy_env_info.all_action_names[int(td["actions"])])


def interface_from(info: PolicyEnvInterface) -> EnvironmentInterface:
    """Return MettaGrid's description of an environment as ours."""
    features = sorted(info.obs_features, key=lambda feature: feature.id)
    return EnvironmentInterface(
        action_names=tuple(info.all_action_names),
        feature_names=tuple(feature.name for feature in features),
        feature_scales=tuple(float(feature.normalization) for feature in features),
        tag_names=tuple(info.tags),
        observation_height=info.obs_height,
        observation_width=info.obs_width,
        num_tokens=info.observation_shape[0],
        agents_per_environment=info.num_agents,
    )
