"""Environments that change their task from episode to episode."""

import numpy as np
import pytest

from metta_cli.config.curriculum import Task
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build, return_max
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.tasks import COMPILED_GAMES, GameCache, TaskSet
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import ConfigError, SimulatorError, UnknownNameError

ROOM = EnvironmentSpec(
    name="room", builder="mean_distance", args={"max_steps": 6, "size": 9, "mean_distance": 6}
)
GRID = EnvironmentSpec(
    name="grid", builder="grid", args={"num_agents": 1, "width": 8, "height": 8, "walls": 2}
)
TASKS = [
    Task("near", ROOM, {"altars": (1, 9), "mean_distance": (3.0, 5.0)}),
    Task("far", ROOM, {"altars": [2, 5]}),
    Task("grid", GRID.model_copy(update={"args": GRID.args | {"max_steps": 4}})),
]


class Rotation:
    """Chooses the tasks in turn, and keeps what it is told."""

    def __init__(self):
        self.next, self.episodes = 0, []

    def choose(self):
        self.next += 1
        return (self.next - 1) % len(TASKS)

    def record(self, episode):
        self.episodes.append(episode)


def play(num_workers, *, num_steps=40, **options):
    source = Rotation()
    options = {"num_environments": 5, "seed": 3, "tasks": TASKS, "task_source": source} | options
    with VectorEnvironment(ROOM, num_workers=num_workers, **options) as environment:
        environment.reset()
        seen = [environment.observations.copy()]
        choices = np.random.default_rng(0).integers(0, 5, (num_steps, environment.num_agents))
        for actions in choices:
            seen.append(environment.step(actions)[0].copy())
    return np.array(seen), source.episodes


def account(episode):
    return (episode.environment, episode.episode, episode.task, episode.parameters, episode.return_max,
            episode.num_steps, episode.agent_returns.tolist(), episode.is_cut)  # fmt: skip


def test_the_number_of_workers_changes_nothing():
    alone, alone_episodes = play(0, stagger_episodes=True)
    shared, shared_episodes = play(2, stagger_episodes=True)
    np.testing.assert_array_equal(alone, shared)
    assert [account(one) for one in alone_episodes] == [account(other) for other in shared_episodes]
    assert {episode.task for episode in alone_episodes} == {0, 1, 2}


def test_every_slot_plays_what_was_chosen_for_it():
    _, episodes = play(0)
    # Chosen for all slots before the reset and after it, then wherever an episode ended.
    slots = [*range(5), *range(5), *(episode.environment for episode in episodes)]
    chosen = {slot: [place % 3 for place, other in enumerate(slots) if other == slot] for slot in range(5)}
    played = {slot: [e.task for e in episodes if e.environment == slot] for slot in range(5)}
    assert min(len(tasks) for tasks in played.values()) >= 6
    for slot, tasks in played.items():
        assert tasks == chosen[slot][: len(tasks)]


def test_the_scripted_player_knows_the_builder_of_the_task():
    with VectorEnvironment(ROOM, num_environments=1, tasks=TASKS) as environment:
        batch = environment._stepper._batch._task
    assert [batch.builder_of(task) for task in range(3)] == ["mean_distance", "mean_distance", "grid"]


def test_an_episode_is_the_one_of_its_drawn_parameters_alone():
    seen, episodes = play(0)
    seeds = EpisodeSeeds(3)
    assert episodes
    for episode in episodes:
        task = TASKS[episode.task]
        drawn = task.draw(lambda name, number=episode.episode: seeds.fraction(name, number))
        assert episode.parameters == drawn
        assert episode.map_seed == seeds.map_seed(episode.episode)
        assert episode.return_max == return_max(task.with_arguments(**drawn))
        assert episode.num_steps == task.spec.args["max_steps"]
    episode = next(e for e in episodes if e.task == 0 and e.episode == 0)
    spec = TASKS[0].with_arguments(**episode.parameters, num_tokens=seen.shape[2])
    with VectorEnvironment(spec, num_environments=1, seed=3) as environment:
        environment.reset()
        np.testing.assert_array_equal(environment.observations, seen[0][:1])


def test_parameters_are_spread_over_their_ranges():
    seeds = EpisodeSeeds(0)
    drawn = [TASKS[0].draw(lambda name, n=n: seeds.fraction(name, n)) for n in range(2000)]
    altars = np.bincount([one["altars"] for one in drawn], minlength=10)
    assert altars[0] == 0
    assert (np.abs(altars[1:] - 2000 / 9) < 70).all()
    distances = [one["mean_distance"] for one in drawn]
    assert 3.0 <= min(distances) < 3.01
    assert 4.99 < max(distances) < 5.0
    assert abs(np.corrcoef([one["altars"] for one in drawn], distances)[0, 1]) < 0.08


