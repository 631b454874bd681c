import numpy as np
import pytest

from metta_cli.config.catalogue import find_environment
from metta_cli.errors import ConfigError
from metta_cli.populations.assignment import FractionAssignment, TeamAssignment, largest_remainder, teams_of


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("share", "total", "count"),
    [(0.5, 4, 2), (0.5, 5, 3), (0.3, 10, 3), (0.7, 10, 7), (0.24, 10, 2), (0.26, 10, 3), (1.0, 3, 3)],
)
def test_a_share_is_rounded_to_the_nearer_number_of_agents(share, total, count):
    assert largest_remainder(share, total) == count


def test_every_agent_learns_equally_often_and_their_number_never_changes():
    assignment = FractionAssignment(0.5, 4)
    draws = np.array([assignment.draw(np.zeros(4, int), generator(seed)) for seed in range(400)])
    assert set(draws.sum(axis=1)) == {2}
    assert np.allclose(draws.mean(axis=0), 0.5, atol=0.1)


def test_a_team_learns_as_a_whole_and_the_teams_take_turns():
    assignment = TeamAssignment(0.5, [0, 0, 1, 1])
    teams = np.array([1, 0, 1, 0])
    draws = {tuple(assignment.draw(teams, generator(seed)).tolist()) for seed in range(50)}
    assert draws == {(True, False, True, False), (False, True, False, True)}
    assert assignment.num_learners == 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_share_that_leaves_a_side_without_agents_is_refused_with_shares_that_do_not(share):
    with pytest.raises(ConfigError, match=r"leaves none to the (learner|opponent).*0.25, 0.5, 0.75, or 1"):
        FractionAssignment(share, 4)


def test_the_whole_share_is_no_mistake():
    assert FractionAssignment(1.0, 1).draw(np.zeros(1, int), generator()).all()


@pytest.mark.parametrize("teams", [[0, 0, 0], [0, 0, 1]])
def test_teams_need_several_teams_of_one_size(teams):
    with pytest.raises(ConfigError, match="assignment=fraction"):
        TeamAssignment(0.5, teams)


@pytest.mark.parametrize(
    ("environment", "teams"),
    [("navigation/simple", [0]), ("memory/memory_one_apple", None), ("laser_tag", [0] * 4 + [1] * 4)],
)
def test_the_teams_of_an_environment_are_known_before_it_runs(environment, teams):
    found = teams_of(find_environment(environment))
    assert found == (teams or [0] * len(found)) != []
