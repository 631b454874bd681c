"""The categorical distribution against its definitions, in value, gradient and frequency."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_close, logits_and_masks
from references import categorical

from metta_cli.algorithms import distributions

INFINITY = float("inf")


def reference(function, logits, mask):
    return [function(*row) for row in zip(logits.tolist(), mask.tolist(), strict=True)]


def doubles(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def case(request):
    return logits_and_masks(dtype=request.param)


def test_log_softmax_gives_the_masked_probabilities(case):
    logits, mask, _ = case
    expected = reference(categorical.probabilities, logits, mask)
    assert_close(distributions.log_softmax(logits, mask).exp(), expected)


def test_forbidden_actions_have_probability_exactly_0(case):
    logits, mask, _ = case
    log_probs = distributions.log_softmax(logits, mask)
    assert torch.equal(log_probs == -INFINITY, ~mask)


def test_log_prob_is_that_of_the_given_action(case):
    logits, mask, _ = case
    actions = mask.int().argmax(-1)
    probabilities = reference(categorical.probabilities, logits, mask)
    expected = [math.log(p[action]) for p, action in zip(probabilities, actions.tolist(), strict=True)]
    assert_close(distributions.log_prob(logits, actions, mask), expected)


def test_log_prob_keeps_the_shape_of_segments():
    logits, mask, _ = logits_and_masks(rows=24)
    actions = mask.int().argmax(-1)
    expected = distributions.log_prob(logits, actions, mask).view(4, 6)
    actual = distributions.log_prob(logits.view(4, 6, -1), actions.view(4, 6), mask.view(4, 6, -1))
    assert torch.equal(actual, expected)


def test_entropy_sums_over_the_allowed_actions(case):
    logits, mask, _ = case
    assert_close(distributions.entropy(logits, mask), reference(categorical.entropy, logits, mask))


def test_entropy_is_log_of_the_number_of_equal_actions_and_0_for_one():
    assert_close(distributions.entropy(torch.zeros(1, 5).double()), [math.log(5)])
    assert_close(distributions.entropy(torch.tensor([[0.0, -INFINITY]]).double()), [0.0])


def test_entropy_gradient_is_that_of_the_allowed_actions_and_finite():
    logits, mask, _ = logits_and_masks()
    logits.requires_grad_()
    distributions.entropy(logits, mask).sum().backward()
    probabilities = doubles(reference(categorical.probabilities, logits, mask))
    entropies = doubles(reference(categorical.entropy, logits, mask)).unsqueeze(1)
    # dH / dlogit_a = -p_a (log p_a + H)
    expected = -probabilities * (probabilities.clamp(min=1e-300).log() + entropies)
    assert_close(logits.grad, expected)


def test_log_prob_gradient_is_finite_where_actions_are_forbidden():
    logits, mask, _ = logits_and_masks()
    logits.requires_grad_()
    actions = mask.int().argmax(-1)
    distributions.log_prob(logits, actions, mask).sum().backward()
    probabilities = doubles(reference(categorical.probabilities, logits, mask))
    assert_close(logits.grad, torch.nn.functional.one_hot(actions, 7) - probabilities)


def test_log_probabilities_are_accepted_as_logits(case):
    logits, mask, uniform = case
    log_probs = distributions.log_softmax(logits, mask)
    actions = mask.int().argmax(-1)
    assert_close(distributions.entropy(log_probs), distributions.entropy(logits, mask))
    assert_close(distributions.log_prob(log_probs, actions), distributions.log_prob(logits, actions, mask))
    assert torch.equal(
        distributions.sample_with_noise(log_probs, uniform),
        distributions.sample_with_noise(logits, uniform, mask),
    )


def test_noise_picks_the_first_arrival(case):
    logits, mask, uniform = case
    rows = zip(logits.tolist(), mask.tolist(), uniform.tolist(), strict=True)
    expected = [categorical.first_arrival(*row) for row in rows]
    assert distributions.sample_with_noise(logits, uniform, mask).tolist() == expected


def test_noise_of_a_row_decides_that_row_alone():
    logits, mask, uniform = logits_and_masks()
    together = distributions.sample_with_noise(logits, uniform, mask)
    for index in range(len(logits)):
        row = slice(index, index + 1)
        assert distributions.sample_with_noise(logits[row], uniform[row], mask[row]) == together[index]


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_noise_at_the_edges_never_picks_a_forbidden_action(extreme):
    logits = torch.tensor([[-5.0, 0.0, 50.0]])
    for forbidden in range(3):
        mask = torch.ones(1, 3, dtype=torch.bool)
        mask[0, forbidden] = False
        uniform = torch.full((1, 3), 0.5)
        uniform[0, forbidden] = extreme
        assert distributions.sample_with_noise(logits, uniform, mask).item() != forbidden


def test_samples_follow_the_distribution():
    num_samples = 100_000
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0])
    mask = torch.tensor([True, True, True, False])
    probabilities = categorical.probabilities(logits.tolist(), mask.tolist())
    actions = distributions.sample(
        logits.expand(num_samples, -1), torch.Generator().manual_seed(0), mask.expand(num_samples, -1)
    )
    counts = actions.bincount(minlength=4).tolist()
    for count, p in zip(counts, probabilities, strict=True):
        assert abs(count - num_samples * p) <= 4 * math.sqrt(num_samples * p * (1 - p))


def test_sampling_repeats_with_its_generator_and_leaves_the_global_one_alone():
    logits, _, _ = logits_and_masks(rows=200)
    state = torch.get_rng_state()
    first, again, other = (
        distributions.sample(logits, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.dtype == torch.int64
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_row_without_an_allowed_action_is_refused():
    mask = torch.tensor([[True, False], [False, False]])
    with pytest.raises(ValueError, match="forbids every action"):
        distributions.log_softmax(torch.zeros(2, 2), mask)


def test_mask_of_numbers_is_refused():
    with pytest.raises(TypeError, match=r"dtype torch.float32, expected bool"):
        distributions.log_softmax(torch.zeros(2, 2), torch.ones(2, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda logits: distributions.log_prob(logits, torch.zeros(1, dtype=torch.int64)),
        lambda logits: distributions.sample_with_noise(logits, torch.rand(1, 3)),
        lambda logits: distributions.entropy(logits, torch.ones(1, 3, dtype=torch.bool)),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call):
    with pytest.raises(ValueError, match="has shape"):
        call(torch.zeros(2, 3))
