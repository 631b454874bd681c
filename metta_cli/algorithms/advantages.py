"""The V-trace value error, which with ratio 1 is generalized advantage estimation."""

from __future__ import annotations

import torch
from torch import Tensor

from metta_cli.algorithms.shapes import expect_shape


@torch.no_grad()
def compute_advantage(
    values: Tensor,
    rewards: Tensor,
    dones: Tensor,
    importance_sampling_ratio: Tensor,
    advantages: Tensor,
    gamma: float,
    gae_lambda: float,
    vtrace_rho_clip: float,
    vtrace_c_clip: float,
    device: torch.device | str,
) -> Tensor:
    """Fill `advantages` with the V-trace value error `vs - V` of every step but the last.

    An environment hands over `(observation, reward, done)` together, so `rewards[:, t + 1]` pays for the
    action at `t` and `dones[:, t + 1]` says that this action ended the episode:

        rho_t = min(ratio[t], rho_clip)      c_t = min(ratio[t], c_clip)      alive = 1 - dones[t + 1]
        delta_t = rho_t * (rewards[t + 1] + gamma * alive * values[t + 1] - values[t])
        advantages[t] = delta_t + gamma * gae_lambda * c_t * alive * advantages[t + 1]

    with 0 in place of `advantages[T - 1]`: the last column has no successor and is left as it was passed.
    Column 0 of `rewards` and `dones` has no influence. With ratio 1 and clips of at least 1 this is GAE. It
    is IMPALA's policy-gradient advantage only if `gae_lambda` is 1 and both clips are equal. No gradient
    flows. An episode cut by time counts as ended, unless its last reward holds `gamma * V(last observation)`.

    Source: Espeholt et al. 2018, equation 1 and remark 2, https://arxiv.org/abs/1802.01561, with rewards
        aligned as in PufferLib's `compute_puff_advantage`, which gives the same numbers.

    Args:
        values: `[S, T]` critic output, in discounted reward.
        rewards: `[S, T]` aligned as above.
        dones: `[S, T]` bool or 0/1; true where the observation starts an episode.
        importance_sampling_ratio: `[S, T]` probability of the action, new over behavior; 1 on the first pass.
        advantages: `[S, T]` the buffer to fill in place.
        gamma: discount per agent step, in [0, 1].
        gae_lambda: weight of long traces in [0, 1]; 1 is the full return.
        vtrace_rho_clip: bound on the ratio that weighs the error (rho-bar).
        vtrace_c_clip: bound on the ratio that carries the trace (c-bar).
        device: where to compute; inputs may lie elsewhere, in any memory layout.

    Returns:
        `advantages` on `device`: the passed buffer itself if it lies there.

    Raises:
        ValueError: if a tensor is not `[S, T]` like `values`; the message names it.
    """
    ratio = importance_sampling_ratio
    expect_shape((None, None), values=values)
    expect_shape(
        values.shape, rewards=rewards, dones=dones, importance_sampling_ratio=ratio, advantages=advantages
    )
    tensors = (values, rewards, dones, ratio)
    values, rewards, dones, ratio = (tensor.to(device=device, dtype=values.dtype) for tensor in tensors)
    alive = 1.0 - dones[:, 1:]
    errors = rewards[:, 1:] + gamma * alive * values[:, 1:] - values[:, :-1]
    weighted_errors = ratio[:, :-1].clamp(max=vtrace_rho_clip) * errors
    decays = gamma * gae_lambda * ratio[:, :-1].clamp(max=vtrace_c_clip) * alive
    advantages[:, :-1] = _discounted_sums(weighted_errors, decays)
    return advantages.to(device)


def _discounted_sums(errors: Tensor, decays: Tensor) -> Tensor:
    """Return `x[:, t] = errors[:, t] + decays[:, t] * x[:, t + 1]` of `[S, T - 1]` inputs."""
    # Time-major copies: each step of the loop then reads and writes contiguous memory.
    sums = errors.t().contiguous()
    steps = list(zip(sums.unbind(0), decays.t().contiguous().unbind(0), strict=True))
    for (step_sum, decay), (next_sum, _) in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        step_sum.addcmul_(decay, next_sum)
    return sums.t()
