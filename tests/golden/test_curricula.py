"""By which numbers curricula choose tasks."""

from __future__ import annotations

import numpy as np
import pytest
from references import curricula as reference

from metta_cli.algorithms.curricula import (
    learning_progress,
    learning_progress_distribution,
    linear_gates,
    logistic_gates,
    low_reward_weights,
    mix_with_uniform,
    normalized_success,
    reweight,
)
from metta_cli.config.curriculum import LearningProgressConfig, PrioritizeRegressedConfig
from metta_cli.training.curricula_adaptive import LearningProgressCurriculum, PrioritizeRegressedCurriculum


def test_reweighting_gives_the_worked_numbers():
    rates = np.array([0.0, 0.01, 0.05, 0.5, 1.0])
    np.testing.assert_allclose(reweight(rates, 0.05), [0.0, 0.161, 0.5, 0.95, 1.0], atol=5e-4)


def test_reweighting_takes_the_smoothing_to_one_half():
    for smoothing in (0.01, 0.2, 0.7):
        assert reweight(np.array([smoothing]), smoothing)[0] == pytest.approx(0.5)


def test_success_counts_above_the_baseline():
    success = normalized_success(np.array([0.5, 0.2, 0.8, 1.0]), np.array([0.5, 0.5, 0.6, 0.75]))
    np.testing.assert_allclose(success, [0.0, 0.0, 0.5, 1.0])


def test_progress_counts_in_both_directions():
    progress = learning_progress(np.array([0.05, 0.0]), np.array([0.0, 0.05]), 0.05)
    np.testing.assert_allclose(progress, [0.5, 0.5])


def test_the_distribution_is_the_sigmoid_of_z_scores():
    progress = np.array([0.0, 0.1, 0.3, 0.0])
    chances = learning_progress_distribution(progress, np.array([0.5, 0.0, 0.0, 0.0]))
    scores = (progress[:3] - progress[:3].mean()) / progress[:3].std()
    expected = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(chances, [*(expected / expected.sum()), 0.0])


@pytest.mark.parametrize("success", [0.0, 0.4])
def test_equal_tasks_are_equally_likely(success):
    chances = learning_progress_distribution(np.zeros(5), np.full(5, success))
    np.testing.assert_allclose(chances, np.full(5, 0.2))


def test_low_reward_weights_give_the_worked_numbers():
    weights = low_reward_weights(np.array([0.0, 0.5, 1.0, 0.01]), np.array([0.0, 1.0, 1.0, 1.0]))
    np.testing.assert_allclose(weights, [1e-6, 1.999997, 1.0, 99.990002], rtol=1e-5)
    first_success = low_reward_weights(np.array([0.0]), np.array([1.0]))
    np.testing.assert_allclose(first_success, [1e6])


@pytest.mark.parametrize("gates", [linear_gates, logistic_gates])
def test_gates_open_one_after_the_other(gates):
    for place in range(5):
        weights = gates(5, place / 4, 0.5)
        assert weights.argmax() == place
        assert weights[place] > 0.7
        far = np.abs(np.arange(5) - place) > 1
        assert (weights[far] < 0.03).all()
    between = gates(5, 0.375, 0.5)
    assert between[1] == pytest.approx(between[2])
    assert gates(1, 1.0, 0.5)[0] > 0


def test_a_linear_gate_has_the_documented_width():
    np.testing.assert_allclose(linear_gates(3, 0.25, 0.5), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(linear_gates(3, 0.5, 1.5), [0.5, 1.0, 0.5])


def test_a_logistic_gate_is_half_open_half_a_task_away():
    np.testing.assert_allclose(logistic_gates(2, 0.5, 0.25), [0.5, 0.5], atol=1e-6)


def test_thousands_of_tasks_do_not_overflow():
    assert np.isfinite(logistic_gates(5000, 0.5, 0.1)).all()


def test_mixing_keeps_a_share_for_everybody():
    np.testing.assert_allclose(
        mix_with_uniform(np.array([3.0, 1.0, 0.0, 0.0]), 0.2), [0.65, 0.25, 0.05, 0.05]
    )


def outcomes(num_tasks, num_episodes, seed):
    generator = np.random.default_rng(seed)
    for episode in range(num_episodes):
        task = int(generator.integers(num_tasks - 1))  # the last one is never played
        yield task, float(generator.normal((episode / num_episodes) * task / num_tasks, 0.3))


@pytest.mark.parametrize("seed", range(3))
def test_learning_progress_is_that_of_the_slow_reference(seed):
    config = LearningProgressConfig(ema_timescale=0.07, progress_smoothing=0.1, sample_threshold=6, memory=8)
    curriculum = LearningProgressCurriculum([f"task {index}" for index in range(9)], config)
    slow = reference.LearningProgress(9, timescale=0.07, smoothing=0.1, random_share=0.25, memory=8)
    generator = np.random.default_rng(seed)
    updates = 0
    for task, score in outcomes(9, 900, seed):
        curriculum.next_task(generator)
        active = set(curriculum._active.tolist())
        curriculum.record(task, score)
        slow.record(task, score)
        if task in active and slow.fresh[task] >= 6:
            slow.update()
            updates += 1
        np.testing.assert_allclose(curriculum.probabilities(), slow.probabilities(), rtol=1e-9)
    assert updates > 20


@pytest.mark.parametrize("seed", range(3))
def test_regressed_tasks_are_those_of_the_slow_reference(seed):
    config = PrioritizeRegressedConfig(moving_avg_decay_rate=0.05, uniform_share=0.2)
    curriculum = PrioritizeRegressedCurriculum([f"task {index}" for index in range(6)], config)
    slow = reference.LowReward(6, rate=0.05, uniform_share=0.2)
    for task, score in outcomes(6, 300, seed):
        curriculum.record(task, score)
        slow.record(task, score)
        np.testing.assert_allclose(curriculum.probabilities(), slow.probabilities(), rtol=1e-9)
