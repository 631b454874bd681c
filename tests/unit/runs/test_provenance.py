import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

import metta_cli
from metta_cli.runs.provenance import git_state, versions


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    command = ["git", *identity, "-C", directory, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("x = 1\n")
    (tmp_path / "README").write_text("text\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_versions_are_those_of_the_running_process() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["metta-cli"] == metta_cli.__version__
    assert all(found.values())


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    state = git_state(checkout / "package")
    assert state == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_a_change_anywhere_in_the_checkout_is_seen(checkout: Path) -> None:
    (checkout / "untracked").write_text("")
    assert git_state(checkout / "package")["dirty"] is False
    (checkout / "README").write_text("changed\n")
    assert git_state(checkout / "package")["dirty"] is True


def test_a_wheel_installed_inside_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout / ".venv" / "site-packages" / "metta_cli"
    installed.mkdir(parents=True)
    (installed / "module.py").write_text("")
    assert git_state(installed) is None


def test_without_a_checkout_or_without_git_there_is_no_commit(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_state(Path(os.sep)) is None
    assert git_state(checkout / "missing") is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert git_state(checkout / "package") is None
