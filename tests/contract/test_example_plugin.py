"""A stranger's package comes in through the same door as the built-in plugins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "plugins/example_policy"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example into a folder of its own and return the folder."""
    folder = tmp_path_factory.mktemp("example")
    # setuptools writes beside the sources, so it gets a copy.
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--target", str(folder / "site"), str(source)], check=True)
    return folder / "site"


@pytest.fixture
def environment(site: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(site)}


def test_the_example_is_unknown_without_its_package() -> None:
    assert "token_bag" not in plugin_names(dict(os.environ))


def test_the_example_is_known_with_its_package(environment: dict[str, str]) -> None:
    assert {"fast", "token_bag"} <= set(plugin_names(environment))


def test_the_example_is_listed_and_loads(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "metta_cli", "plugins", "list", "--check", "--format", "json"]
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    (row,) = [row for row in json.loads(result.stdout) if row["name"] == "token_bag"]
    assert row["distribution"] == "metta-policy-token-bag"
    assert row["state"] == "ok"


def test_the_example_keeps_the_contract_that_its_own_tests_inherit(environment: dict[str, str]) -> None:
    tests = str(EXAMPLE / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    result = subprocess.run(
        [*command, "--rootdir", tests, tests],
        env=environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert " skipped" not in result.stdout


def plugin_names(environment: dict[str, str]) -> list[str]:
    code = "from metta_cli.extensions import POLICIES, plugin_names; print(*plugin_names(POLICIES))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return result.stdout.split()
