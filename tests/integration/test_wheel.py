"""The wheel, in an environment that has never seen the checkout, does what the checkout does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import metta_cli

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "plugins/example_policy"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "metta_cli", "plugins", "configs")


@pytest.fixture(scope="module")
def metta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it into a new virtual environment, and return its `metta`.

    The dependencies are those of the environment that runs the test, seen through a `.pth` file; an
    editable metta cannot be seen through it, because a `.pth` file of a folder added so is not read.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / name, source)
    wheel = build(source, folder)

    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv/bin/python")
    subprocess.run([python, *PIP, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    ours, theirs = (
        subprocess.run([executable, "-c", purelib], check=True, capture_output=True, text=True).stdout.strip()
        for executable in (sys.executable, python)
    )
    (Path(theirs) / "dependencies.pth").write_text(ours)
    return folder / "venv/bin/metta"


def build(source: Path, folder: Path) -> Path:
    """Build the wheel of a package without a network, and return it."""
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, *PIP, "wheel", *options, "--wheel-dir", str(folder), str(source)]
    before = set(folder.glob("*.whl"))
    subprocess.run(command, check=True)
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


def run(metta: Path, words: str, folder: Path, *, expected_code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [str(metta), *words.split()]
    result = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert result.returncode == expected_code, result.stderr
    return result


def test_it_is_the_wheel_that_runs(metta: Path, tmp_path: Path) -> None:
    code = """
import metta_cli, metta_cli.configs, metta_plugins
print(metta_cli.__file__, metta_cli.configs.__file__, metta_plugins.__file__)
"""
    command = [str(metta.with_name("python")), "-c", code]
    result = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert all(path.startswith(str(metta.parents[1])) for path in result.stdout.split())


def test_the_installed_command_finds_its_configs_and_plugins(metta: Path, tmp_path: Path) -> None:
    assert run(metta, "--version", tmp_path).stdout.strip() == f"metta {metta_cli.__version__}"
    assert "navigation/simple" in run(metta, "configs list", tmp_path).stdout
    assert "fast" in run(metta, "plugins list --check", tmp_path).stdout


def test_a_strangers_plugin_is_installed_beside_it_used_and_missed(metta: Path, tmp_path: Path) -> None:
    source = shutil.copytree(EXAMPLE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    wheel = build(source, tmp_path)
    pip = [str(metta.with_name("python")), *PIP]
    assert "token_bag" not in run(metta, "plugins list", tmp_path).stdout
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)

    rows = json.loads(run(metta, "plugins list --check --format json", tmp_path).stdout)
    (row,) = [row for row in rows if row["name"] == "token_bag"]
    assert (row["distribution"], row["state"]) == ("metta-policy-token-bag", "ok")
    assert "ok" in run(metta, "plugins check token_bag", tmp_path).stdout
    sizes = (
        "trainer.total_timesteps=1 trainer.batch_size=1024 trainer.minibatch_size=512 trainer.num_workers=0"
    )
    words = f"train env=navigation/simple policy=token_bag run=bag {sizes} --progress none --format json"
    assert json.loads(run(metta, words, tmp_path).stdout)["agent_steps"] == 1024
    evaluation = "eval bag --env navigation/simple --episodes 2 --format json"
    scores = json.loads(run(metta, evaluation, tmp_path).stdout)
    assert scores["simulations"]["navigation/simple"]["num_episodes"] == 2

    subprocess.run([*pip, "uninstall", "--yes", "metta-policy-token-bag"], check=True)
    missed = run(metta, evaluation, tmp_path, expected_code=3)
    message, cure = missed.stderr.splitlines()
    assert "policy 'token_bag' of metta-policy-token-bag 0.1.0, which is not there" in message
    assert cure == "hint: pip install metta-policy-token-bag==0.1.0"
    assert run(metta, "eval random --env navigation/simple --episodes 1", tmp_path).stdout


@pytest.mark.slow
def test_the_installed_command_evaluates_the_full_suite(metta: Path, tmp_path: Path) -> None:
    result = run(metta, "eval random --suite full_eval --episodes 2 --format json", tmp_path)
    simulations = json.loads(result.stdout)["simulations"]
    assert len(simulations) > 10
    assert all(simulation["num_episodes"] == 2 for simulation in simulations.values())
