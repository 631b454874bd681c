"""Curricula: what they choose, what they remember, what they tell."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from metta_cli.artifacts.state_codec import decode_state, encode_state
from metta_cli.config.curriculum import LearningProgressConfig, PrioritizeRegressedConfig, ProgressiveConfig
from metta_cli.tracking.metrics import check_names
from metta_cli.training.curricula import CurriculumSource, WeightedCurriculum, score_of
from metta_cli.training.curricula_adaptive import (
    LearningProgressCurriculum,
    PrioritizeRegressedCurriculum,
    ProgressiveCurriculum,
)
from metta_cli.training.distributed import World

NAMES = [f"room;size={size};altars={altars}" for size in (5, 9) for altars in (1, 2)]
KINDS = {
    "weighted": lambda names: WeightedCurriculum(names, [1 + index for index in range(len(names))]),
    "learning_progress": lambda names: LearningProgressCurriculum(
        names, LearningProgressConfig(sample_threshold=3, num_active_tasks=3, ema_timescale=0.1)
    ),
    "regressed": lambda names: PrioritizeRegressedCurriculum(names, PrioritizeRegressedConfig()),
    "progressive": lambda names: ProgressiveCurriculum(names, ProgressiveConfig(threshold=0.3)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


class Student:
    """Learns some tasks by playing them; others are easy, or impossible."""

    def __init__(self, kinds, seed):
        self.kinds, self.generator = kinds, np.random.default_rng(seed)
        self.played = np.zeros(len(kinds), int)

    def play(self, task):
        self.played[task] += 1
        chance = {"easy": 0.98, "impossible": 0.0}.get(self.kinds[task])
        if chance is None:
            chance = 1 / (1 + np.exp(-(self.played[task] - 300) / 60))
        return float(self.generator.random() < chance)

    def share(self, kind):
        return (
            sum(self.played[task] for task, other in enumerate(self.kinds) if other == kind)
            / self.played.sum()
        )


def teach(curriculum, student, num_episodes, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(num_episodes):
        task = curriculum.next_task(generator)
        curriculum.record(task, student.play(task))


def play(curriculum, num_episodes, seed=0):
    generator = np.random.default_rng(seed)
    chosen = []
    for _ in range(num_episodes):
        chosen.append(curriculum.next_task(generator))
        curriculum.record(chosen[-1], float(generator.random()) * (1 + chosen[-1]) / 4)
    return chosen


def test_learning_progress_finds_what_can_be_learned():
    kinds = ["easy"] * 12 + ["impossible"] * 12 + ["learnable"] * 8
    names = [f"{kind} {index}" for index, kind in enumerate(kinds)]
    student, other = Student(kinds, 0), Student(kinds, 0)
    teach(LearningProgressCurriculum(names, LearningProgressConfig()), student, 12_000)
    teach(WeightedCurriculum(names), other, 12_000)
    assert other.share("learnable") == pytest.approx(0.25, abs=0.02)
    assert student.share("learnable") > 0.31
    assert student.share("impossible") < 0.15
    assert student.played.min() > 12_000 * 0.25 / 32 / 2


@every_kind
def test_no_task_starves(kind):
    curriculum = KINDS[kind](NAMES)
    for _ in range(200):
        curriculum.record(0, 1.0)
    assert curriculum.probabilities().min() > 0.005
    assert set(play(curriculum, 800)) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["learning_progress", "regressed"])
def test_a_task_that_was_never_played_is_as_likely_as_the_best(kind):
    curriculum = KINDS[kind](NAMES)
    generator = np.random.default_rng(0)
    for episode in range(90):
        curriculum.next_task(generator)
        curriculum.record(episode % 3, float(generator.random()))
    chances = curriculum.probabilities()
    assert chances[3] == pytest.approx(chances.max())


def test_one_early_success_does_not_take_everything():
    curriculum = KINDS["regressed"](NAMES)
    for task in range(4):
        curriculum.record(task, 0.0)
    curriculum.record(0, 1.0)
    chances = curriculum.probabilities()
    assert chances[0] > 0.9
    assert chances[1:].min() == pytest.approx(0.1 / 4, rel=1e-3)


def test_a_regressed_task_comes_back():
    curriculum = KINDS["regressed"](NAMES)
    for _ in range(300):
        for task in range(4):
            curriculum.record(task, 1.0)
    np.testing.assert_allclose(curriculum.probabilities(), 0.25, atol=1e-6)
    for _ in range(100):
        curriculum.record(2, 0.2)
    assert curriculum.probabilities().argmax() == 2


def test_scores_above_one_count_as_one_and_below_zero_as_zero_for_learning_progress():
    wild, tame = KINDS["learning_progress"](NAMES), KINDS["learning_progress"](NAMES)
    generators = [np.random.default_rng(0), np.random.default_rng(0)]
    for episode in range(60):
        score = float(np.sin(episode)) * 3
        for curriculum, generator, value in (
            (wild, generators[0], score),
            (tame, generators[1], min(max(score, 0), 1)),
        ):
            curriculum.next_task(generator)
            curriculum.record(episode % 4, value)
    np.testing.assert_array_equal(wild.probabilities(), tame.probabilities())


def test_a_progressive_curriculum_waits_for_good_scores():
    curriculum = KINDS["progressive"](NAMES)
    for _ in range(50):
        curriculum.record(0, 0.1)
    assert curriculum.position == 0
    assert curriculum.probabilities().argmax() == 0
    for _ in range(200):
        curriculum.record(0, 1.0)
    assert curriculum.position == 1
    assert curriculum.probabilities().argmax() == 3


def test_one_great_score_does_not_move_a_progressive_curriculum_on():
    curriculum = ProgressiveCurriculum(NAMES, ProgressiveConfig(threshold=0.8))
    curriculum.record(0, 50.0)
    assert curriculum.smoothed_score == pytest.approx(0.1)
    assert curriculum.position == 0


def test_a_progressive_curriculum_can_go_by_time():
    curriculum = ProgressiveCurriculum(NAMES, ProgressiveConfig(progression="time", rate=0.01))
    for _ in range(50):
        curriculum.record(0, 0.0)
    assert curriculum.position == pytest.approx(0.5)


def test_weights_are_kept():
    chosen = np.bincount(play(KINDS["weighted"](NAMES), 4000), minlength=4)
    np.testing.assert_allclose(chosen / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)


@every_kind
def test_chances_sum_to_one_and_choices_follow_the_generator(kind):
    first, second = play(KINDS[kind](NAMES), 200, seed=1), play(KINDS[kind](NAMES), 200, seed=1)
    assert first == second
    curriculum = KINDS[kind](NAMES)
    play(curriculum, 200)
    assert curriculum.probabilities().sum() == pytest.approx(1)


@every_kind
def test_it_goes_on_as_if_it_had_never_stopped(kind):
    whole = KINDS[kind](NAMES)
    play(whole, 150)
    data, tensors = encode_state(whole.state_dict())
    resumed = KINDS[kind](NAMES)
    resumed.load_state_dict(decode_state(json.loads(json.dumps(data)), tensors))
    assert play(resumed, 150, seed=5) == play(whole, 150, seed=5)
    assert resumed.report() == whole.report()


@every_kind
def test_a_saved_state_is_not_changed_by_what_comes_after(kind):
    curriculum = KINDS[kind](NAMES)
    play(curriculum, 100)
    state = curriculum.state_dict()
    before = (
        json.dumps(encode_state(state)[0], default=str),
        {k: v.clone() for k, v in encode_state(state)[1].items()},
    )
    play(curriculum, 100)
    after = encode_state(state)
    assert before[0] == json.dumps(after[0], default=str)
    assert all(
        bool((before[1][name] == value).all() | value.isnan().any()) for name, value in after[1].items()
    )


@every_kind
def test_the_state_of_other_tasks_is_not_taken_over(kind):
    curriculum = KINDS[kind](NAMES)
    play(curriculum, 100)
    other = KINDS[kind]([*NAMES[1:], "room;size=9;altars=3"])
    other.load_state_dict(curriculum.state_dict())
    assert other.completed.sum() == 0


def test_the_state_of_another_rule_is_not_taken_over():
    curriculum = KINDS["regressed"](NAMES)
    play(curriculum, 100)
    other = KINDS["learning_progress"](NAMES)
    other.load_state_dict(curriculum.state_dict())
    assert other.completed.sum() == 0


@every_kind
def test_processes_that_merge_their_updates_know_the_same(kind):
    together = [KINDS[kind](NAMES) for _ in range(2)]
    for curriculum in together:
        curriculum.is_shared = True
    generators = [np.random.default_rng(seed) for seed in range(2)]
    for _ in range(20):
        for curriculum, generator in zip(together, generators, strict=True):
            for _ in range(3):
                task = curriculum.next_task(generator)
                curriculum.record(task, float(generator.random()))
        updates = [curriculum.take_updates() for curriculum in together]
        assert [len(of_one) for of_one in updates] == [3, 3]
        for curriculum in together:
            curriculum.merge(updates)
    assert together[0].completed.sum() == 120
    np.testing.assert_array_equal(together[0].completed, together[1].completed)
    np.testing.assert_array_equal(together[0].scores, together[1].scores)
    np.testing.assert_array_equal(together[0].probabilities(), together[1].probabilities())
    assert (
        together[0].probabilities().tolist() != KINDS[kind](NAMES).probabilities().tolist()
        or kind == "weighted"
    )


def test_an_epoch_merges_what_all_processes_have_seen():
    class Pair:
        size = 2

        def gather(self, updates):
            return [updates, [(3, 0.5)]]

    curriculum, trainer = KINDS["regressed"](NAMES), SimpleNamespace(world=Pair())
    curriculum.on_epoch_start(trainer)
    curriculum.record(1, 1.0)
    assert curriculum.completed.sum() == 0
    metrics = curriculum.on_rollout_end(trainer, None)
    assert curriculum.completed.tolist() == [0, 1, 0, 1]
    assert metrics["curriculum/seen_tasks"] == 2
    curriculum.on_epoch_start(SimpleNamespace(world=World()))
    curriculum.record(1, 1.0)
    assert curriculum.completed.tolist() == [0, 2, 0, 1]


@every_kind
def test_what_is_logged_is_in_the_glossary(kind):
    curriculum = KINDS[kind](NAMES)
    check_names(curriculum.metrics())
    play(curriculum, 100)
    metrics = curriculum.metrics()
    check_names(metrics)
    families = {name: value for name, value in metrics.items() if "completed" in name}
    assert families.keys() == {"curriculum/completed/room;size=5", "curriculum/completed/room;size=9"}
    assert sum(families.values()) == 100
    assert 1 <= metrics["curriculum/effective_tasks"] <= 4
    assert curriculum.on_rollout_end(SimpleNamespace(world=World()), None) == metrics


def test_the_spread_is_told_as_a_number_of_equal_tasks():
    assert WeightedCurriculum(NAMES).metrics()["curriculum/effective_tasks"] == pytest.approx(4)
    assert WeightedCurriculum(NAMES, [1, 1, 0, 0]).metrics()["curriculum/effective_tasks"] == pytest.approx(2)


def episode(task, returns, return_max, *, is_cut=False, environment=0):
    return SimpleNamespace(
        task=task,
        environment=environment,
        agent_returns=np.array(returns),
        return_max=return_max,
        is_cut=is_cut,
    )


def test_scores_are_parts_of_what_can_be_gained():
    assert score_of(episode(0, [2.0, 4.0], 6.0)) == 0.5
    assert score_of(episode(0, [2.0, 4.0], None)) == 3.0


def test_episodes_that_were_cut_do_not_count():
    source = CurriculumSource(WeightedCurriculum(NAMES), seed=0)
    source.record(episode(1, [1.0], 2.0))
    source.record(episode(1, [0.0], 2.0, is_cut=True))
    assert source.curriculum.completed.tolist() == [0, 1, 0, 0]
    assert source.curriculum.scores[1] == 0.5


def test_only_learners_count_where_others_play_too():
    source = CurriculumSource(WeightedCurriculum(NAMES), seed=0)
    source.learner_rows = np.array([0, 1, 4, 6])  # of four environments with two agents each
    for environment in (0, 2, 3):
        source.record(episode(environment, [1.0, 3.0], 4.0, environment=environment))
    assert source.curriculum.scores.tolist() == [0.5, 0.0, 0.25, 0.25]
