"""`compute_advantage` against the papers, worked numbers, pufferlib's kernel, and its own properties."""

from __future__ import annotations

import importlib

import pytest
import torch
from cases import ADVANTAGE_PARAMETERS, assert_close, experience
from references import vtrace

from metta_cli.algorithms.advantages import compute_advantage

UNTOUCHED = 7.0  # what the last column of every buffer holds before


def advantage(values, rewards, dones, ratio, gamma=0.9, gae_lambda=0.8, rho_clip=1.0, c_clip=1.0):
    buffer = torch.full_like(values, UNTOUCHED)
    return compute_advantage(
        values, rewards, dones, ratio, buffer, gamma, gae_lambda, rho_clip, c_clip, "cpu"
    )


def loops(values, rewards, dones, ratio, gamma, gae_lambda, rho_clip, c_clip):
    rows = zip(values.tolist(), rewards.tolist(), dones.tolist(), ratio.tolist(), strict=True)
    options = {"gamma": gamma, "gae_lambda": gae_lambda, "rho_clip": rho_clip, "c_clip": c_clip}
    return [[*vtrace.vtrace_error(*row, **options), UNTOUCHED] for row in rows]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("parameters", ADVANTAGE_PARAMETERS)
def test_advantage_is_the_vtrace_value_error(parameters, dtype):
    inputs = experience(dtype=dtype)
    assert_close(advantage(*inputs, *parameters), loops(*inputs, *parameters))


def test_advantage_of_long_segments_is_the_vtrace_value_error():
    inputs = experience(seed=1, segments=5, horizon=64, dtype=torch.float32)
    assert_close(advantage(*inputs, 0.99, 0.95, 1.2, 0.9), loops(*inputs, 0.99, 0.95, 1.2, 0.9))


@pytest.mark.parametrize("horizon", [2, 3])
def test_advantage_of_shortest_segments_is_the_vtrace_value_error(horizon):
    inputs = [tensor[:, :horizon] for tensor in experience(seed=2)]
    assert_close(advantage(*inputs), loops(*inputs, 0.9, 0.8, 1.0, 1.0))


def test_segment_of_one_step_has_no_advantage_to_fill():
    one = torch.ones(3, 1)
    assert_close(advantage(one, one, one, one), torch.full((3, 1), UNTOUCHED))


@pytest.mark.parametrize(
    ("ratio", "rho_clip", "c_clip", "expected"),
    [
        ([1, 1, 1, 1, 1], 1, 1, [1.64768, 1.094, 1.7, 0.39]),
        ([0.5, 2, 0.8, 1.5, 3], 1, 1, [0.735712, 0.8492, 1.36, 0.39]),
        ([0.5, 2, 0.8, 1.5, 3], 2, 1.25, [0.77704, 0.964, 1.36, 0.585]),
    ],
)
def test_advantage_gives_the_worked_numbers(ratio, rho_clip, c_clip, expected):
    rows = ([0.5, 0.4, 0.3, 0.2, 0.1], [9, 1, 0, 2, 0.5], [0, 0, 0, 1, 0], ratio)
    inputs = [torch.tensor([row], dtype=torch.float64) for row in rows]
    assert_close(advantage(*inputs, 0.9, 0.8, rho_clip, c_clip), [[*expected, UNTOUCHED]])


@pytest.mark.parametrize(("gamma", "gae_lambda", "rho_clip", "c_clip"), ADVANTAGE_PARAMETERS)
def test_advantage_on_the_first_pass_is_gae(gamma, gae_lambda, rho_clip, c_clip):
    values, rewards, dones, ratio = experience()
    actual = advantage(
        values, rewards, dones, torch.ones_like(ratio), gamma, gae_lambda, max(rho_clip, 1), max(c_clip, 1)
    )
    rows = zip(values.tolist(), rewards.tolist(), dones.tolist(), strict=True)
    assert_close(actual, [[*vtrace.gae(*row, gamma=gamma, gae_lambda=gae_lambda), UNTOUCHED] for row in rows])


def test_lambda_0_gives_the_weighted_one_step_error():
    values, rewards, dones, ratio = experience()
    error = rewards[:, 1:] + 0.9 * (1 - dones[:, 1:]) * values[:, 1:] - values[:, :-1]
    actual = advantage(values, rewards, dones, ratio, gae_lambda=0.0, rho_clip=1.3)
    assert_close(actual[:, :-1], ratio[:, :-1].clamp(max=1.3) * error)


def test_without_discount_advantage_is_the_sum_of_later_rewards_and_the_change_of_value():
    values, rewards, dones, ratio = experience()
    actual = advantage(values, rewards, 0 * dones, torch.ones_like(ratio), gamma=1.0, gae_lambda=1.0)
    later_rewards = torch.stack([rewards[:, t + 1 :].sum(1) for t in range(values.shape[1] - 1)], dim=1)
    assert_close(actual[:, :-1], later_rewards + values[:, -1:] - values[:, :-1])


def test_done_separates_what_lies_before_from_what_lies_after():
    base = experience(seed=3)
    base[2][:, 6] = 1  # the action at 5 ended an episode; 6 starts one
    after = [tensor.clone() for tensor in base]
    before = [tensor.clone() for tensor in base]
    for changed, part, rewarded in (
        (after, slice(6, None), slice(7, None)),
        (before, slice(0, 6), slice(0, 7)),
    ):
        changed[0][:, part] += 1
        changed[1][:, rewarded] += 1
        changed[3][:, part] *= 0.5
    expected = advantage(*base)
    assert_close(advantage(*after)[:, :6], expected[:, :6])
    assert_close(advantage(*before)[:, 6:], expected[:, 6:])
    assert not torch.allclose(advantage(*after)[:, 6:-1], expected[:, 6:-1])
    assert not torch.allclose(advantage(*before)[:, :6], expected[:, :6])


