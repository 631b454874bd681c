"""The PPO objective of Schulman et al. 2017, equations 7 and 9, one step at a time.

Inputs are flat lists, one entry per step.
"""

import math


def mean(numbers):
    return sum(numbers) / len(numbers)


def clip(number, low, high):
    return low if number < low else high if number > high else number


def policy_objective(log_probs, behavior_log_probs, advantages, clip_coef):
    """Return `L^CLIP`, which the policy maximizes."""
    terms = []
    for new, old, advantage in zip(log_probs, behavior_log_probs, advantages, strict=True):
        ratio = math.exp(new) / math.exp(old)
        terms.append(min(ratio * advantage, clip(ratio, 1 - clip_coef, 1 + clip_coef) * advantage))
    return mean(terms)


def value_loss(values, behavior_values, returns, clip_coef):
    terms = []
    for new, old, target in zip(values, behavior_values, returns, strict=True):
        error = (new - target) ** 2
        if clip_coef is not None:
            held = clip(new, old - clip_coef, old + clip_coef)
            error = max(error, (held - target) ** 2)
        terms.append(error)
    return mean(terms) / 2


def loss(objective, value_error, entropies, vf_coef, ent_coef):
    """Return the negative of equation 9."""
    return -(objective - vf_coef * value_error + ent_coef * mean(entropies))


def normalized(advantages):
    centre = mean(advantages)
    variance = sum((advantage - centre) ** 2 for advantage in advantages) / (len(advantages) - 1)
    return [(advantage - centre) / (math.sqrt(variance) + 1e-8) for advantage in advantages]


def approx_kl(log_probs, behavior_log_probs):
    """Return Schulman's estimator k3 of KL(behavior || policy) from actions of the behavior policy."""
    ratios = [math.exp(new) / math.exp(old) for new, old in zip(log_probs, behavior_log_probs, strict=True)]
    return mean([ratio - 1 - math.log(ratio) for ratio in ratios])


def clip_fraction(log_probs, behavior_log_probs, clip_coef):
    ratios = [math.exp(new) / math.exp(old) for new, old in zip(log_probs, behavior_log_probs, strict=True)]
    return sum(ratio < 1 - clip_coef or ratio > 1 + clip_coef for ratio in ratios) / len(ratios)


def explained_variance(values, returns):
    residuals = [target - value for value, target in zip(values, returns, strict=True)]
    return 1 - _variance(residuals) / _variance(returns)


def _variance(numbers):
    centre = mean(numbers)
    return mean([(number - centre) ** 2 for number in numbers])
