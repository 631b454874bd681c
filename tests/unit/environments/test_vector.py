"""Many environments as one."""

from collections import defaultdict

import numpy as np
import pytest
from mettagrid.config.mettagrid_c_config import convert_to_cpp_game_config, rename_map_agents
from mettagrid.mettagrid_c import MettaGrid

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.environments.scripted import ScriptedPlayer
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import ConfigError, MettaError, UnknownNameError

LASER_TAG = EnvironmentSpec(name="laser_tag", builder="laser_tag", args={"max_steps": 12, "size": 15})
ROOM = EnvironmentSpec(name="room", builder="mean_distance", args={"max_steps": 9, "num_agents": 2})
ARENA = EnvironmentSpec(name="arena", builder="arena", args={"max_steps": 15, "combat": True})


def random_actions(environment, num_steps, seed=0):
    shape = (num_steps, environment.num_agents)
    return np.random.default_rng(seed).integers(0, environment.interface.num_actions, shape)


def record(environment, actions):
    """Return copies of everything that can be seen in each step, and the finished episodes."""
    environment.reset()
    steps, episodes = [views(environment)], []
    for step_actions in actions:
        *_, finished = environment.step(step_actions)
        steps.append(views(environment))
        episodes += finished
    return steps, episodes


def views(environment):
    names = ("observations", "final_observations", "rewards", "terminals", "truncations", "teams", "scripted")
    return {name: getattr(environment, name).copy() for name in names}


def plain(episode):
    fields = dict(vars(episode))
    return fields | {"agent_returns": fields["agent_returns"].tolist(), "teams": fields["teams"].tolist()}


class StandAlone:
    """One environment in arrays of its own, one episode: what the vectorized ones are compared with."""

    def __init__(self, spec, map_seed, simulation_seed):
        config = build(spec)
        game, agents = config.game, config.game.num_agents
        cpp_config, renames = convert_to_cpp_game_config(game)
        builder = game.map_builder.model_copy(update={"seed": map_seed})
        cells = rename_map_agents(builder.create().build_for_num_agents(agents).grid.tolist(), renames)
        self.simulator = MettaGrid(cpp_config, cells, simulation_seed)
        self.observations = np.zeros((agents, game.obs.num_tokens, 3), np.uint8)
        self.rewards = np.zeros(agents, np.float32)
        self.terminals, self.truncations = np.zeros(agents, bool), np.zeros(agents, bool)
        self.primary, self.vibes = np.zeros(agents, np.int32), np.zeros(agents, np.int32)
        self.num_primary = sum(not a.name.startswith("change_vibe") for a in game.actions.actions())
        self.simulator.set_buffers(
            self.observations, self.terminals, self.truncations, self.rewards, self.primary, self.vibes
        )

    def step(self, actions):
        for agent, action in enumerate(actions):
            self.primary[agent] = action if action < self.num_primary else 0
            self.vibes[agent] = action if action >= self.num_primary else 0
        self.simulator.step()

    def teams(self):
        things = self.simulator.grid_objects().values()
        agents = {thing["agent_id"]: thing["group_id"] for thing in things if "agent_id" in thing}
        return [agents[agent] for agent in sorted(agents)]


