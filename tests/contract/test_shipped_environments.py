"""Every environment that ships: it can be built and played, and its scripted baseline says something."""

import numpy as np
import pytest

from metta_cli.config.catalogue import environment_names, find_environment
from metta_cli.environments.builders import BUILDERS, build
from metta_cli.environments.guard import check, token_bound
from metta_cli.environments.vector import VectorEnvironment

MAX_STEPS = 200
"""Long games are cut to this: enough to tell a plan from chance."""
EXPECTED_NAMES = {
    "navigation/simple",
    "navigation/intermediate",
    "navigation/terrain_small",
    "navigation/terrain_medium",
    "navigation/terrain_large",
    "navigation/terrain_maps_nohearts",
    *(
        f"navigation/varied_terrain/{style}_{size}"
        for style in ("balanced", "sparse", "dense", "maze", "cylinder-world")
        for size in ("large", "medium", "small")
    ),
    "laser_tag",
    "laser_tag_small",
    "memory/memory_one_apple",
    *(f"arena/{game}_{teams}" for game in ("basic", "combat") for teams in ("2x4", "4x4", "2x8")),
}

every_environment = pytest.mark.parametrize("name", sorted(EXPECTED_NAMES))


def shortened(name):
    spec = find_environment(name)
    steps = min(spec.args["max_steps"], MAX_STEPS)
    return spec.model_copy(update={"args": spec.args | {"max_steps": steps}})


def play(spec, choose):
    """Play one episode and return its account."""
    with VectorEnvironment(spec, num_environments=1, seed=3, scripted_actions=True) as environment:
        environment.reset()
        while True:
            *_, finished = environment.step(choose(environment))
            if finished:
                return finished[0]


def by_chance(seed=0):
    rng = np.random.default_rng(seed)
    return lambda environment: rng.integers(0, environment.interface.num_actions, environment.num_agents)


def by_script(environment):
    return environment.scripted.copy()


def test_the_catalogue_is_complete():
    assert set(environment_names()) == EXPECTED_NAMES


@every_environment
def test_it_is_described(name):
    spec = find_environment(name)
    assert spec.name == name
    assert spec.description.endswith(".")
    assert len(spec.description) < 150


@every_environment
def test_it_passes_the_guard_with_room_for_every_token(name):
    config = build(find_environment(name))
    check(config, name)
    assert config.game.obs.num_tokens == token_bound(config)
    assert config.game.obs.num_tokens < 300
    assert (config.game.obs.width, config.game.obs.height) == (11, 11)


@every_environment
def test_it_runs_in_the_simulator(name):
    choose = by_chance()
    with VectorEnvironment(find_environment(name), num_environments=1, seed=1) as environment:
        environment.reset()
        most = 0
        for _ in range(50):
            observations, rewards, *_ = environment.step(choose(environment))
            most = max(most, int((observations[..., 0] != 255).sum(axis=1).max()))
            assert np.isfinite(rewards).all()
    assert 5 < most <= environment.interface.num_tokens


@every_environment
def test_the_scripted_player_beats_chance(name):
    spec = shortened(name)
    chance, script = play(spec, by_chance()), play(spec, by_script)
    if name.startswith("laser_tag"):  # what one wins another loses
        assert script.game_stats["attack.hit"] > chance.game_stats.get("attack.hit", 0) + 10
    else:
        assert script.agent_returns.mean() > chance.agent_returns.mean()


def test_every_builder_is_in_use_or_free_form():
    used = {find_environment(name).builder for name in EXPECTED_NAMES}
    assert set(BUILDERS) == used | {"grid"}
