"""Networks: the contract, the shared mixin, recurrence, remapping by name."""
