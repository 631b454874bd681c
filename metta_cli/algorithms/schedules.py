"""How a hyperparameter goes from one value to another over a run: pure functions of the progress.

`progress` is the share of the run that is over; below 0 and above 1 it counts as 0 and 1. All begin at
`initial`. `linear`, `cosine` and `logarithmic` end at `minimum`; `exponential` falls by a factor per run and
stops at `minimum`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float, float, float], float]


def constant(initial: float, minimum: float, decay_rate: float, progress: float) -> float:
    """Return `initial`."""
    return initial


def linear(initial: float, minimum: float, decay_rate: float, progress: float) -> float:
    """Return `initial + (minimum - initial) * p`."""
    return initial + (minimum - initial) * _share(progress)


def cosine(initial: float, minimum: float, decay_rate: float, progress: float) -> float:
    """Return `minimum + (initial - minimum) * (1 + cos(pi * p)) / 2`: slow, fast, slow.

    Source: Loshchilov and Hutter 2017, equation 5, https://arxiv.org/abs/1608.03983, without restarts.
    """
    return minimum + (initial - minimum) * (1 + math.cos(math.pi * _share(progress))) / 2


def exponential(initial: float, minimum: float, decay_rate: float, progress: float) -> float:
    """Return `max(initial * decay_rate ** p, minimum)`; `decay_rate` is what remains after the whole run."""
    return max(initial * math.pow(decay_rate, _share(progress)), minimum)


def logarithmic(initial: float, minimum: float, decay_rate: float, progress: float) -> float:
    """Return `initial + (minimum - initial) * ln(1 + decay_rate * p) / ln(1 + decay_rate)`: fast, then slow.

    The larger `decay_rate`, the more of it happens early; near 0 it is linear.
    """
    share = math.log1p(decay_rate * _share(progress)) / math.log1p(decay_rate)
    return initial + (minimum - initial) * share


SCHEDULES: dict[str, Schedule] = {
    function.__name__: function for function in (constant, linear, cosine, exponential, logarithmic)
}


def warmed_up(value: float, agent_steps: int, warmup_steps: int) -> float:
    """Return a value that rises linearly from 0 to itself over the first agent steps of a run.

    Args:
        value: of the schedule.
        agent_steps: of the run so far.
        warmup_steps: agent steps of the rise; 0 is none.
    """
    return value * min(1.0, agent_steps / warmup_steps) if warmup_steps else value


def _share(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)
