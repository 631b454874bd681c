"""What every policy plugin promises, as tests to inherit.

    class TestMyPolicy(PolicyContract):
        def make_policy(self, interface):
            return MyPolicy(interface)

pytest collects the tests of the subclass; this module is imported by tests only.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.contract import Policy, RecurrentState

TOLERANCE = 1e-5
GLOBAL_LOCATION, EMPTY = 0xFE, 0xFF

EXAMPLE_INTERFACE = EnvironmentInterface(
    action_names=("noop", "move_north", "move_south", "move_west", "move_east", "change_vibe_default"),
    feature_names=("agent:group", "last_reward", "tag", "vibe", "inv:heart"),
    feature_scales=(10.0, 100.0, 10.0, 255.0, 256.0),
    tag_names=("team:blue", "type:agent", "type:altar", "type:wall"),
    observation_height=11,
    observation_width=11,
    num_tokens=32,
    agents_per_environment=4,
)


def random_observations(interface: EnvironmentInterface, *batch: int, seed: int = 0) -> Tensor:
    """Return observations of nowhere: tokens that the interface allows, then empty rows.

    Args:
        interface: names and sizes.
        batch: leading dimensions.
        seed: same seed, same observations.

    Returns:
        uint8 `[*batch, K, 3]`; at least the last quarter of the rows is empty.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, interface.num_tokens)

    def integers(high: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    location = integers(interface.observation_height) * 16 + integers(interface.observation_width)
    location[..., :2] = GLOBAL_LOCATION
    feature, value = integers(len(interface.feature_names)), integers(64)
    if "tag" in interface.feature_names:
        is_tag = feature == interface.feature_names.index("tag")
        value = torch.where(is_tag, value % len(interface.tag_names), value)
    num_used = torch.randint(2, interface.num_tokens * 3 // 4 + 1, (*batch, 1), generator=generator)
    is_empty = torch.arange(interface.num_tokens) >= num_used
    tokens = torch.stack([location, feature, value], dim=-1).masked_fill(is_empty.unsqueeze(-1), EMPTY)
    return tokens.to(torch.uint8)


class PolicyContract:
    """Inherit, fill in `make_policy`, and pytest runs the tests.

    Attributes:
        interface: what the policy is made for; override it for a policy that needs other names or sizes.
        num_agents: `N`, agents that act in the tests.
    """

    interface: EnvironmentInterface = EXAMPLE_INTERFACE
    num_agents: int = 6

    def make_policy(self, interface: EnvironmentInterface) -> nn.Module:
        """Return a new policy with random weights."""
        raise NotImplementedError

    def test_policy_is_a_module_with_the_two_methods(self) -> None:
        """A policy is an `nn.Module` that has `initial_state` and `forward`."""
        policy = self._policy()
        assert isinstance(policy, nn.Module)
        assert isinstance(policy, Policy)

    def test_initial_state_is_zero_with_one_column_per_agent(self) -> None:
        """Every part of the recurrent state is zeros `[L, N, H]`."""
        for name, part in self._policy().initial_state(self.num_agents, "cpu").items():
            assert part.dim() == 3, f"{name} has shape {list(part.shape)}, expected [L, N, H]"
            assert part.shape[1] == self.num_agents, f"{name}: dimension 1 must be the agents"
            assert not part.any(), f"{name} is not zero"

    def test_acting_sets_the_documented_outputs(self) -> None:
        """Shapes and types as in the contract; one normalized distribution behind action and log-prob."""
        policy, (agents, actions) = self._policy(), (self.num_agents, self.interface.num_actions)
        td = self._act(policy, self._fresh(policy))
        log_probs = td["full_log_probs"]
        _expect(td, "actions", torch.int64, [agents])
        _expect(td, "act_log_prob", torch.float32, [agents])
        _expect(td, "values", torch.float32, [agents])
        _expect(td, "full_log_probs", torch.float32, [agents, actions])
        assert ((td["actions"] >= 0) & (td["actions"] < actions)).all()
        _close(log_probs.exp().sum(-1), torch.ones(agents), "the sum of probabilities")
        _close(td["act_log_prob"], _of_action(log_probs, td["actions"]), "act_log_prob")
        assert torch.isfinite(td["values"]).all()

    def test_outputs_are_written_into_the_inputs(self) -> None:
        """The returned TensorDict is the one that was passed."""
        policy = self._policy()
        td = self._inputs(random_observations(self.interface, self.num_agents))
        assert policy(td, self._fresh(policy)) is td

    def test_actions_follow_the_reported_distribution(self) -> None:
        """Over many agents that see the same, actions occur as often as `full_log_probs` says."""
        policy, num_agents = self._policy(), 3000
        observations = random_observations(self.interface, 1).expand(num_agents, -1, -1)
        torch.manual_seed(0)
        with torch.no_grad():
            td = policy(self._inputs(observations), policy.initial_state(num_agents, "cpu"))
        probabilities = td["full_log_probs"][0].exp()
        counts = td["actions"].bincount(minlength=len(probabilities))
        deviation = (num_agents * probabilities * (1 - probabilities)).sqrt()
        assert ((counts - num_agents * probabilities).abs() <= 5 * deviation + 1).all()

    def test_acting_is_deterministic_given_the_seed(self) -> None:
        """Same weights, inputs and seed: same actions, log-probs, values and state, bit for bit."""
        policy = self._policy()
        first, again = self._random_state(policy), self._random_state(policy)
        one, two = self._act(policy, first), self._act(policy, again)
        for name in ("actions", "act_log_prob", "values", "full_log_probs"):
            assert torch.equal(one[name], two[name]), name
        assert all(torch.equal(first[name], again[name]) for name in first)

    def test_acting_updates_the_state_in_place(self) -> None:
        """The dict that was passed holds the new state, in the shape of the old one."""
        policy = self._policy()
        state, before = self._fresh(policy), self._fresh(policy)
        self._act(policy, state)
        assert state.keys() == before.keys()
        assert all(state[name].shape == before[name].shape for name in before)
        for name in before:
            assert not torch.equal(state[name], before[name]), f"{name} is still that of the start"

    def test_a_start_of_an_episode_is_a_fresh_state(self) -> None:
        """`dones` resets exactly the agents it names, before the observation is used."""
        policy = self._policy()
        dones = torch.arange(self.num_agents) % 2 == 0
        state, kept, fresh = self._random_state(policy), self._random_state(policy), self._fresh(policy)
        actual = self._act(policy, state, dones)
        without_reset, from_start = self._act(policy, kept), self._act(policy, fresh)
        for name in ("full_log_probs", "values"):
            expected = torch.where(_like(dones, actual[name]), from_start[name], without_reset[name])
            _close(actual[name], expected, f"{name} after a reset of every other agent")
        for name in state:
            expected = torch.where(dones[None, :, None], fresh[name], kept[name])
            _close(state[name], expected, f"state {name} after a reset of every other agent")

    def test_a_state_that_is_kept_matters(self) -> None:
        """A policy that has a state lets it decide; otherwise it should have none."""
        policy = self._policy()
        state, fresh = self._random_state(policy), self._fresh(policy)
        if state:
            remembering, starting = self._act(policy, state), self._act(policy, fresh)
            assert not torch.allclose(remembering["full_log_probs"], starting["full_log_probs"], atol=1e-9)

    def test_no_state_is_the_state_of_a_start(self) -> None:
        """`state=None` gives what `initial_state` gives, in acting and in training."""
        policy = self._policy()
        acted, acted_fresh = self._act(policy, None), self._act(policy, self._fresh(policy))
        _close(acted["full_log_probs"], acted_fresh["full_log_probs"], "full_log_probs in acting")
        observations, dones, actions, _ = self._segments(policy)
        fresh = policy.initial_state(len(actions), "cpu")
        judged = policy(self._inputs(observations, dones), None, actions)
        judged_fresh = policy(self._inputs(observations, dones), fresh, actions)
        _close(judged["act_log_prob"], judged_fresh["act_log_prob"], "act_log_prob in training")

    def test_agents_do_not_influence_each_other(self) -> None:
        """What an agent does follows from what it sees, alone or in a batch."""
        policy = self._policy()
        observations = random_observations(self.interface, self.num_agents)
        state = self._random_state(policy)
        first = {name: part[:, :1].clone() for name, part in state.items()}
        with torch.no_grad():
            together = policy(self._inputs(observations), state)
            alone = policy(self._inputs(observations[:1]), first)
        for name in ("full_log_probs", "values"):
            _close(alone[name], together[name][:1], f"{name} of an agent that acts alone")

    def test_empty_rows_may_be_cut_off(self) -> None:
        """`K` smaller than `num_tokens` changes nothing if only empty rows were cut."""
        policy = self._policy()
        observations = random_observations(self.interface, self.num_agents)
        used = int((observations[..., 0] != EMPTY).sum(-1).max())
        assert used < observations.shape[1]
        whole, cut = (
            self._act(policy, self._fresh(policy), observations=part)
            for part in (observations, observations[:, :used])
        )
        _close(cut["full_log_probs"], whole["full_log_probs"], "full_log_probs without the empty rows")
        _close(cut["values"], whole["values"], "values without the empty rows")

    def test_an_empty_observation_is_no_accident(self) -> None:
        """An agent that sees nothing at all still gets a distribution and a value."""
        policy = self._policy()
        nothing = torch.full((self.num_agents, self.interface.num_tokens, 3), EMPTY, dtype=torch.uint8)
        td = self._act(policy, self._fresh(policy), observations=nothing)
        assert not td["full_log_probs"].isnan().any()
        assert torch.isfinite(td["values"]).all()

    def test_training_sets_the_documented_outputs(self) -> None:
        """Shapes and types as in the contract; log-prob and entropy are those of `full_log_probs`."""
        policy = self._policy()
        observations, dones, actions, state = self._segments(policy)
        td = policy(self._inputs(observations, dones), state, actions)
        shape = list(actions.shape)
        for name in ("act_log_prob", "entropy", "value"):
            _expect(td, name, torch.float32, shape)
        _expect(td, "full_log_probs", torch.float32, [*shape, self.interface.num_actions])
        log_probs = td["full_log_probs"]
        _close(td["act_log_prob"], _of_action(log_probs, actions), "act_log_prob of the given actions")
        entropy = -(log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0.0)).sum(-1)
        _close(td["entropy"], entropy, "entropy")

    def test_training_leaves_the_state_alone(self) -> None:
        """The state at the start of a segment belongs to the experience."""
        policy = self._policy()
        observations, dones, actions, state = self._segments(policy)
        held, before = dict(state), {name: part.clone() for name, part in state.items()}
        policy(self._inputs(observations, dones), state, actions)
        assert all(state[name] is held[name] and torch.equal(state[name], before[name]) for name in before)

    def test_training_judges_as_acting_did(self) -> None:
        """Over episode ends anywhere in a segment: same log-probs and values, so the first ratio is 1."""
        policy = self._policy()
        observations, dones, actions, state = self._segments(policy)
        acting_state = {name: part.clone() for name, part in state.items()}
        acted = []
        with torch.no_grad():
            for step in range(dones.shape[1]):
                acted.append(policy(self._inputs(observations[:, step], dones[:, step]), acting_state))
            actions = torch.stack([td["actions"] for td in acted], dim=1)
            td = policy(self._inputs(observations, dones), state, actions)
        for judged, done in (
            ("act_log_prob", "act_log_prob"),
            ("value", "values"),
            ("full_log_probs", "full_log_probs"),
        ):
            expected = torch.stack([step_td[done] for step_td in acted], dim=1)
            _close(td[judged], expected, f"{judged} of whole segments against {done} step by step")

    def test_gradients_reach_all_parameters(self) -> None:
        """Log-probs, values and entropies together depend on every parameter that wants a gradient."""
        policy = self._policy()
        observations, dones, actions, state = self._segments(policy)
        td = policy(self._inputs(observations, dones), state, actions)
        (td["act_log_prob"].sum() + td["value"].sum() + td["entropy"].sum()).backward()
        parameters = {name: part for name, part in policy.named_parameters() if part.requires_grad}
        unreached = [name for name, part in parameters.items() if part.grad is None or not part.grad.any()]
        assert unreached == [], "no gradient reaches these (set requires_grad=False if that is meant)"
        infinite = [name for name, part in parameters.items() if not torch.isfinite(part.grad).all()]
        assert infinite == [], "the gradient is not finite"

    def test_weights_survive_a_round_trip(self) -> None:
        """Another policy with the same `state_dict` is the same policy."""
        policy = self._policy(seed=1)
        other = self._policy(seed=2)
        other.load_state_dict(policy.state_dict())
        one, two = self._act(policy, self._fresh(policy)), self._act(other, self._fresh(other))
        assert torch.equal(one["full_log_probs"], two["full_log_probs"])
        assert torch.equal(one["values"], two["values"])

    def _policy(self, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        return self.make_policy(self.interface)

    def _fresh(self, policy: Any) -> RecurrentState:
        state: RecurrentState = policy.initial_state(self.num_agents, "cpu")
        return state

    def _random_state(self, policy: Any, num_agents: int | None = None) -> RecurrentState:
        generator = torch.Generator().manual_seed(3)
        state: RecurrentState = policy.initial_state(num_agents or self.num_agents, "cpu")
        return {name: torch.randn(part.shape, generator=generator) * 0.5 for name, part in state.items()}

    def _inputs(self, observations: Tensor, dones: Tensor | None = None) -> TensorDict:
        batch = observations.shape[:-2]
        if dones is None:
            dones = torch.zeros(batch, dtype=torch.bool)
        return TensorDict({"env_obs": observations, "dones": dones}, batch_size=batch)

    def _act(
        self,
        policy: Any,
        state: RecurrentState | None,
        dones: Tensor | None = None,
        observations: Tensor | None = None,
    ) -> TensorDict:
        if observations is None:
            observations = random_observations(self.interface, self.num_agents)
        torch.manual_seed(4)
        with torch.no_grad():
            td: TensorDict = policy(self._inputs(observations, dones), state)
        return td

    def _segments(self, policy: Any) -> tuple[Tensor, Tensor, Tensor, RecurrentState]:
        """Return observations `[M, T, K, 3]`, dones, actions, and a state from the middle of an episode.

        No episode starts in segment 0; in the others one starts first, in the middle, twice in a row, last.
        """
        segments, steps = 5, 8
        dones = torch.zeros((segments, steps), dtype=torch.bool)
        for segment, starts in enumerate(([], [0], [4], [3, 4], [steps - 1])):
            dones[segment, starts] = True
        generator = torch.Generator().manual_seed(5)
        actions = torch.randint(0, self.interface.num_actions, dones.shape, generator=generator)
        observations = random_observations(self.interface, segments, steps)
        return observations, dones, actions, self._random_state(policy, segments)


def _expect(td: TensorDict, name: str, dtype: torch.dtype, shape: list[int]) -> None:
    assert name in td, f"{name} is not set"
    tensor = td[name]
    assert list(tensor.shape) == shape, f"{name} has shape {list(tensor.shape)}, expected {shape}"
    assert tensor.dtype == dtype, f"{name} has type {tensor.dtype}, expected {dtype}"


def _close(actual: Tensor, expected: Tensor, what: str) -> None:
    def message(difference: str) -> str:
        return f"{what}\n{difference}"

    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=TOLERANCE, msg=message)


def _of_action(log_probs: Tensor, actions: Tensor) -> Tensor:
    return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def _like(rows: Tensor, tensor: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (tensor.dim() - 1))
