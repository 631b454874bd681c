"""What networks with an encoder and heads have in common once they are policies, with memory and without."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.lstm import LSTMWrapper
from metta_cli.policies.mixin import PyTorchAgentMixin


class RecurrentAgent(PyTorchAgentMixin, LSTMWrapper):
    """A network with an LSTM between its encoder and its heads; `policy` is the network."""

    def joined(self, logits: Any) -> Tensor:
        """Return logits or log-probabilities `[B, A]` of what `decode_actions` made."""
        flat: Tensor = logits
        return flat

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        observations = td["env_obs"]
        self.set_tensordict_fields(td, observations)
        features = self.policy.encode_observations(observations.flatten(0, -3), state)
        logits, value = self.policy.decode_actions(self.lstm_forward(features, td, state))
        if action is None:
            return self.handle_inference_mode(td, self.joined(logits), value)
        return self.handle_training_mode(td, action, self.joined(logits), value)


class TwoHeadedAgent(PyTorchAgentMixin):
    """A network without memory, with a head for verbs and one for arguments; put it before the network."""

    encode_observations: Any
    decode_actions: Any
    heads: Any

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return `{}`: there is no memory."""
        return {}

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        logits, value = self.decode_actions(self.encode_observations(td["env_obs"].flatten(0, -3)))
        log_probs = self.heads(*logits)
        if action is None:
            return self.handle_inference_mode(td, log_probs, value)
        return self.handle_training_mode(td, action, log_probs, value)