@pytest.mark.parametrize("spec", [LASER_TAG, ROOM, ARENA], ids=lambda spec: spec.name)
def test_every_episode_is_that_of_a_stand_alone_simulator_with_its_seeds(spec):
    num_environments, seed = 3, 5
    seeds = EpisodeSeeds(seed)
    with VectorEnvironment(spec, num_environments=num_environments, seed=seed) as environment:
        agents = environment.agents_per_environment
        actions = random_actions(environment, 40)
        steps, episodes = record(environment, actions)
    finished = {(episode.environment, episode.episode): episode for episode in episodes}
    assert len(finished) == num_environments * (40 // spec.args["max_steps"])
    for slot in range(num_environments):
        rows = slice(slot * agents, (slot + 1) * agents)
        episode = slot
        alone = StandAlone(spec, seeds.map_seed(episode), seeds.simulation_seed(episode))
        np.testing.assert_array_equal(steps[0]["observations"][rows], alone.observations)
        returns = np.zeros(agents)
        for step, step_actions in enumerate(actions, start=1):
            seen = {name: array[rows] for name, array in steps[step].items()}
            teams = alone.teams()
            alone.step(step_actions[rows])
            returns += alone.rewards
            np.testing.assert_array_equal(seen["rewards"], alone.rewards)
            np.testing.assert_array_equal(seen["truncations"], alone.truncations)
            np.testing.assert_array_equal(seen["terminals"], alone.terminals)
            if alone.truncations.all():
                np.testing.assert_array_equal(seen["final_observations"], alone.observations)
                account = finished[slot, episode]
                np.testing.assert_allclose(account.agent_returns, returns, rtol=1e-5)
                assert account.teams.tolist() == teams
                assert account.num_steps == spec.args["max_steps"]
                assert (account.truncated, account.is_cut) == (True, False)
                stats = alone.simulator.get_episode_stats()
                assert (account.game_stats, account.agent_stats) == (stats["game"], stats["agent"])
                episode += num_environments
                alone = StandAlone(spec, seeds.map_seed(episode), seeds.simulation_seed(episode))
                returns = np.zeros(agents)
            np.testing.assert_array_equal(seen["observations"], alone.observations)
            assert seen["teams"].tolist() == alone.teams()


@pytest.mark.parametrize(("spec", "num_environments"), [(LASER_TAG, 3), (ROOM, 5)], ids=["laser_tag", "room"])
def test_the_number_of_workers_changes_nothing(spec, num_environments):
    results = []
    for num_workers in (0, 1, 2):
        with VectorEnvironment(
            spec,
            num_environments=num_environments,
            num_workers=num_workers,
            seed=2,
            stagger_episodes=True,
            scripted_actions=spec is ROOM,
            map_pool_size=3,
        ) as environment:
            results.append(record(environment, random_actions(environment, 35)))
    steps, episodes = results[0]
    assert len(episodes) >= 2 * num_environments
    for other_steps, other_episodes in results[1:]:
        for step, other in zip(steps, other_steps, strict=True):
            for name in step:
                np.testing.assert_array_equal(other[name], step[name], err_msg=name)
        assert [plain(episode) for episode in other_episodes] == [plain(episode) for episode in episodes]


def test_flags_of_an_ended_episode_are_gone_after_the_next_step():
    with VectorEnvironment(ROOM, num_environments=2) as environment:
        environment.reset()
        noop = np.zeros(environment.num_agents, int)
        dones = [environment.step(noop)[3].copy() for _ in range(20)]
    assert [done.all() for done in dones] == [step % 9 == 8 for step in range(20)]
    assert [done.any() for done in dones] == [done.all() for done in dones]


def test_an_episode_that_ends_by_rule_is_a_terminal(monkeypatch):
    def build_terminating(spec):
        config = build(spec)
        config.game.episode_truncates = False
        return config

    monkeypatch.setattr("metta_cli.environments.vector.build", build_terminating)
    with VectorEnvironment(ROOM, num_environments=2) as environment:
        environment.reset()
        for _ in range(9):
            _, _, terminals, truncations, finished = environment.step(np.zeros(4, int))
    assert terminals.all()
    assert not truncations.any()
    assert [episode.truncated for episode in finished] == [False, False]


def test_staggered_first_episodes_are_cut_where_their_seed_says_and_later_ones_are_whole():
    max_steps = 4
    spec = LASER_TAG.model_copy(update={"args": LASER_TAG.args | {"max_steps": max_steps}})
    seeds = EpisodeSeeds(8)
    firsts = [seeds.first_episode_steps(slot, max_steps) for slot in range(6)]
    assert set(firsts) == {1, 2, 3, max_steps}
    with VectorEnvironment(spec, num_environments=6, seed=8, stagger_episodes=True) as environment:
        record(environment, random_actions(environment, 3))
        _, episodes = record(environment, random_actions(environment, 14))  # after another reset
    lengths = defaultdict(list)
    for episode in episodes:
        lengths[episode.environment].append((episode.num_steps, episode.is_cut, episode.truncated))
    for slot, first in enumerate(firsts):
        assert lengths[slot][0] == (first, first < max_steps, True)
        assert set(lengths[slot][1:]) == {(max_steps, False, True)}


def test_episodes_are_numbered_round_by_round_over_the_slots():
    with VectorEnvironment(ROOM, num_environments=3, first_episode=100) as environment:
        assert environment.next_episode == 100
        _, episodes = record(environment, random_actions(environment, 27))
        assert environment.next_episode == 112
    assert [episode.episode for episode in episodes] == list(range(100, 109))
    assert [episode.environment for episode in episodes] == [0, 1, 2] * 3


def test_a_resumed_environment_plays_no_episode_again():
    with VectorEnvironment(ROOM, num_environments=3, seed=1) as environment:
        _, before = record(environment, random_actions(environment, 20))
        resumed_at = environment.next_episode
    with VectorEnvironment(ROOM, num_environments=3, seed=1, first_episode=resumed_at) as environment:
        _, after = record(environment, random_actions(environment, 20))
    assert max(episode.episode for episode in before) < min(episode.episode for episode in after)
    assert not {episode.map_seed for episode in before} & {episode.map_seed for episode in after}


def test_reset_with_a_seed_starts_over_and_without_one_goes_on():
    with VectorEnvironment(ROOM, num_environments=2, seed=1) as environment:
        first = environment.reset()[0].copy()
        environment.step(np.zeros(4, int))
        going_on = environment.reset()[0].copy()
        assert environment.next_episode == 4
        again = environment.reset(seed=1)[0].copy()
        other = environment.reset(seed=2)[0].copy()
    np.testing.assert_array_equal(again, first)
    assert (going_on != first).any()
    assert (other != first).any()


def test_reset_clears_what_the_last_episodes_left():
    with VectorEnvironment(ROOM, num_environments=2) as environment:
        environment.reset()
        for _ in range(9):
            environment.step(np.zeros(4, int))
        assert environment.truncations.all()
        environment.reset()
        assert not environment.truncations.any()
        assert not environment.rewards.any()


def test_a_map_pool_limits_the_maps_and_not_the_simulations():
    spec = ROOM.model_copy(update={"map_pool_size": 2})
    with VectorEnvironment(spec, num_environments=4) as environment:
        _, episodes = record(environment, random_actions(environment, 45))
    assert len({episode.map_seed for episode in episodes}) == 2
    assert len({episode.simulation_seed for episode in episodes}) == len(episodes)


def test_actions_reach_the_buffers_as_the_codec_says():
    with VectorEnvironment(LASER_TAG, num_environments=2) as environment:
        environment.reset()
        actions = np.arange(environment.num_agents) % environment.interface.num_actions
        assert actions.max() >= environment.codec.num_primary
        environment.step(actions)
        primary, vibes = environment.codec.split(actions)
        np.testing.assert_array_equal(environment._slab.primary_actions, primary)
        np.testing.assert_array_equal(environment._slab.vibe_actions, vibes)
        np.testing.assert_array_equal(environment.actions, actions)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.array([0, 0, 5, 0]), "action 5 of agent 2 does not exist: 'room' has actions 0 to 4"),
        (np.array([0, -1, 0, 0]), "action -1 of agent 1"),
        (np.array([0, 2**32, 0, 0]), "action 4294967296 of agent 1"),
        (np.zeros(3, int), r"must be integers of shape \(4,\), not int64 of shape \(3,\)"),
        (np.zeros((4, 1), int), r"of shape \(4, 1\)"),
        (np.zeros(4), "not float64"),
    ],
)
def test_wrong_actions_are_refused_and_nothing_moves(actions, message):
    with VectorEnvironment(ROOM, num_environments=2) as environment:
        environment.reset()
        before = environment.observations.copy()
        with pytest.raises(ValueError, match=message):
            environment.step(actions)
        np.testing.assert_array_equal(environment.observations, before)
        environment.step(np.zeros(4, int))  # and it goes on


