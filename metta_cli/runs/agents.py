"""A policy that was loaded, as a program uses it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.artifacts.loaders import DEFAULT_DATA_DIR
from metta_cli.config.catalogue import find_environment
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.layers import load_config
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.policies.contract import Policy, RecurrentState
from metta_cli.runs.policies import NO_TRUST, LoadedPolicy, Trust, failed_to_load, load_policy


class LoadedAgent(nn.Module):
    """A policy fitted to an environment; follows `metta_cli.policies.contract.Policy`.

    Its weights have the names that they were saved with, and what it has not itself (`clip_weights`,
    `hidden_size`, ...) is that of the policy inside.

    Args:
        acting: the policy behind all its adapters.
        loaded: what it was made of.
    """

    def __init__(self, acting: nn.Module, loaded: LoadedPolicy) -> None:
        super().__init__()
        self.acting = acting
        self._loaded = loaded

    @property
    def policy(self) -> nn.Module:
        """The policy alone: its `state_dict` has the names that it was saved with."""
        return self._loaded.module

    @property
    def description(self) -> dict[str, Any]:
        """Name, architecture and digests."""
        return self._loaded.description

    @property
    def loaded(self) -> LoadedPolicy:
        """What it was made of."""
        return self._loaded

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_loaded" not in self.__dict__:
                raise
            return getattr(self._loaded.module, name)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the weights of the policy inside; see `torch.nn.Module.state_dict`."""
        return self.policy.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights into the policy inside; see `torch.nn.Module.load_state_dict`."""
        return self.policy.load_state_dict(*args, **kwargs)

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """See `metta_cli.policies.contract.Policy`."""
        return cast(Policy, self.acting).initial_state(num_agents, device)

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy`."""
        acted: TensorDict = self.acting(td, state, action)
        return acted


def load_policy_from_checkpoint(
    uri: str,
    device: torch.device | str = "cpu",
    *,
    env: str | EnvironmentInterface | None = None,
    data_dir: Path | str = DEFAULT_DATA_DIR,
    pytorch: Mapping[str, Any] | None = None,
    trust: Trust = NO_TRUST,
) -> LoadedAgent:
    """Return the policy at an address, ready to act.

    Args:
        uri: of a checkpoint of ours, or of a file that another tool wrote.
        device: where it acts.
        env: the environment that it shall act in, by name or by its interface; None is the one that it was
            trained in, and where that is not known the one that metta trains in by default.
        data_dir: where runs are looked for by name.
        pytorch: architecture of another tool's policy; None recognises it from the weights.
        trust: what you vouch for in the file of another tool.

    Raises:
        MettaError: if nothing is there, it is damaged, or cannot act in `env`.
    """
    loaded = load_policy(uri, device, data_dir=Path(data_dir), architecture=pytorch, trust=trust)
    return fitted_agent(loaded, env)


def fitted_agent(loaded: LoadedPolicy, env: str | EnvironmentInterface | None = None) -> LoadedAgent:
    """Return a loaded policy, ready to act; see `load_policy_from_checkpoint`."""
    interface = env if isinstance(env, EnvironmentInterface) else loaded.passport
    if isinstance(env, str):
        interface = interface_of(build(find_environment(env)))
    if interface is None:
        interface = interface_of(build(load_config().config.env))
    with failed_to_load():
        acting, _ = loaded.fit(interface)
    return LoadedAgent(acting.eval(), loaded)
