"""`metta plugins new` writes packages that work as they are written, and `check` tells which do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def metta(words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metta_cli", *words.split()]
    environment = os.environ | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=["policy", "loader"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def package(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a package, install it into the folder `site` beside it, and return its folder."""
    folder = tmp_path_factory.mktemp(kind)
    result = metta(f"plugins new fresh --kind {kind} --directory package", folder)
    assert result.returncode == 0, result.stderr
    written = {folder / line for line in result.stdout.splitlines()}
    assert written == {path for path in (folder / "package").rglob("*") if path.is_file()}
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*pip, *offline, "--target", str(folder / "site"), str(folder / "package")],
        check=True,
        capture_output=True,
    )
    return folder / "package"


def test_the_tests_of_a_new_package_pass_as_they_are_written(kind: str, package: Path) -> None:
    tests = str(package / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": str(package.parent / "site"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", tests, tests],
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    num_tests = {"policy": 18, "loader": 4}[kind]
    assert f"{num_tests} passed" in result.stdout


def test_a_new_plugin_is_listed_under_its_name_and_keeps_its_contract(kind: str, package: Path) -> None:
    site = str(package.parent / "site")
    result = metta("plugins list --check --format json", package.parent, PYTHONPATH=site)
    (row,) = [row for row in json.loads(result.stdout) if row["name"] == "fresh"]
    assert (row["kind"], row["distribution"], row["state"]) == (kind, f"metta-{kind}-fresh", "ok")

    result = metta("plugins check fresh --format json", package.parent, PYTHONPATH=site)
    assert result.returncode == 0, result.stderr
    states = {row["test"]: row["state"] for row in json.loads(result.stdout)}
    assert "broken" not in states.values()
    sure = {"policy": "test_gradients_reach_all_parameters", "loader": "test_nothing_there_is_not_found"}
    assert states[sure[kind]] == "ok"