def test_max_used_tokens_is_the_longest_observation():
    with VectorEnvironment(LASER_TAG, num_environments=3) as environment:
        environment.reset()
        counts = set()
        for actions in random_actions(environment, 30):
            environment.step(actions)
            used = max(int((tokens[:, 0] != 255).sum()) for tokens in environment.observations)
            assert environment.max_used_tokens() == used
            counts.add(used)
        assert len(counts) > 3
        environment.observations.fill(255)
        assert environment.max_used_tokens() == 0
        environment.observations[1].fill(7)
        assert environment.max_used_tokens() == environment.interface.num_tokens


def test_scripted_actions_are_those_of_the_scripted_player_of_the_running_episode():
    seeds = EpisodeSeeds(6)
    with VectorEnvironment(ROOM, num_environments=1, seed=6, scripted_actions=True) as environment:
        environment.reset()
        for episode in range(2):
            alone = StandAlone(ROOM, seeds.map_seed(episode), seeds.simulation_seed(episode))
            player = ScriptedPlayer(alone.simulator, environment.interface.action_names, ROOM.builder)
            for _ in range(9):
                np.testing.assert_array_equal(environment.scripted, player.actions())
                actions = environment.scripted.copy()
                assert actions.any()
                environment.step(actions)
                alone.step(actions)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_environment_without_a_scripted_player_says_so(monkeypatch, num_workers):
    # A game that nobody knows how to play: the builder is looked up under its name in the task.
    monkeypatch.setattr("metta_cli.environments.vector.build", lambda spec: build(ROOM))
    spec = EnvironmentSpec(name="mystery", builder="mystery")
    with (
        VectorEnvironment(
            spec, num_environments=1, num_workers=num_workers, scripted_actions=True
        ) as environment,
        pytest.raises(UnknownNameError, match="scripted player"),
    ):
        environment.reset()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_send_and_recv_are_a_step_in_two_parts(num_workers):
    with VectorEnvironment(ROOM, num_environments=2, num_workers=num_workers, seed=3) as environment:
        actions = random_actions(environment, 20)
        steps, episodes = record(environment, actions)
    with VectorEnvironment(ROOM, num_environments=2, num_workers=num_workers, seed=3) as environment:
        infos = []
        environment.async_reset()
        np.testing.assert_array_equal(environment.recv()[0], steps[0]["observations"])
        for step_actions, step in zip(actions, steps[1:], strict=True):
            environment.send(step_actions)
            observations, rewards, terminals, truncations, *_, step_infos, agents, masks = environment.recv()
            np.testing.assert_array_equal(observations, step["observations"])
            np.testing.assert_array_equal(rewards, step["rewards"])
            np.testing.assert_array_equal(terminals | truncations, step["terminals"] | step["truncations"])
            assert agents.tolist() == [0, 1, 2, 3]
            assert masks.all()
            infos += step_infos
    assert infos == [episode.to_info() for episode in episodes]
    assert infos


