"""Learning from a teacher: how far the student is from it, and how long that counts."""

from __future__ import annotations

import torch
from torch import Tensor

from metta_cli.algorithms.shapes import expect_shape


def teacher_cross_entropy(teacher_log_probs: Tensor, student_log_probs: Tensor) -> Tensor:
    """Return the mean over steps of `-sum_a p_teacher(a) log p_student(a)`.

    It is KL(teacher || student) plus the entropy of the teacher, so its minimum is that entropy and not 0.
    Actions that the teacher never takes count nothing, however improbable they are to the student.

    Source: Schmitt et al. 2018, "Kickstarting Deep Reinforcement Learning", section 3,
        https://arxiv.org/abs/1803.03835.

    Args:
        teacher_log_probs: `[..., A]`, constants; -inf for what the teacher cannot do.
        student_log_probs: `[..., A]`.

    Returns:
        Scalar in nats, differentiable in `student_log_probs`.

    Raises:
        ValueError: if the shapes differ.
    """
    expect_shape(student_log_probs.shape, teacher_log_probs=teacher_log_probs)
    probabilities = teacher_log_probs.detach().exp()
    products = torch.where(probabilities > 0, probabilities * student_log_probs, 0.0)
    return -products.sum(dim=-1).mean()


def teacher_value_error(teacher_values: Tensor, student_values: Tensor) -> Tensor:
    """Return the mean squared difference between the values of student and teacher.

    Args:
        teacher_values: `[M, T]`, constants.
        student_values: `[M, T]`.

    Returns:
        Scalar, differentiable in `student_values`.

    Raises:
        ValueError: if the shapes differ; `[N]` against `[N, 1]` would compare everything with everything.
    """
    expect_shape(student_values.shape, teacher_values=teacher_values)
    return (student_values - teacher_values.detach()).square().mean()


def kickstart_factor(agent_steps: int, kickstart_steps: int, anneal_ratio: float) -> float:
    """Return what the losses to the teachers are multiplied with.

    It is 1, falls linearly over the last `anneal_ratio * kickstart_steps` agent steps, and is 0 from
    `kickstart_steps` on.

    Args:
        agent_steps: taken so far.
        kickstart_steps: agent steps after which the teachers are gone.
        anneal_ratio: share of them over which the factor falls; 0 drops from 1 to 0 at the end.
    """
    if agent_steps >= kickstart_steps:
        return 0.0
    duration = kickstart_steps * anneal_ratio
    remaining = kickstart_steps - agent_steps
    return min(1.0, remaining / duration) if duration else 1.0
