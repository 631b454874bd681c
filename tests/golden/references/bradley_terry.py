"""Bradley-Terry ratings the slow way: one game at a time, steepest ascent, differences for derivatives."""

import math


def log_posterior(scores: list[list[float]], ratings: list[float], anchor: int, deviation: float) -> float:
    total = 0.0
    for i, row in enumerate(scores):
        for j, points in enumerate(row):
            if i != j:
                total -= points * math.log10(1 + 10 ** ((ratings[j] - ratings[i]) / 400)) * math.log(10)
    for i, rating in enumerate(ratings):
        if i != anchor:
            total -= (rating / deviation) ** 2 / 2
    return total


def ratings_of(scores: list[list[float]], anchor: int, deviation: float) -> list[float]:
    """Move one rating at a time up or down, by ever smaller steps, while that is better."""
    ratings = [0.0] * len(scores)
    step = 200.0
    while step > 1e-4:
        improved = False
        for i in range(len(scores)):
            for change in (step, -step):
                moved = list(ratings)
                moved[i] += change
                if i != anchor and log_posterior(scores, moved, anchor, deviation) > log_posterior(
                    scores, ratings, anchor, deviation
                ):
                    ratings, improved = moved, True
        if not improved:
            step /= 2
    return ratings


def curvature(scores: list[list[float]], ratings: list[float], anchor: int, deviation: float) -> list:
    """Return the negative matrix of second derivatives, by central differences."""
    size, h = len(ratings), 1.0

    def at(*changes: tuple[int, float]) -> float:
        moved = list(ratings)
        for index, change in changes:
            moved[index] += change
        return log_posterior(scores, moved, anchor, deviation)

    return [
        [
            -(at((i, h), (j, h)) - at((i, h), (j, -h)) - at((i, -h), (j, h)) + at((i, -h), (j, -h)))
            / (4 * h * h)
            for j in range(size)
        ]
        for i in range(size)
    ]
