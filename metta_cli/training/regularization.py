"""The weights that L2-init pulls towards."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from metta_cli.algorithms.regularization import layer_weights, squared_distance


class InitialWeights:
    """A copy of the weights of linear and convolution layers.

    Args:
        policy: whose weights are copied now.
    """

    def __init__(self, policy: nn.Module) -> None:
        self.weights: dict[str, Tensor] = {}
        self.update(policy)

    def update(self, policy: nn.Module) -> None:
        """Copy the weights of now."""
        self.weights = {name: weight.detach().clone() for name, weight in layer_weights(policy).items()}

    def update_if_due(self, policy: nn.Module, epoch: int, interval: int) -> None:
        """Copy the weights of now if the number of finished epochs says so.

        Args:
            policy: its `l2_init_weight_update_interval`, if it has one, counts where `interval` is 0.
            epoch: epochs finished.
            interval: epochs between copies.
        """
        interval = interval or int(getattr(policy, "l2_init_weight_update_interval", 0))
        if interval and epoch % interval == 0:
            self.update(policy)

    def loss(self, policy: nn.Module) -> Tensor:
        """Return the squared distance of the weights from the copy: a scalar with gradient."""
        return squared_distance(layer_weights(policy), self.weights)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the copy by the names of the layers."""
        return self.weights

    def load_state_dict(self, data: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict`; the devices stay."""
        self.weights = {name: data[name].to(weight.device) for name, weight in self.weights.items()}
