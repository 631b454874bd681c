"""Distillation, one step and one action at a time, in plain Python."""

import math


def cross_entropy(teacher_logits, student_logits):
    total = 0.0
    for teacher, student in zip(teacher_logits, student_logits, strict=True):
        weights = [math.exp(logit) for logit in teacher]
        normalizer = math.log(sum(math.exp(logit) for logit in student))
        for weight, logit in zip(weights, student, strict=True):
            total -= weight / sum(weights) * (logit - normalizer)
    return total / len(teacher_logits)


def factor(step, steps, ratio):
    """The definition in words: full until the start of the fall, then straight down to 0 at `steps`."""
    start = steps - steps * ratio
    if step >= steps:
        return 0.0
    return 1.0 if step <= start else 1.0 - (step - start) / (steps - start)