def test_an_environment_of_one_task_without_ranges_is_that_environment():
    plain = VectorEnvironment(ROOM, num_environments=3, seed=1, stagger_episodes=True)
    tasks = VectorEnvironment(
        ROOM, num_environments=3, seed=1, stagger_episodes=True, tasks=[Task("room", ROOM)]
    )
    assert plain.interface == tasks.interface
    plain.reset(), tasks.reset()
    for actions in np.random.default_rng(0).integers(0, 5, (30, 3)):
        for one, other in zip(plain.step(actions)[:4], tasks.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_tokens_are_those_of_the_largest_task():
    tasks = TaskSet([Task("few", ROOM, {"altars": (1, 2)}), Task("many", ROOM, {"altars": (1, 20)})])
    bounds = [build(Task("", ROOM).with_arguments(altars=altars)).game.obs.num_tokens for altars in (1, 20)]
    assert bounds[0] < bounds[1] == tasks.interface.num_tokens


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([Task("a", ROOM), Task("b", ROOM, {"num_agents": [1, 2]})], "'a' and 'b' differ in agents per env"),
        (
            [Task("a", ROOM, {"observation_size": (5, 7)})],
            "'a' and 'a' differ in observation height: 5 and 7",
        ),
        (
            [Task("a", ROOM), Task("b", EnvironmentSpec(builder="laser_tag"))],
            "'a' and 'b' differ in action names",
        ),
        ([Task("a", ROOM, {"altar": (1, 2)})], "no argument 'altar'"),
        ([Task("a", ROOM, {"altars": (1, 99)})], "crowd a room"),
        ([Task("a", ROOM, {"altars": [1, 99, 2]})], "crowd a room"),
        ([Task("a", ROOM, {"altars": (1.5, 2)})], "altars=1.5"),
        ([Task("a", ROOM), Task("a", ROOM)], "two tasks are called 'a'"),
        ([], "without tasks"),
    ],
)
def test_tasks_that_do_not_fit_are_refused_before_anything_starts(tasks, message):
    with pytest.raises(ConfigError, match=message):
        VectorEnvironment(ROOM, num_environments=2, num_workers=2, tasks=tasks)


def test_an_unknown_builder_is_named():
    with pytest.raises(UnknownNameError, match="gird"):
        TaskSet([Task("a", EnvironmentSpec(builder="gird"))])


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("index", [3, -1])
def test_a_task_that_does_not_exist_ends_the_run_with_its_number(num_workers, index):
    with VectorEnvironment(ROOM, num_environments=1, num_workers=num_workers, tasks=TASKS) as environment:
        environment.next_tasks[0] = index
        with pytest.raises(SimulatorError, match=f"next task {index}, but there are 3 tasks"):
            environment.reset()


def test_errors_name_the_task():
    tasks = [TASKS[0], Task("crowded", GRID, {"altars": (1, 500)})]
    with pytest.raises(ConfigError, match=r"503 .* do not fit"):
        TaskSet(tasks)
    small = Task("unlucky", GRID, {"num_tokens": [300, 400]})
    with VectorEnvironment(ROOM, num_environments=1, tasks=[TASKS[0], small]) as environment:
        environment.next_tasks[0] = 1
        environment.reset()
        assert environment.tasks.tolist() == [1]
        environment.step(np.zeros(1, int))
        environment._stepper._batch._simulators[0].step = None
        with pytest.raises(SimulatorError, match=r"environment 'unlucky', slot 0, episode 0, .* step 2"):
            environment.step(np.zeros(1, int))


def test_only_so_many_games_are_kept():
    task = Task("room", ROOM, {"mean_distance": (3.0, 5.0)})
    cache = GameCache([task], num_tokens=200, keep_maps=False)
    seeds = EpisodeSeeds(0)
    first = cache.game(0, 0, seeds)
    assert cache.game(0, 0, seeds) is first
    for episode in range(COMPILED_GAMES):
        cache.game(0, episode + 1, seeds)
    assert len(cache._games) == COMPILED_GAMES
    assert cache.game(0, 0, seeds) is not first


def test_the_scripted_player_plays_the_task_at_hand():
    with VectorEnvironment(
        ROOM, num_environments=3, tasks=TASKS, seed=2, scripted_actions=True
    ) as environment:
        environment.next_tasks[:] = [0, 1, 2]
        environment.reset()
        returns = {}
        for _ in range(6):
            for episode in environment.step(environment.scripted.copy())[-1]:
                returns[episode.task] = float(episode.agent_returns[0])
    assert set(returns) == {0, 1, 2}
    assert sum(returns.values()) > 0


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ROOM, 3.0),
        (EnvironmentSpec(builder="terrain", args={"altars": 7, "heart_reward": 0.5}), 3.5),
        (EnvironmentSpec(builder="grid", args={"altars": 6, "num_agents": 4}), 1.5),
        (EnvironmentSpec(builder="grid", args={"restock_steps": 9}), None),
        (EnvironmentSpec(builder="one_apple"), 0.333),
        (EnvironmentSpec(builder="arena"), None),
    ],
)
def test_what_an_episode_can_give_at_most(spec, expected):
    assert return_max(spec) == expected
