import pytest

from metta_cli.evaluation.episodes import MAX_SLOTS, environment_seed, num_slots


@pytest.mark.parametrize(
    ("num_episodes", "slots"),
    [(1, 1), (10, 10), (32, 32), (33, 17), (64, 32), (65, 22), (100, 25)],
)
def test_slots_are_few_and_the_rounds_even(num_episodes, slots):
    assert num_slots(num_episodes) == slots
    rounds = -(-num_episodes // slots)
    assert slots <= MAX_SLOTS
    assert rounds * slots - num_episodes < rounds  # in the last round at most a slot per round idles


def test_environments_are_not_opened_with_the_seed_of_a_training_run():
    seeds = [environment_seed(seed) for seed in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert not set(seeds) & set(range(1000))
    assert environment_seed(1) == environment_seed(1)
