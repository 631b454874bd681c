"""The shipped formulas give the numbers that were recorded, and pufferlib's kernel gave the same."""

from __future__ import annotations

import ast
import json

import pytest
import torch
from cases import assert_close
from record import DATA, FORMULAS, GOLDEN, from_json

CALLS = [
    pytest.param(name, call, id=f"{name}-{index}")
    for name in FORMULAS
    for index, call in enumerate(json.loads((DATA / f"{name}.json").read_text())["calls"])
]


def assert_all_close(actual, expected):
    if isinstance(expected, torch.Tensor):
        return assert_close(actual, expected)
    assert actual.keys() == expected.keys()
    for key in expected:
        assert_close(actual[key], expected[key])
    return None


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_formula_gives_the_recorded_numbers(name, call):
    # Pufferlib's kernel is only here to have been asked; its numbers are those that ours must give.
    formula = FORMULAS["advantages" if name == "pufferlib" else name]
    assert_all_close(formula(*from_json(call["inputs"])), from_json(call["output"]))


def test_every_record_says_who_made_it():
    for name in FORMULAS:
        made_by = json.loads((DATA / f"{name}.json").read_text())["made_by"]
        assert all(made_by[key] for key in ("numbers_of", "command", "commit", "torch", "seed"))


def test_references_never_see_the_shipped_code():
    for path in (GOLDEN / "references").glob("*.py"):
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert {alias.name for node in imports for alias in node.names} <= {"math", "numpy"}, path
