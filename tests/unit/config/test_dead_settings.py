"""No setting of a trainer is accepted and then read by nobody."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import metta_cli
from metta_cli.config.section import Section
from metta_cli.config.trainer import UNSUPPORTED, TrainerConfig

PACKAGE = Path(metta_cli.__file__).parent


def sections_in(annotation):
    """Yield the section classes in a type, such as that of `list[Section] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def settings_of(section, prefix=()):
    """Yield the path of every setting, and the class that it is a field of."""
    for name, field in section.model_fields.items():
        inner = list(sections_in(field.annotation))
        for kind in inner:
            yield from settings_of(kind, (*prefix, name))
        if not inner:
            yield (*prefix, name), section


def is_validator(node):
    return isinstance(node, ast.FunctionDef) and "validator" in "".join(map(ast.dump, node.decorator_list))


def parts_of(node):
    """Yield a node and all below it, without validators: what they read is checked and not acted upon."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not is_validator(child):
            yield from parts_of(child)


def names_read(path):
    """Return the names that a file reads as attributes or holds as texts, and all words in it."""
    names, words = set(), set()
    for node in parts_of(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, (ast.arg, ast.alias, ast.ClassDef)):
            words.add(node.arg if isinstance(node, ast.arg) else node.name)
    return names, words | names


TABLES = {PACKAGE / "config" / "trainer.py"}  # names every setting that is refused
TREES = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
# Sections that are handed on whole, as keyword arguments: section.model_dump().
DUMPED = {
    node.value.attr
    for tree in TREES
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute) and node.attr == "model_dump" and isinstance(node.value, ast.Attribute)
}
ARGUMENTS = {node.arg for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.arg)}
FILES = [names_read(path) for path in sorted(PACKAGE.rglob("*.py")) if path not in TABLES]
SETTINGS = list(settings_of(TrainerConfig))


def is_refused(key):
    return any(key == name or key.startswith(name + ".") for name in UNSUPPORTED)


def is_read(path, section):
    """Tell whether a file that knows the section reads the name."""
    known_as = {section.__name__, *path[-2:-1]} if len(path) > 1 else {"TrainerConfig", "trainer", "config"}
    if len(path) > 1 and path[-2] in DUMPED and path[-1] in ARGUMENTS:
        return True
    return any(path[-1] in names and known_as & words for names, words in FILES)


@pytest.mark.parametrize(("path", "section"), SETTINGS, ids=[".".join(path) for path, _ in SETTINGS])
def test_a_setting_is_read_or_refused(path, section):
    key = ".".join(path)
    assert is_read(path, section) or is_refused(key), f"trainer.{key} is read by nobody"


def test_settings_that_nobody_reads_are_found():
    class Dead(Section):
        nothing_reads_this: int = 1

    assert not is_read(("dead", "nothing_reads_this"), Dead)
    assert not is_read(("nothing_reads_this",), TrainerConfig)


def test_walk_reaches_nested_and_optional_sections():
    keys = {".".join(path) for path, _ in SETTINGS}
    assert {
        "total_timesteps",
        "ppo.gamma",
        "hyperparameter_scheduler.ppo_clip_schedule.decay_rate",
        "kickstart.additional_teachers.teacher_uri",
    } <= keys
    assert len(keys) > 90
