"""What the singular values of a weight matrix say about it."""

from __future__ import annotations

import torch
from torch import Tensor


def weight_metrics(weight: Tensor, delta: float = 0.01) -> dict[str, float]:
    """Return norm and spectrum of a weight; without gradient.

    Args:
        weight: two or more dimensions; all but the first count as one, as in a convolution.
        delta: what is small: see `effective_rank` and `collapsed_dims`.

    Returns:
        `norm`: Frobenius norm. `largest_singular_value`, `mean_singular_value`. `effective_rank`: how many
        of the largest singular values make up `1 - delta` of their sum. `collapsed_dims`: share of the
        singular values that are below `delta` times the largest. All NaN if the weight is not finite, all 0
        if it is 0.
    """
    matrix = weight.detach().flatten(1).double()
    if not bool(torch.isfinite(matrix).all()):
        return dict.fromkeys(
            ("norm", "largest_singular_value", "mean_singular_value", "effective_rank", "collapsed_dims"),
            float("nan"),
        )
    values = torch.linalg.svdvals(matrix)
    total = values.sum()
    # The sum is compared with a little slack, so that rounding does not count a dimension too many.
    is_short = values.cumsum(0) < (1 - delta) * total * (1 - 1e-12)
    return {
        "norm": float(matrix.norm()),
        "largest_singular_value": float(values.max()),
        "mean_singular_value": float(values.mean()),
        "effective_rank": float(is_short.sum() + 1) if bool(total > 0) else 0.0,
        "collapsed_dims": float((values < delta * values.max()).double().mean()),
    }
