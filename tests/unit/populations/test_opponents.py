import numpy as np
import pytest
import torch
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError, UnknownNameError
from metta_cli.policies.registry import create_policy
from metta_cli.populations.opponents import (
    FixedMatchmaker,
    MatchResult,
    OpponentPool,
    PlayerOpponent,
    PolicyOpponent,
)
from metta_cli.populations.players import NoopPlayer, Turn

ACTIONS = ("move_north", "move_south", "noop")
INTERFACE = EnvironmentInterface(ACTIONS, ("tag",), (1.0,), ("type:wall",), 11, 11, 4, 2)


class Counter(nn.Module):
    """Its state counts the steps of each agent; the action is that count modulo 3."""

    def initial_state(self, num_agents, device):
        return {"count": torch.zeros(1, num_agents, 1, device=device)}

    def forward(self, td, state=None, action=None):
        state["count"][:, td["dones"]] = 0
        count = state["count"][0, :, 0].long() % 3
        state["count"] += 1
        torch.rand(3)  # as policies draw from torch's generator
        td["full_log_probs"] = nn.functional.one_hot(count, 3).float().log()
        return td


def turn(starts):
    starts = np.array(starts)
    return Turn(np.zeros((len(starts), 4, 3), np.uint8), starts, np.full(len(starts), 0.5))


def test_memory_belongs_to_the_row_and_ends_with_the_episode():
    opponent = PolicyOpponent("counter", Counter(), 4)
    first, second = np.array([0, 2]), np.array([2, 3])
    assert opponent.act(turn([True, True]), first).tolist() == [0, 0]
    assert opponent.act(turn([False, True]), second).tolist() == [1, 0]
    assert opponent.act(turn([False, False]), first).tolist() == [1, 2]
    assert opponent.act(turn([True, False]), second).tolist() == [0, 1]


def test_an_opponent_draws_nothing_from_the_generator_of_the_learner():
    opponent = PolicyOpponent("counter", Counter(), 1)
    torch.manual_seed(5)
    opponent.act(turn([True]), np.array([0]))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_an_opponent_keeps_the_weights_that_it_was_made_with():
    learner = create_policy("fast", INTERFACE, {"hidden_size": 16})
    opponent = PolicyOpponent("old", learner, 2)
    live = PolicyOpponent("live", learner, 2, shares_weights=True)
    before = {name: value.clone() for name, value in opponent.policy.state_dict().items()}
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], value) for name, value in opponent.policy.state_dict().items())
    assert not any(parameter.requires_grad for parameter in opponent.policy.parameters())
    assert not opponent.policy.training
    assert live.policy is learner
    assert all(parameter.requires_grad for parameter in learner.parameters())


def test_a_pool_knows_its_opponents_by_id():
    pool = OpponentPool({"idle": PlayerOpponent("noop", NoopPlayer(INTERFACE))})
    pool.add("other", PlayerOpponent("noop", NoopPlayer(INTERFACE)))
    assert pool.ids() == ["idle", "other"]
    assert pool["idle"].act(turn([True]), np.array([0])).tolist() == [2]
    with pytest.raises(ValueError, match="already"):
        pool.add("idle", pool["other"])
    with pytest.raises(UnknownNameError, match="did you mean 'idle'"):
        pool["idel"]
    pool.remove("idle")
    assert "idle" not in pool


@pytest.mark.parametrize(("mine", "other", "outcome"), [(1.0, 0.5, 1.0), (0.5, 0.5, 0.5), (-1.0, 0.0, 0.0)])
def test_the_outcome_compares_the_returns(mine, other, outcome):
    assert MatchResult("a", mine, other).outcome == outcome


def test_fixed_weights_are_the_shares_of_the_episodes():
    matchmaker = FixedMatchmaker({"a": 3, "b": 1, "c": 0})
    drawn = [matchmaker.choose(np.random.default_rng(episode)) for episode in range(2000)]
    assert drawn.count("a") / 2000 == pytest.approx(0.75, abs=0.04)
    assert "c" not in drawn


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": float("nan")}])
def test_weights_that_make_no_probabilities_are_refused(weights):
    with pytest.raises(ConfigError, match="weights"):
        FixedMatchmaker(weights)
