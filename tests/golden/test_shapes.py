"""`expect_shape`, which stands at the door of every formula."""

from __future__ import annotations

import pytest
import torch

from metta_cli.algorithms.shapes import expect_shape


@pytest.mark.parametrize("shape", [(2, 3), (None, 3), (None, None), torch.Size([2, 3])])
def test_tensors_of_the_shape_pass(shape):
    expect_shape(shape, first=torch.zeros(2, 3), second=torch.ones(2, 3))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4), r"odd has shape \[2, 3\], expected \[2, 4\]"),
        ((None, 2), r"odd has shape \[2, 3\], expected \[any, 2\]"),
        ((2,), r"odd has shape \[2, 3\], expected \[2\]"),
        ((2, 3, 1), r"odd has shape \[2, 3\], expected \[2, 3, 1\]"),
        ((), r"odd has shape \[2, 3\], expected \[\]"),
    ],
)
def test_tensor_of_another_shape_is_named_with_both_shapes(shape, message):
    with pytest.raises(ValueError, match=message):
        expect_shape(shape, odd=torch.zeros(2, 3))


def test_first_tensor_that_differs_is_named():
    with pytest.raises(ValueError, match="second has shape"):
        expect_shape((2,), first=torch.zeros(2), second=torch.zeros(3), third=torch.zeros(4))
