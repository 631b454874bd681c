"""From a curriculum, as it is written, to its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from metta_cli.config.catalogue import find_environment
from metta_cli.config.curriculum import CurriculumConfig, CurriculumTask, ParameterRange, Range, Task
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.errors import UnknownNameError


def create_tasks(
    config: CurriculumConfig, environment: EnvironmentSpec, env_overrides: dict[str, Any] | None = None
) -> list[Task]:
    """Return every environment of a curriculum with every combination of its buckets.

    Args:
        config: the curriculum.
        environment: of a curriculum that names none.
        env_overrides: arguments that replace those of the environments and of the curriculum.

    Raises:
        UnknownNameError: if the curriculum names an environment that does not exist.
    """
    tasks = []
    fixed = {name: _span(span) for name, span in config.parameters.items()}
    for name, entry, spec in _environments(config, environment):
        arguments = {**spec.args, **config.env_overrides, **entry.env_overrides, **(env_overrides or {})}
        for bucket in _buckets(config):
            values = {key: value for key, value in bucket.items() if not isinstance(value, tuple)}
            ranges = {key: value for key, value in bucket.items() if isinstance(value, tuple)}
            tasks.append(
                Task(
                    name=";".join([name, *(f"{key}={_label(value)}" for key, value in bucket.items())]),
                    spec=spec.model_copy(update={"args": {**arguments, **values}}),
                    ranges={**fixed, **ranges},
                    score_max=entry.score_max or config.score_max,
                )
            )
    return tasks


def task_weights(config: CurriculumConfig) -> list[float]:
    """Return the weight of every task, in the order of `create_tasks`; a bucket shares its environment's."""
    num_buckets = len(list(_buckets(config)))
    entries = list(config.tasks.values()) or [CurriculumTask()]
    return [entry.weight / num_buckets for entry in entries for _ in range(num_buckets)]


def _environments(
    config: CurriculumConfig, environment: EnvironmentSpec
) -> Iterator[tuple[str, CurriculumTask, EnvironmentSpec]]:
    if not config.tasks:
        spec = environment if config.env is None else _find(config.env, config, "env")
        yield spec.name or spec.builder, CurriculumTask(), spec
    for name, entry in config.tasks.items():
        yield name, entry, _find(entry.env or name, config, f"tasks.{name}")


def _find(name: str, config: CurriculumConfig, place: str) -> EnvironmentSpec:
    try:
        return find_environment(name)
    except UnknownNameError as error:
        of = f" of curriculum '{config.name}'" if config.name else ""
        cure = f"{error.cure} (trainer.curriculum.{place}{of})"
        raise UnknownNameError(error.kind, error.name, error.known, cure) from None


def _buckets(config: CurriculumConfig) -> Iterator[dict[str, Any]]:
    """Yield every combination: argument -> a value, or a range as a tuple."""
    options = []
    for span in config.buckets.values():
        options.append(span if isinstance(span, list) else ParameterRange.model_validate(span).parts())
    for values in product(*options):
        yield dict(zip(config.buckets, values, strict=True))


def _span(span: Any) -> Range:
    return list(span) if isinstance(span, list) else ParameterRange.model_validate(span).range


def _label(value: Any) -> str:
    return f"{value[0]:g}..{value[1]:g}" if isinstance(value, tuple) else str(value)
