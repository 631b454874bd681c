import math

import pytest
import torch
from references.spectrum import metrics

from metta_cli.algorithms.weights import weight_metrics


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6), (1, 4), (3, 2, 2, 2)])
@pytest.mark.parametrize("delta", [0.01, 0.2, 0.5])
def test_metrics_agree_with_the_eigenvalues_of_the_gram_matrix(shape, delta):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)
    weight[0] *= 30
    assert weight_metrics(weight, delta) == pytest.approx(metrics(weight.flatten(1).tolist(), delta))


def test_a_diagonal_matrix_shows_its_diagonal():
    measured = weight_metrics(torch.diag(torch.tensor([4.0, 3.0, 0.001, 0.0])), delta=0.01)
    assert measured == pytest.approx(
        {
            "norm": 5.0,
            "largest_singular_value": 4.0,
            "mean_singular_value": 7.001 / 4,
            "effective_rank": 2.0,
            "collapsed_dims": 0.5,
        },
        abs=1e-6,
    )


def test_equal_singular_values_all_count():
    assert weight_metrics(torch.eye(10), delta=0.1)["effective_rank"] == 9
    assert weight_metrics(torch.eye(10), delta=0.01)["effective_rank"] == 10


def test_nothing_and_no_number_are_no_accident():
    assert set(weight_metrics(torch.zeros(3, 2)).values()) == {0.0}
    assert all(math.isnan(value) for value in weight_metrics(torch.full((2, 2), torch.inf)).values())
