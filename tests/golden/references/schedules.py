"""Schedules, by the sentence that describes each, without the functions that the shipped ones use."""

PI = 3.141592653589793


def cosine(angle):
    """Return the cosine by its power series."""
    term = total = 1.0
    for k in range(1, 40):
        term = -term * angle * angle / ((2 * k - 1) * (2 * k))
        total += term
    return total


def logarithm(x):
    """Return the natural logarithm by the power series of the area tangent."""
    y = (x - 1) / (x + 1)
    return 2 * sum(y ** (2 * k + 1) / (2 * k + 1) for k in range(400))


def value(kind, initial, minimum, decay_rate, progress):
    """Return the value of a schedule when this share of the run is over."""
    share = 0.0 if progress < 0 else 1.0 if progress > 1 else progress
    if kind == "linear":
        return initial * (1 - share) + minimum * share
    if kind == "cosine":
        return minimum + (initial - minimum) / 2 * (1 + cosine(PI * share))
    if kind == "exponential":
        left = initial * decay_rate**share
        return left if left > minimum else minimum
    if kind == "logarithmic":
        return initial - (initial - minimum) * logarithm(1 + decay_rate * share) / logarithm(1 + decay_rate)
    return initial
