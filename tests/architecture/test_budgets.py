"""Sizes and names stay small: a file, a function and a package that outgrow them are taken apart."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("metta_cli", "plugins", "benchmarks", "docs")
SOURCES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PACKAGE_DEPTH = 2
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "misc", "common", "tools", "manager", "base"}


def test_no_file_is_longer_than_its_budget() -> None:
    lengths = {path: path.read_text().count("\n") for path in SOURCES}
    assert [f"{path}: {lines}" for path, lines in lengths.items() if lines > MAX_FILE_LINES] == []


def test_no_function_is_longer_than_its_budget() -> None:
    too_long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{path}:{node.lineno} {node.name}: {lines}")
    assert too_long == []


def test_packages_are_at_most_two_deep() -> None:
    packages = [path.parent for path in (REPOSITORY / "metta_cli").rglob("__init__.py")]
    depths = {path: len(path.relative_to(REPOSITORY).parts) for path in packages}
    assert [str(path) for path, depth in depths.items() if depth > MAX_PACKAGE_DEPTH] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = [(path, name) for path in SOURCES for name in path.relative_to(REPOSITORY).with_suffix("").parts]
    assert [str(path) for path, name in names if name in NAMES_THAT_SAY_NOTHING] == []
