"""The categorical distribution of one row of logits, from the definitions."""

import math


def probabilities(logits, allowed):
    weights = [math.exp(logit) if ok else 0.0 for logit, ok in zip(logits, allowed, strict=True)]
    return [weight / sum(weights) for weight in weights]


def entropy(logits, allowed):
    return -sum(p * math.log(p) for p in probabilities(logits, allowed) if p > 0)


def first_arrival(logits, allowed, uniform):
    """Return the action that wins an exponential race, which is how Gumbel-max picks it.

    Action `a` arrives after an exponentially distributed time of rate `p_a`; `-log(u)` has rate 1.
    """
    arrivals = {
        action: -math.log(noise) / p
        for action, (p, noise) in enumerate(zip(probabilities(logits, allowed), uniform, strict=True))
        if p > 0
    }
    return min(arrivals, key=arrivals.get)
