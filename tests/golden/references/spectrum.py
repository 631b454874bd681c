"""Norm and spectrum of a matrix from the eigenvalues of its Gram matrix, one number at a time."""

import math

import numpy as np


def spectrum(rows: list[list[float]]) -> list[float]:
    matrix = np.array(rows)
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    return sorted((math.sqrt(max(value, 0.0)) for value in np.linalg.eigvalsh(gram)), reverse=True)


def metrics(rows: list[list[float]], delta: float) -> dict[str, float]:
    values = spectrum(rows)
    total, reached, rank = sum(values), 0.0, 0
    for value in values:
        if reached >= (1 - delta) * total - 1e-9:
            break
        reached += value
        rank += 1
    return {
        "norm": math.sqrt(sum(entry**2 for row in rows for entry in row)),
        "largest_singular_value": values[0],
        "mean_singular_value": total / len(values),
        "effective_rank": rank,
        "collapsed_dims": sum(value < delta * values[0] for value in values) / len(values),
    }
