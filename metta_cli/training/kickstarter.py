"""Kickstarting: a student also learns to act, and to judge states, like its teachers do.

The teachers watch what the student lived through, step by step and once per epoch, with recurrent states of
their own that go on from epoch to epoch; what they would have done is kept for the minibatches.

Source: Schmitt et al. 2018, "Kickstarting Deep Reinforcement Learning", https://arxiv.org/abs/1803.03835.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.algorithms.distillation import kickstart_factor, teacher_cross_entropy, teacher_value_error
from metta_cli.policies.contract import Policy, RecurrentState
from metta_cli.training.experience import Experience, Minibatch


@dataclass(frozen=True)
class Teacher:
    """A policy to learn from.

    Attributes:
        name: what messages call it.
        policy: follows the contract and fits the environment of the student; it is not changed.
        action_loss_coef: weight of the cross entropy to its actions.
        value_loss_coef: weight of the squared distance to its values.
    """

    name: str
    policy: nn.Module
    action_loss_coef: float = 1.0
    value_loss_coef: float = 1.0


@dataclass
class _Lesson:
    """What a teacher makes of an experience: `log_probs` `[S, T, A]`, `values` `[S, T]`."""

    log_probs: Tensor
    values: Tensor


class Kickstarter:
    """Adds the losses to teachers, which fade out and end.

    Args:
        teachers: at least one.
        kickstart_steps: agent steps after which the teachers are gone.
        anneal_ratio: last share of them over which the losses fade.
        device: where the teachers lie.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        *,
        kickstart_steps: int,
        anneal_ratio: float,
        device: torch.device | str,
    ) -> None:
        self.teachers = tuple(teachers)
        self.kickstart_steps, self.anneal_ratio = kickstart_steps, anneal_ratio
        self.device = torch.device(device)
        for teacher in self.teachers:
            teacher.policy.to(self.device).eval().requires_grad_(False)
        self._states: dict[str, RecurrentState] = {}
        self._lessons: dict[str, _Lesson] = {}
        self._rollout: int | None = None

    def loss(
        self, experience: Experience, minibatch: Minibatch, outputs: TensorDict, agent_steps: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to add, and scalars to log.

        Args:
            experience: the filled experience that the minibatch is of; the teachers look at it once.
            minibatch: what the student saw and did.
            outputs: what it now makes of it: `full_log_probs` `[M, T, A]` and `value` `[M, T]`.
            agent_steps: of the run so far.

        Returns:
            Scalar with gradient, and `ks_action_loss`, `ks_value_loss` (as they enter the loss) and
            `ks_agreement` (share of steps at which the likeliest actions of student and teachers agree).
        """
        log_probs, values = outputs["full_log_probs"], outputs["value"]
        factor = kickstart_factor(agent_steps, self.kickstart_steps, self.anneal_ratio)
        action_loss, value_loss = values.new_zeros(()), values.new_zeros(())
        if factor == 0.0:
            return action_loss, {"ks_action_loss": action_loss, "ks_value_loss": value_loss}
        self._watch(experience)
        agreements = []
        for teacher in self.teachers:
            lesson = self._lessons[teacher.name]
            index = minibatch.index.to(lesson.values.device)
            taught, judged = lesson.log_probs[index].to(values.device), lesson.values[index].to(values.device)
            action_loss = action_loss + teacher.action_loss_coef * teacher_cross_entropy(taught, log_probs)
            value_loss = value_loss + teacher.value_loss_coef * teacher_value_error(judged, values)
            agreements.append((taught.argmax(-1) == log_probs.detach().argmax(-1)).float().mean())
        action_loss, value_loss = factor * action_loss, factor * value_loss
        return action_loss + value_loss, {
            "ks_action_loss": action_loss.detach(),
            "ks_value_loss": value_loss.detach(),
            "ks_agreement": torch.stack(agreements).mean(),
        }

    def _watch(self, experience: Experience) -> None:
        """Have every teacher look at an experience that it has not seen yet."""
        if self._rollout == experience.num_rollouts:
            return
        self._rollout = experience.num_rollouts
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):  # a policy that acts draws an action
            self._lessons = {teacher.name: self._lesson(teacher, experience) for teacher in self.teachers}

    def _lesson(self, teacher: Teacher, experience: Experience) -> _Lesson:
        policy = cast(Any, teacher.policy)
        if teacher.name not in self._states:
            initial = cast(Policy, policy).initial_state(experience.num_agents, self.device)
            self._states[teacher.name] = initial
        state = self._states[teacher.name]
        dones = experience.dones
        lesson = _Lesson(torch.empty(0), torch.zeros_like(experience.values[:, :-1]))
        for chunk in range(experience.num_chunks):
            rows = experience.rows(chunk)
            for step in range(experience.bptt_horizon):
                seen = experience.observations[rows, step, : experience.used_tokens].to(self.device)
                inputs = TensorDict(
                    {"env_obs": seen, "dones": dones[rows, step].to(self.device)}, batch_size=[len(seen)]
                )
                outputs = policy(inputs, state)
                log_probs = outputs["full_log_probs"]
                if not lesson.log_probs.numel():
                    shape = (*experience.actions.shape, log_probs.shape[-1])
                    lesson.log_probs = experience.values.new_zeros(shape)
                lesson.log_probs[rows, step] = log_probs.to(lesson.log_probs.device)
                lesson.values[rows, step] = outputs["values"].to(lesson.values.device)
        return lesson
