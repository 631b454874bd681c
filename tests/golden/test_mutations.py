"""The list of deliberate mistakes fits the code (`make mutants` then makes them, which takes minutes)."""

from __future__ import annotations

import ast

import pytest
from mistakes import MUTATIONS, WITNESSES, Mutation
from mutations import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.file}: {mutation.mistake}")
def test_mistake_fits_the_code(mutation):
    original = (ROOT / "metta_cli" / mutation.file).read_text()
    mutated = mutation.mutated(ROOT)  # raises unless the old text is there exactly once
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(original))
    assert all((ROOT / path).exists() for path in WITNESSES[mutation.file].split())


def test_no_mistake_is_listed_twice():
    texts = [(mutation.file, mutation.mutated(ROOT)) for mutation in MUTATIONS]
    assert len(set(texts)) == len(texts)


def test_mistake_in_code_that_is_gone_is_refused():
    with pytest.raises(ValueError, match="holds 0 times"):
        Mutation("errors.py", "", "no such text", "").mutated(ROOT)
