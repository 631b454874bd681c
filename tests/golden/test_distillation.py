"""The losses to a teacher against plain Python and against worked numbers."""

import pytest
import torch

from metta_cli.algorithms.distillation import kickstart_factor, teacher_cross_entropy, teacher_value_error
from tests.golden.references import distillation


def log_probs(logits):
    return torch.log_softmax(torch.tensor(logits, dtype=torch.float64), dim=-1)


def test_cross_entropy_has_the_worked_value():
    assert teacher_cross_entropy(log_probs([[2, 0, 0]]), log_probs([[0, 0, 1]])).item() == pytest.approx(
        1.444938, abs=1e-6
    )


def test_cross_entropy_agrees_with_plain_python():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (3 * torch.randn(2, 17, 5, generator=generator, dtype=torch.float64)).unbind()
    expected = distillation.cross_entropy(teacher.tolist(), student.tolist())
    found = teacher_cross_entropy(log_probs(teacher.tolist()), log_probs(student.tolist()))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_cross_entropy_of_a_teacher_with_itself_is_its_entropy():
    teacher = log_probs([[2, 0, 0]])
    assert teacher_cross_entropy(teacher, teacher).item() == pytest.approx(0.665573, abs=1e-6)


def test_actions_that_the_teacher_cannot_take_leave_value_and_gradient_finite():
    teacher = torch.tensor([[0.0, -torch.inf]])
    student = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = teacher_cross_entropy(teacher, student)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(student.grad, torch.tensor([[-1.0, 0.0]]))


def test_the_teacher_gets_no_gradient():
    teacher = log_probs([[1, 2, 3]]).requires_grad_()
    values = torch.ones(2, 3, requires_grad=True)
    student = log_probs([[0, 0, 0]]).requires_grad_()
    (
        teacher_cross_entropy(teacher, student)
        + teacher_value_error(values, torch.zeros(2, 3, requires_grad=True))
    ).backward()
    assert teacher.grad is None
    assert values.grad is None


def test_value_error_is_the_mean_square():
    found = teacher_value_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 5.0]]))
    assert found.item() == pytest.approx((1 + 9) / 2)


def test_a_value_column_is_refused_rather_than_broadcast():
    with pytest.raises(ValueError, match="teacher_values"):
        teacher_value_error(torch.zeros(4, 1), torch.zeros(4))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1), (350, 1), (351, 0.998462), (675, 0.5), (999, 0.001538), (1000, 0), (5000, 0)],
)
def test_the_factor_has_the_worked_values(step, expected):
    assert kickstart_factor(step, 1000, 0.65) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.65, 1.0])
def test_the_factor_agrees_with_its_definition(ratio):
    for step in range(0, 2100, 7):
        assert kickstart_factor(step, 2000, ratio) == pytest.approx(
            distillation.factor(step, 2000, ratio), abs=1e-12
        )
