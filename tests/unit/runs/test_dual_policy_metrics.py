"""What is counted of each opponent over the epochs of a run."""

from types import SimpleNamespace

from metta_cli.populations.opponents import FixedMatchmaker, MatchResult, OpponentPool, PlayerOpponent
from metta_cli.populations.tally import Tally
from metta_cli.runs.dual_policy import DualPolicyMetrics
from metta_cli.training.distributed import World


def environment_with(*names):
    pool = OpponentPool({name: PlayerOpponent(name, None) for name in names})
    return SimpleNamespace(
        pool=pool,
        sizes=(2, 2),
        environment=SimpleNamespace(num_environments=4),
        matchmaker=FixedMatchmaker(dict.fromkeys(names, 1.0)),
        tally=Tally((2, 2)),
    )


def epoch(metrics, *results):
    tally = metrics.environment.tally = Tally((2, 2))
    for opponent, mine, other in results:
        tally.matches.append(MatchResult(opponent, mine, other))
    return metrics.on_rollout_end(SimpleNamespace(world=World()), None)


def test_an_opponent_that_has_left_the_pool_is_counted_no_more():
    metrics = DualPolicyMetrics(environment_with("v0", "v5"))
    logged = epoch(metrics, ("v0", 1, 0), ("v5", 0, 1), ("v5", 1, 0))
    assert logged["dual_policy/npc/v5/win_rate"] == 0.5
    metrics.environment.pool.remove("v5")
    logged = epoch(metrics, ("v0", 0, 1))
    assert logged["dual_policy/npc/v0/episodes"] == 2
    assert not [name for name in logged if "v5" in name]
    assert "v5" not in str(metrics.state_dict())
