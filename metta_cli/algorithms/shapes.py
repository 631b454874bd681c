"""Shape checks at the door of the formulas.

Shape letters, the same in every file: `S` segments (rows of experience), `T` steps of a segment
(`bptt_horizon`), `M` segments of a minibatch, `N` agents, `A` actions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def expect_shape(shape: Sequence[int | None], **tensors: Tensor) -> None:
    """Check that every named tensor has the given shape.

    Broadcasting is why this exists: `[M, 1]` minus `[M]` is `[M, M]`, and its mean is a plausible number.

    Args:
        shape: expected size of each dimension; None accepts any size.
        tensors: the tensors, by the names to use in the message.

    Raises:
        ValueError: names the first tensor that differs, its shape, and the expected one.
    """
    for name, tensor in tensors.items():
        fits = tensor.dim() == len(shape) and all(
            expected in (None, size) for expected, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected [{wanted}]")
