"""Suites hand down what they set."""

import pytest
from pydantic import ValidationError

from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig


def suite(**values):
    return SimulationSuiteConfig(**({"name": "s", "simulations": {"a": {"env": "x"}}} | values))


def test_a_simulation_has_what_the_suite_sets():
    child = suite(num_episodes=3, max_time_s=5.0).simulations["a"]
    assert (child.num_episodes, child.max_time_s) == (3, 5.0)


def test_a_simulation_keeps_what_it_sets_itself():
    child = suite(num_episodes=3, simulations={"a": {"env": "x", "num_episodes": 7}}).simulations["a"]
    assert child.num_episodes == 7


def test_a_simulation_that_sets_the_default_keeps_it():
    default = SingleEnvSimulationConfig(env="x").num_episodes
    given = SingleEnvSimulationConfig(env="x", num_episodes=default)
    inherited = SingleEnvSimulationConfig(env="x")
    simulations = suite(num_episodes=3, simulations={"a": given, "b": inherited}).simulations
    assert (simulations["a"].num_episodes, simulations["b"].num_episodes) == (default, 3)


def test_what_neither_sets_is_the_default():
    assert suite().simulations["a"] == SingleEnvSimulationConfig(env="x")


def test_overrides_of_the_environment_are_merged_and_the_simulation_wins():
    child = suite(
        env_overrides={"size": 1, "walls": 2},
        simulations={"a": {"env": "x", "env_overrides": {"size": 3}}},
    ).simulations["a"]
    assert child.env_overrides == {"size": 3, "walls": 2}


def test_the_simulations_that_were_handed_in_stay_as_they_were():
    given = SingleEnvSimulationConfig(env="x")
    suite(num_episodes=3, simulations={"a": given})
    assert given.num_episodes == SingleEnvSimulationConfig(env="x").num_episodes


@pytest.mark.parametrize(
    "values",
    [
        {"simulations": {}},
        {"simulations": {"a": "x"}},
        {"simulations": {"a": {}}},
        {"simulations": {"a": {"env": "x", "episodes": 3}}},
        {"simulations": ["x"]},
        {"num_episodes": 0},
        {"num_episodes": "many"},
        {"env_overrides": 3},
        {"max_time_s": 0},
        {"name": None},
        {"speed": 3},
    ],
)
def test_suites_that_make_no_sense_are_refused(values):
    with pytest.raises(ValidationError):
        suite(**values)


def test_a_suite_survives_its_own_data():
    original = suite(num_episodes=3, env_overrides={"size": 1})
    assert SimulationSuiteConfig(**original.model_dump()) == original
