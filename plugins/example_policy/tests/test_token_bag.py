"""`TokenBag` keeps the contract of a policy."""

from metta_policy_token_bag.policy import TokenBag

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.testing.contracts import PolicyContract


class TestTokenBag(PolicyContract):
    """All tests are inherited."""

    def make_policy(self, interface: EnvironmentInterface) -> TokenBag:
        """Return a new policy."""
        return TokenBag(interface)
