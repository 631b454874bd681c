"""Playing on the real simulator."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mettagrid.simulator import Simulation
from torch import nn

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.simulation import SimulationSuiteConfig, SingleEnvSimulationConfig
from metta_cli.environments.actions import ActionCodec
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.errors import CheckpointError
from metta_cli.evaluation import episodes as episodes_module
from metta_cli.evaluation.episodes import Recording, environment_of, environment_seed, play_simulation
from metta_cli.evaluation.suite import (
    BaselineEpisodes,
    evaluate_policy,
    play_suite,
    policy_source,
    suite_differences,
)
from metta_cli.policies.registry import create_policy
from metta_cli.populations.players import BUILTIN_PLAYERS, PlayerSource, PolicyPlayer


def laser_tag(num_episodes=3, max_steps=60, **options):
    overrides = {"max_steps": max_steps, "agents_per_team": 2}
    return SingleEnvSimulationConfig(
        env="laser_tag", num_episodes=num_episodes, env_overrides=overrides, **options
    )


def navigation(num_episodes=3, **options):
    return SingleEnvSimulationConfig(env="navigation/simple", num_episodes=num_episodes, **options)


def interface_for(simulation):
    return interface_of(build(environment_of(simulation)))


def fast(simulation, seed=0):
    torch.manual_seed(seed)
    return create_policy("fast", interface_for(simulation), {})


class Dance(nn.Module):
    """Repeats a fixed dance that starts anew with every episode; remembers the starts that it was told."""

    def __init__(self, num_actions):
        super().__init__()
        self.num_actions = num_actions
        self.starts = []

    def initial_state(self, num_agents, device):
        return {"steps": torch.zeros(1, num_agents, 1)}

    def forward(self, td, state=None, action=None):
        self.starts.append(td["dones"].clone())
        state["steps"] *= (~td["dones"])[None, :, None]
        index = (state["steps"][0, :, 0].long() * 7 // 3) % self.num_actions
        log_probs = torch.full((len(index), self.num_actions), -torch.inf)
        log_probs.scatter_(1, index[:, None], 0.0)
        td["full_log_probs"] = log_probs
        state["steps"] += 1
        return td


@pytest.mark.parametrize("player", ["random", "noop", "scripted", "fast"])
def test_scores_are_the_same_for_0_1_and_2_workers(player):
    simulation = laser_tag(num_episodes=5, max_steps=40)
    if player == "fast":
        policy = fast(simulation)
        source = policy_source(policy, interface_for(simulation), device="cpu", name="fast")
    else:
        source = BUILTIN_PLAYERS[player]
    played = [play_simulation(simulation, source, seed=3, num_workers=workers) for workers in (0, 1, 2)]
    assert played[0] == played[1] == played[2]


def test_another_seed_plays_other_episodes():
    first, second = (play_simulation(laser_tag(), BUILTIN_PLAYERS["random"], seed=seed) for seed in (0, 1))
    assert [each.map_seed for each in first] != [each.map_seed for each in second]
    assert [each.agent_stats for each in first] != [each.agent_stats for each in second]


def test_exactly_the_first_n_episodes_are_played_over_several_rounds(monkeypatch):
    monkeypatch.setattr(episodes_module, "MAX_SLOTS", 4)
    counted = []
    played = play_simulation(
        navigation(num_episodes=10), BUILTIN_PLAYERS["random"], seed=5, on_episode=counted.append
    )
    seeds = EpisodeSeeds(environment_seed(5))
    assert [each.episode for each in played] == list(range(10))
    assert [each.map_seed for each in played] == [seeds.map_seed(n) for n in range(10)]
    assert [each.simulation_seed for each in played] == [seeds.simulation_seed(n) for n in range(10)]
    assert counted[-1] == 10
    assert counted == sorted(set(counted))


@pytest.mark.parametrize("player", ["random", "scripted"])
def test_a_few_episodes_are_the_first_of_many(player, monkeypatch):
    source = BUILTIN_PLAYERS[player]
    few = play_simulation(laser_tag(num_episodes=3), source, seed=2)
    monkeypatch.setattr(episodes_module, "MAX_SLOTS", 2)
    many = play_simulation(laser_tag(num_episodes=5), source, seed=2)
    assert many[:3] == few


def test_memory_starts_anew_with_every_episode_of_a_slot(monkeypatch):
    simulation = laser_tag(num_episodes=6, max_steps=30)
    num_actions = interface_for(simulation).num_actions

    def play(max_slots):
        monkeypatch.setattr(episodes_module, "MAX_SLOTS", max_slots)
        policy = Dance(num_actions)
        source = PlayerSource("dance", lambda interface, n: PolicyPlayer(policy, n))
        return play_simulation(simulation, source, seed=0), policy.starts

    at_once, starts = play(6)
    in_turns, starts_in_turns = play(2)  # three episodes per slot
    assert in_turns == at_once
    assert [int(each.sum()) for each in starts] == [24] + [0] * 29
    assert [step for step, each in enumerate(starts_in_turns) if each.any()] == [0, 30, 60]


def test_recorded_actions_give_the_same_returns_in_mettagrids_own_simulation():
    simulation = laser_tag(num_episodes=4, max_steps=200)
    recording = Recording(episode=2)
    played = play_simulation(simulation, BUILTIN_PLAYERS["random"], seed=8, recording=recording)
    assert recording.result == played[2]
    assert len(recording.actions) == played[2].num_steps == 200

    spec = environment_of(simulation)
    config = build(spec)
    codec = ActionCodec(interface_of(config).action_names)
    config.game.map_builder.seed = played[2].map_seed
    theirs = Simulation(config, seed=played[2].simulation_seed)
    returns = np.zeros(4)
    for actions in recording.actions:
        theirs._c_sim.actions()[:], theirs._c_sim.vibe_actions()[:] = codec.split(actions)
        theirs._c_sim.step()
        returns += theirs._c_sim.rewards()
    assert played[2].agent_returns == pytest.approx(returns)
    theirs_of_team = {
        agent["agent_id"]: agent["group_id"]
        for agent in theirs._c_sim.grid_objects().values()
        if "agent_id" in agent
    }
    assert dict(enumerate(played[2].teams)) == theirs_of_team
    # the tokens of the first observation are counted once for every time that buffers are attached
    theirs_of_game = theirs._c_sim.get_episode_stats()["game"]
    for stats in (theirs_of_game, ours := dict(played[2].game_stats)):
        del stats["tokens_written"], stats["tokens_free_space"]
    assert ours == pytest.approx(theirs_of_game)


def test_noop_gets_nothing_and_scripted_nearly_everything_in_simple_navigation():
    scores = {
        name: np.mean([e.score for e in play_simulation(navigation(8), BUILTIN_PLAYERS[name], seed=0)])
        for name in ("noop", "scripted")
    }
    assert scores["noop"] == 0.0
    assert scores["scripted"] > 0.9


def test_expired_time_limit_ends_after_the_episodes_that_have_started(monkeypatch):
    monkeypatch.setattr(episodes_module, "MAX_SLOTS", 2)
    simulation = navigation(num_episodes=10, max_time_s=1e-9)
    suite = SimulationSuiteConfig(name="cut", simulations={"navigation/simple": simulation})
    result = play_suite(suite, BUILTIN_PLAYERS["random"], seed=0)
    assert [each.episode for each in result.simulations[0].episodes] == [0, 1]
    assert not result.simulations[0].is_complete


def test_baselines_play_the_same_episodes_and_only_once():
    suite = SimulationSuiteConfig(name="s", simulations={"laser_tag/simple": laser_tag(num_episodes=2)})
    told = []

    def progress(simulation, player, num_finished, num_episodes):
        told.append((simulation, player, num_finished, num_episodes))

    baselines = BaselineEpisodes()
    options = {"seed": 1, "baselines": baselines, "progress": progress}
    first = play_suite(suite, BUILTIN_PLAYERS["noop"], **options)
    second = play_suite(suite, BUILTIN_PLAYERS["noop"], **options)
    assert first == second
    assert [player for _, player, finished, _ in told if finished == 2] == [
        "noop",
        "random",
        "scripted",
        "noop",
    ]
    (simulation,) = first.simulations
    for played in simulation.baselines.values():
        assert [e.map_seed for e in played] == [e.map_seed for e in simulation.episodes]
    random = play_suite(suite, BUILTIN_PLAYERS["random"], seed=1)
    assert random.simulations[0].episodes == simulation.baselines["random"]


def test_a_baseline_that_is_evaluated_is_not_played_again():
    suite = SimulationSuiteConfig(name="s", simulations={"navigation/simple": navigation(2)})
    players = []
    result = play_suite(
        suite,
        BUILTIN_PLAYERS["scripted"],
        seed=1,
        baselines=BaselineEpisodes(),
        progress=lambda simulation, player, finished, total: players.append(player),
    )
    (simulation,) = result.simulations
    assert simulation.baselines["scripted"] == simulation.episodes
    assert simulation.normalized_score == pytest.approx(1.0)
    assert set(players) == {"scripted", "random"}
    assert players.count("scripted") == players.count("random")


def test_evaluation_leaves_modes_gradients_and_random_numbers_as_they_were():
    simulation = navigation(2)
    policy = fast(simulation)
    policy.train()
    next(policy.children()).eval()  # a frozen part
    modes = [module.training for module in policy.modules()]
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)
    suite = SimulationSuiteConfig(name="s", simulations={"navigation/simple": simulation})
    evaluate_policy(policy, interface_for(simulation), suite, seed=0)
    assert torch.equal(torch.rand(4), expected)
    assert [module.training for module in policy.modules()] == modes
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_policy_is_fitted_by_name_to_each_environment():
    trained_on, played = navigation(2), laser_tag(2)
    passport = interface_for(trained_on)
    suite = SimulationSuiteConfig(
        name="s", simulations={"laser_tag": played, "navigation/simple": trained_on}
    )
    differences = suite_differences(passport, suite, "my_run")
    assert list(differences) == ["laser_tag"]
    assert any("change_vibe" in line or "type:" in line for line in differences["laser_tag"])
    result = evaluate_policy(fast(trained_on), passport, suite, seed=0, name="my_run")
    assert [len(each.episodes) for each in result.simulations] == [2, 2]


class Always(nn.Module):
    """Plays one action of its own numbering, and knows whether it was in training mode."""

    def __init__(self, action, num_actions):
        super().__init__()
        self.log_probs = torch.full((num_actions,), -torch.inf)
        self.log_probs[action] = 0.0
        self.modes = set()

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        self.modes.add(self.training)
        td["full_log_probs"] = self.log_probs.expand(len(td["dones"]), -1)
        td["values"] = torch.zeros(len(td["dones"]))
        return td


def test_actions_of_a_policy_are_read_by_name():
    simulation = laser_tag(2)
    suite = SimulationSuiteConfig(name="s", simulations={"laser_tag": simulation})
    passport = interface_for(simulation)
    reversed_names = replace(passport, action_names=passport.action_names[::-1])
    policy = Always(reversed_names.action_names.index("noop"), passport.num_actions)
    result = evaluate_policy(policy, reversed_names, suite, seed=0)
    idle = play_suite(suite, BUILTIN_PLAYERS["noop"], seed=0)
    assert result.simulations[0].episodes == idle.simulations[0].episodes


def test_policy_plays_in_evaluation_mode():
    simulation = navigation(1)
    policy = Always(0, interface_for(simulation).num_actions)
    suite = SimulationSuiteConfig(name="s", simulations={"navigation/simple": simulation})
    evaluate_policy(policy, interface_for(simulation), suite, seed=0)
    assert policy.modes == {False}
    assert policy.training


def test_policy_that_shares_no_action_or_sees_another_window_is_refused():
    simulation = navigation(1)
    suite = SimulationSuiteConfig(name="s", simulations={"navigation/simple": simulation})
    passport = interface_for(simulation)
    foreign = replace(passport, action_names=("jump", "crawl"))
    with pytest.raises(CheckpointError, match=r"my_run cannot play navigation/simple: .*none of the actions"):
        suite_differences(foreign, suite, "my_run")
    wide = replace(passport, observation_width=13)
    with pytest.raises(CheckpointError, match="11x13 for the policy, 11x11 here"):
        suite_differences(wide, suite, "my_run")


def test_overrides_of_a_simulation_reach_the_builder():
    spec = environment_of(laser_tag(max_steps=17))
    assert isinstance(spec, EnvironmentSpec)
    assert spec.args["max_steps"] == 17
    assert spec.args["size"] == 25
    assert build(spec).game.max_steps == 17
