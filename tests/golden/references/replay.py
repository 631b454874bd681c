"""Prioritized sampling after Schaul et al. 2016, with a segment in the place of a transition."""


def draw_probabilities(advantages, alpha):
    """Return the probability of each row of `advantages` (equation 1, with a floor of 1e-6 on `p^alpha`)."""
    powers = [sum(abs(advantage) for advantage in row) ** alpha + 1e-6 for row in advantages]
    return [power / sum(powers) for power in powers]


def importance_weights(probabilities, drawn, beta):
    """Return `(1 / N * 1 / P(i)) ** beta` of every drawn row (section 3.4), before any normalization."""
    return [(1 / len(probabilities) / probabilities[row]) ** beta for row in drawn]


def beta_of_epoch(epoch, total_epochs, alpha, beta0):
    """Return beta after `epoch` equal increments that in the end close the share `alpha` of its gap to 1."""
    beta = beta0
    for _ in range(epoch):
        beta += alpha * (1 - beta0) / total_epochs
    return beta
