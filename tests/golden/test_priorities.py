"""Drawing segments by priority, and what corrects for it."""

from __future__ import annotations

import pytest
import torch
from cases import assert_close, minibatch
from references import replay

from metta_cli.algorithms.priorities import (
    calculate_anneal_beta,
    importance_weights,
    permute_segments,
    sample_segments,
    segment_priorities,
)

WORKED = torch.tensor([[4.0, 0.0], [-0.5, 0.5], [0.0, 0.0], [-4.0, -5.0]], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_priorities_and_weights_give_the_worked_numbers():
    priorities = segment_priorities(WORKED, 0.5)
    weights = importance_weights(priorities, torch.arange(4), 0.6).squeeze(1)
    expected = torch.tensor([0.3333, 0.1667, 1.7e-7, 0.5]).double()
    torch.testing.assert_close(priorities, expected, rtol=3e-4, atol=4e-9)
    unnormalized = torch.tensor([0.8415, 1.2754, 5077.6, 0.6598]).double()
    torch.testing.assert_close(weights * 5077.6, unnormalized, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_priorities_follow_the_sum_of_absolute_advantages(alpha, dtype):
    advantages = minibatch(segments=9, dtype=dtype)["advantages"]
    advantages[3] = 0
    expected = replay.draw_probabilities(advantages.tolist(), alpha)
    assert_close(segment_priorities(advantages, alpha), expected)


def test_alpha_0_draws_uniformly():
    assert_close(segment_priorities(WORKED, 0.0), [0.25] * 4)


def test_segments_without_advantage_stay_reachable():
    priorities = segment_priorities(WORKED, 1.0)
    assert priorities[2] > 0
    assert_close(priorities.sum(), 1.0)
    assert sorted(sample_segments(priorities, 4, generator()).tolist()) == [0, 1, 2, 3]
    assert_close(segment_priorities(torch.zeros(5, 3), 0.7), [0.2] * 5)


def test_priorities_carry_no_gradient():
    assert not segment_priorities(WORKED.clone().requires_grad_(), 0.5).requires_grad


def test_segment_with_nan_is_refused_when_drawing():
    advantages = WORKED.clone()
    advantages[1, 0] = float("nan")
    with pytest.raises(RuntimeError, match="nan"):
        sample_segments(segment_priorities(advantages, 0.5), 2, generator())


def test_segments_are_drawn_in_proportion_to_their_priority():
    priorities = torch.tensor([0.1, 0.2, 0.7])
    source, num_draws = generator(), 4000
    counts = (
        torch.stack([sample_segments(priorities, 1, source) for _ in range(num_draws)]).flatten().bincount()
    )
    deviation = (num_draws * priorities * (1 - priorities)).sqrt()
    assert ((counts - num_draws * priorities).abs() < 4 * deviation).all()


def test_no_segment_is_drawn_twice_for_a_minibatch():
    priorities = segment_priorities(minibatch(segments=32)["advantages"] ** 5, 1.0)
    for seed in range(20):
        drawn = sample_segments(priorities, 16, generator(seed))
        assert drawn.shape == (16,)
        assert len(set(drawn.tolist())) == 16


def test_drawing_repeats_with_its_generator():
    priorities = segment_priorities(minibatch(segments=32)["advantages"], 0.5)
    first, again, other = (sample_segments(priorities, 8, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_undo_the_bias_relative_to_the_rarest_of_the_minibatch(beta):
    priorities = segment_priorities(minibatch(segments=9)["advantages"], 0.8)
    drawn = torch.tensor([7, 0, 4])
    weights = replay.importance_weights(priorities.tolist(), drawn.tolist(), beta)
    expected = [[weight / max(weights)] for weight in weights]
    assert_close(importance_weights(priorities, drawn, beta), expected)


def test_weights_never_exceed_1_even_for_a_segment_without_advantage():
    priorities = segment_priorities(WORKED.float(), 0.8)
    weights = importance_weights(priorities, torch.arange(4), 0.92)
    assert weights.max() == 1.0
    assert (weights > 0).all()


def test_full_correction_makes_the_expected_gradient_that_of_uniform_drawing():
    priorities = segment_priorities(WORKED[:2], 1.0)
    weights = importance_weights(priorities, torch.arange(2), 1.0).squeeze(1)
    contribution = priorities * weights
    assert_close(contribution[0], contribution[1].item())


def test_permutation_holds_every_segment_once():
    minibatches = permute_segments(12, 4, generator())
    assert minibatches.shape == (3, 4)
    assert sorted(minibatches.flatten().tolist()) == list(range(12))


def test_permutation_is_random_and_repeats_with_its_generator():
    first, again, other = (permute_segments(64, 8, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first.flatten(), torch.arange(64))


@pytest.mark.parametrize("minibatch_segments", [5, 0])
def test_permutation_that_would_leave_segments_out_is_refused(minibatch_segments):
    with pytest.raises(ValueError, match="12 segments do not divide"):
        permute_segments(12, minibatch_segments)


@pytest.mark.parametrize(("alpha", "beta0"), [(0.0, 0.6), (0.5, 0.6), (1.0, 0.2)])
@pytest.mark.parametrize("epoch", [0, 1, 7, 10])
def test_beta_rises_in_equal_steps(epoch, alpha, beta0):
    actual = calculate_anneal_beta(epoch, 1050, 100, alpha, beta0)
    assert actual == pytest.approx(replay.beta_of_epoch(epoch, 10, alpha, beta0))


def test_beta_reaches_1_with_alpha_1_and_stays_with_alpha_0():
    assert calculate_anneal_beta(10, 1000, 100, 1.0, 0.2) == pytest.approx(1.0)
    assert calculate_anneal_beta(10, 1000, 100, 0.0, 0.2) == pytest.approx(0.2)


def test_beta_stops_rising_at_the_end_of_training():
    assert calculate_anneal_beta(99, 1000, 100, 1.0, 0.2) == 1.0


def test_beta_of_a_training_shorter_than_a_batch_is_defined():
    assert calculate_anneal_beta(0, 10, 100, 0.5, 0.6) == 0.6
    assert calculate_anneal_beta(1, 10, 100, 0.5, 0.6) == pytest.approx(0.8)
