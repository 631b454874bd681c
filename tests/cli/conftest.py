"""How the tests of the command line run it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from metta_cli.cli.main import main
from metta_cli.cli.process import LOGGERS


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A command configures the loggers of its process, which is the one of all tests here."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers = handlers


@pytest.fixture
def metta(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main(words)
        return Outcome(exit_info.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def metta_process() -> Callable[..., Outcome]:
    """Run a command in a process of its own, its output in pipes."""

    def run(*words: str, **environment: str) -> Outcome:
        result = subprocess.run(
            [sys.executable, "-m", "metta_cli", *words],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(result.returncode, result.stdout, result.stderr)

    return run


@pytest.fixture
def install_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a distribution that registers one policy, and is one module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(distribution: str, name: str, source: str) -> None:
        module = f"{distribution.replace('-', '_')}_{name}"
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[metta_cli.policies]\n{name} = {module}:Policy\n")
        (site / f"{module}.py").write_text(source)

    return install
