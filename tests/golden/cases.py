"""Inputs that reach every branch of the formulas, and the one way in which numbers are compared."""

from __future__ import annotations

import torch
from torch import Tensor

# Chosen once for all golden tests: what float32 and float64 leave of a sum of some hundred terms.
TOLERANCES = {
    torch.float32: {"rtol": 2e-5, "atol": 2e-6},
    torch.float64: {"rtol": 1e-11, "atol": 1e-12},
    torch.int64: {"rtol": 0, "atol": 0},
}

# gamma, gae_lambda, vtrace_rho_clip, vtrace_c_clip: each differs from the others, so that none can stand in
# for another; lambda = 1 and gamma = 1 included.
ADVANTAGE_PARAMETERS = [
    (0.9, 0.8, 1.0, 1.0),
    (0.977, 0.916, 1.4, 0.7),
    (0.95, 1.0, 0.8, 1.3),
    (1.0, 0.6, 1.1, 1.0),
    (0.5, 0.0, 1.0, 2.0),
]


def assert_close(actual: Tensor, expected: object) -> None:
    """Compare with a list or tensor of the same shape, with the tolerance of the actual data type."""
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, **TOLERANCES[actual.dtype])


def experience(
    seed: int = 0, segments: int = 6, horizon: int = 12, dtype: torch.dtype = torch.float64
) -> tuple:
    """Return values, rewards, dones and ratio `[S, T]`.

    Row 0 has no done, row 1 one at both edges, row 2 two in a row, row 3 only dones; the others have some.
    The ratios lie on both sides of every clip of `ADVANTAGE_PARAMETERS`.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (segments, horizon)
    values = torch.randn(shape, generator=generator, dtype=dtype)
    rewards = torch.randn(shape, generator=generator, dtype=dtype)
    dones = (torch.rand(shape, generator=generator) < 0.2).to(dtype)
    ratio = torch.randn(shape, generator=generator, dtype=dtype).mul(0.5).exp()
    dones[:4] = 0
    dones[1, [0, -1]] = 1
    dones[2, [4, 5]] = 1
    dones[3] = 1
    return values, rewards, dones, ratio


def minibatch(
    seed: int = 0, segments: int = 4, horizon: int = 16, dtype: torch.dtype = torch.float64
) -> dict:
    """Return inputs `[M, T]` of the losses: ratios, value changes and advantages of either sign and size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(scale: float) -> Tensor:
        return torch.randn((segments, horizon), generator=generator, dtype=dtype) * scale

    behavior_log_probs = -normal(1.0).abs() - 0.1
    behavior_values = normal(1.0)
    return {
        "log_probs": behavior_log_probs + normal(0.2),
        "behavior_log_probs": behavior_log_probs,
        "advantages": normal(1.0),
        "values": behavior_values + normal(0.2),
        "behavior_values": behavior_values,
        "returns": behavior_values + normal(0.5),
        "entropy": normal(0.3).abs(),
        "weights": torch.rand((segments, 1), generator=generator, dtype=dtype) + 0.1,
    }


def logits_and_masks(
    seed: int = 0, rows: int = 24, actions: int = 7, dtype: torch.dtype = torch.float64
) -> tuple:
    """Return logits, action masks and uniform noise `[N, A]`; row 0 allows everything, row 1 one action."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((rows, actions), generator=generator, dtype=dtype) * 2
    mask = torch.rand((rows, actions), generator=generator) < 0.6
    mask[:, 3] = True
    mask[0] = True
    mask[1] = False
    mask[1, 2] = True
    uniform = torch.rand((rows, actions), generator=generator, dtype=dtype)
    return logits, mask, uniform