def test_first_reward_and_done_of_a_segment_have_no_influence():
    values, rewards, dones, ratio = experience()
    other_rewards, other_dones = rewards.clone(), dones.clone()
    other_rewards[:, 0] += 100
    other_dones[:, 0] = 1 - other_dones[:, 0]
    assert torch.equal(
        advantage(values, other_rewards, other_dones, ratio), advantage(values, rewards, dones, ratio)
    )


def test_last_column_is_left_as_it_was():
    actual = advantage(*experience())
    assert (actual[:, -1] == UNTOUCHED).all()
    assert (actual[:, :-1] != UNTOUCHED).all()


def test_advantage_is_linear_in_rewards_and_values_together():
    values, rewards, dones, ratio = experience(seed=4)
    other_values, other_rewards, _, _ = experience(seed=5)
    combined = advantage(2 * values - 3 * other_values, 2 * rewards - 3 * other_rewards, dones, ratio)
    parts = 2 * advantage(values, rewards, dones, ratio) - 3 * advantage(
        other_values, other_rewards, dones, ratio
    )
    assert_close(combined[:, :-1], parts[:, :-1])


def test_segments_do_not_influence_each_other():
    inputs = experience()
    together = advantage(*inputs)
    for row in range(len(together)):
        assert torch.equal(advantage(*(tensor[row : row + 1] for tensor in inputs))[0], together[row])


def test_ratio_above_the_clips_counts_as_the_clips():
    values, rewards, dones, ratio = experience()
    huge = advantage(values, rewards, dones, ratio + 1e6, rho_clip=1.5, c_clip=1.5)
    assert_close(huge, advantage(values, rewards, dones, torch.full_like(ratio, 1.5), rho_clip=9, c_clip=9))


def test_no_gradient_flows_through_the_advantage():
    values, rewards, dones, ratio = experience()
    actual = advantage(values.requires_grad_(), rewards, dones, ratio.requires_grad_())
    assert not actual.requires_grad


def test_memory_layout_of_the_inputs_does_not_matter():
    inputs = experience()
    transposed = [tensor.t().contiguous().t() for tensor in inputs]
    strided = [torch.stack([tensor, tensor + 1], dim=-1)[..., 0] for tensor in inputs]
    assert not any(tensor.is_contiguous() for tensor in transposed + strided)
    assert torch.equal(advantage(*transposed), advantage(*inputs))
    assert torch.equal(advantage(*strided), advantage(*inputs))


def test_result_is_the_buffer_that_was_passed_whatever_its_layout():
    values, rewards, dones, ratio = experience()
    for buffer in (torch.zeros_like(values), torch.zeros(values.shape[::-1], dtype=values.dtype).t()):
        result = compute_advantage(
            values, rewards, dones, ratio, buffer, 0.9, 0.8, 1.0, 1.0, torch.device("cpu")
        )
        assert result is buffer
        assert_close(buffer[:, :-1], advantage(values, rewards, dones, ratio)[:, :-1])


def test_inputs_are_not_changed():
    inputs = experience()
    copies = [tensor.clone() for tensor in inputs]
    advantage(*inputs)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, copies, strict=True))


def test_dones_may_be_bool():
    values, rewards, dones, ratio = experience()
    assert torch.equal(
        advantage(values, rewards, dones.bool(), ratio), advantage(values, rewards, dones, ratio)
    )


@pytest.mark.parametrize("odd_one", ["rewards", "dones", "importance_sampling_ratio", "advantages"])
def test_tensor_of_another_shape_is_named(odd_one):
    tensors = {name: torch.zeros(4, 8) for name in ("values", "rewards", "dones")}
    tensors |= {name: torch.zeros(4, 8) for name in ("importance_sampling_ratio", "advantages")}
    tensors[odd_one] = torch.zeros(4, 1)
    with pytest.raises(ValueError, match=rf"{odd_one} has shape \[4, 1\], expected \[4, 8\]"):
        compute_advantage(*tensors.values(), 0.9, 0.8, 1.0, 1.0, "cpu")


def test_exact_critic_has_no_advantage_where_an_endless_game_is_cut():
    # One reward per step for ever is worth 1 / (1 - 0.9) = 10, also at the step where the clock ran out.
    values, rewards = torch.full((1, 8), 10.0), torch.ones(1, 8)
    truncations = torch.tensor([[0, 0, 0, 1, 0, 0, 0, 0]]).bool()
    paid = rewards + 0.9 * values * truncations
    ones = torch.ones(1, 8)
    assert_close(advantage(values, paid, truncations, ones)[:, :-1], torch.zeros(1, 7))
    assert advantage(values, rewards, truncations, ones)[0, 2] < -5


def test_advantage_equals_the_kernel_of_pufferlib():
    try:
        importlib.import_module("pufferlib._C")
    except ImportError as error:
        pytest.skip(f"pufferlib's compiled kernel does not load here: {error}")
    inputs = experience(seed=6, segments=64, horizon=64, dtype=torch.float32)
    buffer = torch.full_like(inputs[0], UNTOUCHED)
    torch.ops.pufferlib.compute_puff_advantage(*inputs, buffer, 0.97, 0.9, 1.2, 0.8)
    assert_close(advantage(*inputs, 0.97, 0.9, 1.2, 0.8), buffer)
