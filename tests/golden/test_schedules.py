"""Schedules: the worked formulas, against an independent reference and by hand."""

from __future__ import annotations

import math

import pytest
from references import schedules as reference

from metta_cli.algorithms.schedules import SCHEDULES, warmed_up
from metta_cli.config.schedules import DECAY_RATES, SCHEDULE_TYPES


def test_names_in_the_configuration_are_those_of_the_formulas():
    assert tuple(SCHEDULES) == SCHEDULE_TYPES
    assert DECAY_RATES.keys() <= SCHEDULES.keys()


@pytest.mark.parametrize("kind", SCHEDULE_TYPES)
@pytest.mark.parametrize("ends", [(0.4, 0.04), (0.1, 0.3), (2e-3, 0.0)])
@pytest.mark.parametrize("decay_rate", [0.05, 0.95])
def test_values_are_those_of_the_reference(kind, ends, decay_rate):
    for progress in (-0.5, 0.0, 0.1, 0.25, 0.5, 0.9, 1.0, 1.7):
        value = SCHEDULES[kind](*ends, decay_rate, progress)
        assert value == pytest.approx(
            reference.value(kind, *ends, decay_rate, progress), rel=1e-10, abs=1e-15
        )


@pytest.mark.parametrize(
    ("kind", "decay_rate", "expected"),
    [
        ("constant", 1.0, [1.0, 1.0, 1.0]),
        ("linear", 1.0, [1.0, 0.55, 0.1]),
        ("cosine", 1.0, [1.0, 0.55, 0.1]),
        ("exponential", 0.95, [1.0, math.sqrt(0.95), 0.95]),
        ("exponential", 0.01, [1.0, 0.1, 0.1]),  # 0.01 at the end is less than the minimum
        ("logarithmic", 0.1, [1.0, 1 - 0.9 * math.log(1.05) / math.log(1.1), 0.1]),
    ],
)
def test_start_middle_and_end(kind, decay_rate, expected):
    values = [SCHEDULES[kind](1.0, 0.1, decay_rate, progress) for progress in (0.0, 0.5, 1.0)]
    assert values == pytest.approx(expected)


def test_cosine_falls_slowly_at_first_and_logarithmic_quickly():
    at_tenth = {kind: SCHEDULES[kind](1.0, 0.0, 9.0, 0.1) for kind in ("cosine", "linear", "logarithmic")}
    assert at_tenth["cosine"] == pytest.approx((1 + math.cos(math.pi / 10)) / 2)
    assert at_tenth["logarithmic"] == pytest.approx(1 - math.log10(1.9))
    assert at_tenth["cosine"] > at_tenth["linear"] > at_tenth["logarithmic"]


@pytest.mark.parametrize(("agent_steps", "expected"), [(0, 0.0), (25, 0.1), (100, 0.4), (900, 0.4)])
def test_warm_up_rises_linearly(agent_steps, expected):
    assert warmed_up(0.4, agent_steps, 100) == pytest.approx(expected)


def test_without_warm_up_a_value_stays():
    assert warmed_up(0.4, 0, 0) == 0.4
