"""The seeds of episodes."""

import pytest

from metta_cli.environments.seeds import EpisodeSeeds

EPISODES = range(2000)


@pytest.mark.parametrize(
    ("seed", "method", "episode", "digest"),
    [
        # printf 0/map/0 | b2sum -l 64
        (0, "map_seed", 0, "3fba198243d7fcdf"),
        (0, "map_seed", 1, "cfebb27cd63ee1d5"),
        (7, "simulation_seed", 12, "637d21109774e794"),
    ],
)
def test_a_seed_is_the_same_on_every_machine(seed, method, episode, digest):
    expected = int.from_bytes(bytes.fromhex(digest), "little") >> 33
    assert getattr(EpisodeSeeds(seed), method)(episode) == expected


def test_seeds_are_what_mettagrid_takes():
    seeds = EpisodeSeeds(3)
    drawn = [draw(episode) for episode in EPISODES for draw in (seeds.map_seed, seeds.simulation_seed)]
    assert min(drawn) >= 0
    assert 2**30 < max(drawn) < 2**31  # all of the range is used


def test_maps_simulations_episodes_and_runs_do_not_share_seeds():
    drawn = []
    for seed in (0, 1):
        seeds = EpisodeSeeds(seed)
        drawn += [seeds.map_seed(episode) for episode in EPISODES]
        drawn += [seeds.simulation_seed(episode) for episode in EPISODES]
    # 8000 draws of 31 bits: 0.015 collisions are expected.
    assert len(set(drawn)) >= len(drawn) - 1


def test_a_pool_has_as_many_maps_as_it_says_all_used_about_equally():
    seeds = EpisodeSeeds(0, pool_size=16)
    drawn = [seeds.map_seed(episode) for episode in EPISODES]
    counts = [drawn.count(map_seed) for map_seed in set(drawn)]
    assert len(counts) == 16
    assert min(counts) > 80  # 125 on average; 4 standard deviations either way
    assert max(counts) < 170


def test_a_pool_does_not_change_the_simulation_seeds():
    assert EpisodeSeeds(5, pool_size=4).simulation_seed(9) == EpisodeSeeds(5).simulation_seed(9)


def test_staggered_first_episodes_end_uniformly():
    seeds = EpisodeSeeds(1)
    drawn = [seeds.first_episode_steps(slot, 50) for slot in range(5000)]
    assert sorted(set(drawn)) == list(range(1, 51))
    assert max(drawn.count(step) for step in range(1, 51)) < 150  # 100 on average


def test_a_slot_sees_all_of_a_pool_also_when_the_number_of_slots_is_a_multiple_of_it():
    seeds = EpisodeSeeds(0, pool_size=8)
    assert len({seeds.map_seed(round_ * 16 + 3) for round_ in range(100)}) == 8