def test_an_info_holds_means_over_agents():
    with VectorEnvironment(ROOM, num_environments=1) as environment:
        _, (episode, *_) = record(environment, random_actions(environment, 9))
    info = episode.to_info()
    assert info["episode_length"] == 9
    assert info["episode_return"] == pytest.approx(float(np.mean(episode.agent_returns)))
    visits = [stats["cell.visited"] for stats in episode.agent_stats]
    assert info["agent"]["cell.visited"] == pytest.approx(sum(visits) / len(visits))


def test_calls_in_the_wrong_order_are_refused():
    environment = VectorEnvironment(ROOM, num_environments=1)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(2, int))
    with pytest.raises(RuntimeError, match="nothing was sent"):
        environment.recv()
    environment.async_reset()
    with pytest.raises(RuntimeError, match="recv"):
        environment.send(np.zeros(2, int))
    environment.recv()
    environment.step(np.zeros(2, int))
    environment.close()
    environment.close()
    with pytest.raises(RuntimeError, match="closed"):
        environment.reset()
    assert environment.observations.any()  # still readable


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_environments": 0}, "num_environments is 0"),
        ({"num_environments": 2, "num_workers": 3}, "num_workers is 3 for 2 environments .*0 .* to 2"),
        ({"num_environments": 2, "num_workers": -1}, "num_workers is -1"),
        ({"num_environments": 2, "first_episode": -1}, "first_episode is -1"),
        ({"num_environments": 2, "map_pool_size": -1}, "map_pool_size is -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers, message):
    with pytest.raises(ConfigError, match=message):
        VectorEnvironment(ROOM, **numbers)


def test_a_map_without_room_for_the_agents_says_where_it_was_made(monkeypatch):
    config = build(ROOM)
    config.game.map_builder.instances = 1
    monkeypatch.setattr("metta_cli.environments.vector.build", lambda spec: config)
    environment = VectorEnvironment(ROOM, num_environments=2, first_episode=30, seed=8)
    seeds = EpisodeSeeds(8)
    with pytest.raises(MettaError) as caught:
        environment.reset()
    for fact in (
        "'room'",
        "slot 0",
        "episode 30",
        "seed 8",
        f"map seed {seeds.map_seed(30)}",
        f"simulation seed {seeds.simulation_seed(30)}",
        "step 0",
        "spawn points",
    ):
        assert fact in caught.value.message
    with pytest.raises(RuntimeError, match="closed"):
        environment.reset()
