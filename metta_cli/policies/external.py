"""Policies that were written elsewhere, behind the contract of `metta_cli.policies.contract`.

An external policy is a module in PufferLib's manner. It is called as `forward_eval(observations, state)` or
as `forward(observations, state)`: `forward_eval`, unless a subclass has a `forward` of its own and inherits
the other; or else as `encode_observations` and then `decode_actions`. It answers `(logits, value)`,
`(logits, value, hidden)` or `((logits, value), hidden)`; the logits are one tensor over the flat actions, or
one for the verb and one for its argument; whole numbers in their place are actions that the policy has
chosen itself. Its memory is `lstm_h` and `lstm_c` in `state`, which it may read and write as a dict or by
attributes, or the pair `hidden` that it returns.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.heads import VerbHeads
from metta_cli.policies.mixin import PyTorchAgentMixin
from metta_cli.policies.tokens import EMPTY_LOCATION, GLOBAL_LOCATION

MEMORY = ("lstm_h", "lstm_c")
CERTAIN = 1e4
CURE = "see docs/external_policies.md for what an external policy may return"


@dataclass(frozen=True)
class ForeignEnvironment(EnvironmentInterface):
    """What the constructor of an external policy is given as `env`.

    Attributes:
        flat_actions: whether the action space is one number, or a verb and an argument.
        is_grid: whether observations are a dense grid, one channel for every feature, or tokens.
    """

    flat_actions: bool = False
    is_grid: bool = False

    @property
    def single_observation_space(self) -> spaces.Box:
        """Tokens uint8 `[K, 3]`, or a grid uint8 `[rows, columns, features]`."""
        grid = (self.observation_height, self.observation_width, len(self.feature_names))
        return spaces.Box(0, 255, grid if self.is_grid else (self.num_tokens, 3), np.uint8)

    @property
    def single_action_space(self) -> spaces.Discrete | spaces.MultiDiscrete:
        """The flat actions, or verbs and arguments."""
        if self.flat_actions:
            return spaces.Discrete(self.num_actions)
        return spaces.MultiDiscrete(VerbHeads(self.action_names).sizes)

    observation_space = single_observation_space
    action_space = single_action_space


class ForeignState(dict[str, Any]):
    """The state that an external policy reads and writes: `state["lstm_h"]` or `state.lstm_h`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class PytorchAgent(PyTorchAgentMixin, nn.Module):
    """An external policy that follows the contract.

    Observations are filled up to all `K` tokens, or cut to the `K` nearest, since an external policy may
    count on their number. Segments are judged step by step, as they were acted.

    Args:
        module: the external policy.
        interface: names of the features, tags and actions as the external policy knows them.
        name: what messages call it.

    Raises:
        CheckpointError: if the module has a memory other than one LSTM.
    """

    def __init__(
        self, module: nn.Module, interface: EnvironmentInterface, name: str = "the external policy"
    ) -> None:
        super().__init__()
        self.init_mixin(**self.extract_mixin_params({}))
        self.module: Any = module
        self.interface, self.name = interface, name
        self.heads = VerbHeads(interface.action_names)
        self.num_layers, self.hidden_size = _memory_shape(module, name)
        self._call = _entry_point(module, name)
        self._is_flat = self.num_layers == 1 and any(isinstance(p, nn.LSTMCell) for p in module.modules())
        if self._is_flat and not _is_defined_last(module, "forward_eval"):
            self._is_flat = self._takes_flat_memory()

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return zeros `[L, N, H]` for `lstm_h` and `lstm_c`, or `{}` without an LSTM."""
        shape = (self.num_layers, num_agents, self.hidden_size)
        return {name: torch.zeros(shape, device=device) for name in MEMORY if self.num_layers}

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        observations, dones = td["env_obs"], td["dones"]
        memory = dict(state) if state else self.initial_state(len(dones), observations.device)
        if action is None:
            log_probs, values = self._step(observations, dones, memory)
            if state is not None:
                state.update(memory)
            return self.handle_inference_mode(td, log_probs, values)
        steps = [self._step(observations[:, step], dones[:, step], memory) for step in range(dones.shape[1])]
        log_probs, values = (torch.stack(part, dim=1).flatten(0, 1) for part in zip(*steps, strict=True))
        return self.handle_training_mode(td, action, log_probs, values)

    def check(self) -> None:
        """Show the policy an empty observation.

        Raises:
            CheckpointError: if what it answers cannot be understood.
        """
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        empty = torch.full((2, self.interface.num_tokens, 3), EMPTY_LOCATION, dtype=torch.uint8)
        dones = torch.ones(2, dtype=torch.bool, device=device)
        with torch.no_grad():
            self._step(empty.to(device), dones, self.initial_state(2, device))

    def _takes_flat_memory(self) -> bool:
        """Return whether a `forward` that may use its cell or its LSTM takes memory `[N, H]`."""
        try:
            self.check()
        except (AssertionError, IndexError, RuntimeError, ValueError):
            return False
        return True

    def _step(self, observations: Tensor, dones: Tensor, memory: RecurrentState) -> tuple[Tensor, Tensor]:
        """Return log-probabilities `[N, A]` and values `[N]`; `memory` is replaced."""
        missing = self.interface.num_tokens - observations.shape[1]
        observations = F.pad(observations, (0, 0, 0, missing), value=EMPTY_LOCATION).clone()
        if isinstance(self.interface, ForeignEnvironment) and self.interface.is_grid:
            observations = dense_grid(observations, self.interface)
        keep = (~dones).float()[None, :, None]
        before = {name: part * keep for name, part in memory.items()}
        state = ForeignState(lstm_h=None, lstm_c=None, hidden=None)
        state.update({name: part[0] if self._is_flat else part for name, part in before.items()})
        shown = dict(state)
        logits, value, hidden = _unpacked(self._call(observations, state), len(dones), self.name)
        for name, part in zip(MEMORY, self._after(state, shown, hidden), strict=False):
            memory[name] = part.view_as(before[name])
        return self._log_probs(logits), value.flatten().float()

    def _after(self, state: ForeignState, shown: dict[str, Any], hidden: Any) -> tuple[Tensor, ...]:
        if not self.num_layers:
            return ()
        if isinstance(hidden, tuple | list) and len(hidden) == 2:
            return tuple(hidden)
        if hidden is not None and all(hasattr(hidden, name) for name in MEMORY):
            state = hidden
        elif isinstance(hidden, dict) and set(MEMORY) <= hidden.keys():
            state = ForeignState(hidden)
        after = tuple(getattr(state, name) for name in MEMORY)
        if any(part is None or part is shown[name] for name, part in zip(MEMORY, after, strict=True)):
            raise CheckpointError(
                f"{self.name} has an LSTM but hands back no memory",
                "store lstm_h and lstm_c in `state`, or return the pair as `hidden`",
            )
        return after

    def _log_probs(self, logits: list[Tensor]) -> Tensor:
        if not logits[0].is_floating_point():
            logits = [_one_hot(part, width) for part, width in self._chosen(logits[0])]
        widths = tuple(part.shape[-1] for part in logits)
        if widths == (self.interface.num_actions,):
            return torch.log_softmax(logits[0].float(), dim=-1)
        if widths != self.heads.sizes:
            raise CheckpointError(
                f"{self.name} has action heads of widths {list(widths)}; its actions are"
                f" {self.interface.num_actions} flat ones, or {list(self.heads.sizes)} verbs and arguments",
                "name the actions that it was trained with under pytorch.action_names",
            )
        joined: Tensor = self.heads(logits[0].float(), logits[1].float())
        return joined

    def _chosen(self, actions: Tensor) -> list[tuple[Tensor, int]]:
        columns = actions.view(len(actions), -1).long().unbind(1)
        widths = (self.interface.num_actions,) if len(columns) == 1 else self.heads.sizes
        return list(zip(columns, widths, strict=True))


def dense_grid(tokens: Tensor, interface: EnvironmentInterface) -> Tensor:
    """Return uint8 `[N, rows, columns, features]` of tokens uint8 `[N, K, 3]`.

    Global tokens are in the cell of the agent. Of several tokens of a cell and feature, such as tags, one is
    kept.
    """
    height, width = interface.observation_height, interface.observation_width
    depth = len(interface.feature_names)
    location, feature, value = tokens.long().unbind(-1)
    is_global = location == GLOBAL_LOCATION
    row = torch.where(is_global, height // 2, location >> 4)
    column = torch.where(is_global, width // 2, location & 15)
    is_inside = (location != EMPTY_LOCATION) & (row < height) & (column < width) & (feature < depth)
    size = height * width * depth
    index = torch.where(is_inside, (row * width + column) * depth + feature, size)
    grid = torch.zeros(len(tokens), size + 1, dtype=torch.uint8, device=tokens.device)
    return grid.scatter(1, index, value.to(torch.uint8))[:, :size].view(-1, height, width, depth)


def _one_hot(chosen: Tensor, width: int) -> Tensor:
    return CERTAIN * F.one_hot(chosen, width).float()


def _memory_shape(module: nn.Module, name: str) -> tuple[int, int]:
    """Return the layers and the width of the LSTM, or (0, 0)."""
    parts = list(module.modules())
    layers = [part for part in parts if isinstance(part, nn.RNNBase)]
    cells = [part for part in parts if isinstance(part, nn.RNNCellBase)]
    known = all(isinstance(part, nn.LSTM | nn.LSTMCell) for part in (*layers, *cells))
    if not known or len(layers) > 1 or len(cells) > 1:
        raise CheckpointError(
            f"{name} has a memory other than one LSTM", "write it as a policy plugin: docs/plugins.md"
        )
    if layers:
        return layers[0].num_layers, layers[0].hidden_size
    return (1, cells[0].hidden_size) if cells else (0, 0)


def _entry_point(module: Any, name: str) -> Any:
    """Return a function of observations and state."""
    if _is_defined_last(module, "forward_eval"):
        return _with_state(module.forward_eval)
    if type(module).forward is not nn.Module.forward:
        return _with_state(module.forward)
    if hasattr(module, "encode_observations") and hasattr(module, "decode_actions"):
        encode = _with_state(module.encode_observations)
        return lambda observations, state: _decode(module, encode(observations, state))
    raise CheckpointError(f"{name} has no method to act with: {type(module).__name__}", CURE)


def _is_defined_last(module: nn.Module, method: str) -> bool:
    """Return whether the class has the method, and no subclass of where it is has only a new `forward`."""
    classes = type(module).__mro__
    owners = {
        name: next((place for place, owner in enumerate(classes) if name in vars(owner)), len(classes))
        for name in (method, "forward")
    }
    return hasattr(module, method) and owners[method] <= owners["forward"]


def _decode(module: Any, features: Any) -> Any:
    """Return `decode_actions` of features, which may stand before a lookup that it takes as well."""
    if isinstance(features, tuple):
        return module.decode_actions(*features)
    return module.decode_actions(features)


def _with_state(method: Any) -> Any:
    """Return the method, with a state that is left out where it takes none."""
    kinds = inspect.Parameter
    places = [
        parameter
        for parameter in inspect.signature(method).parameters.values()
        if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL)
    ]
    if len(places) > 1 or (places and places[0].kind is kinds.VAR_POSITIONAL):
        return method
    return lambda observations, state: method(observations)


def _unpacked(answer: Any, num_agents: int, name: str) -> tuple[list[Tensor], Tensor, Any]:
    """Return logits, values and the hidden state, whichever way they were put together."""
    hidden = None
    if isinstance(answer, tuple | list) and len(answer) == 3:
        *answer, hidden = answer
    elif isinstance(answer, tuple | list) and len(answer) == 2 and not _is_value(answer[1], num_agents):
        answer, hidden = answer
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not _is_value(answer[1], num_agents):
        raise CheckpointError(f"{name} does not answer with logits and values", CURE)
    logits = list(answer[0]) if isinstance(answer[0], tuple | list) else [answer[0]]
    if not logits or not all(isinstance(part, Tensor) and len(part) == num_agents for part in logits):
        raise CheckpointError(f"{name} does not answer with logits, one row for every agent", CURE)
    return logits, answer[1], hidden


def _is_value(part: Any, num_agents: int) -> bool:
    return isinstance(part, Tensor) and part.numel() == num_agents and part.shape[:1] == (num_agents,)
