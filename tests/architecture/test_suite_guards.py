"""The promises of `tests/conftest.py`, each seen to hold."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("url", ["http://192.0.2.1:80/", "http://example.org/"])
def test_a_test_that_leaves_the_machine_fails_and_is_told_why(url: str) -> None:
    with pytest.raises(RuntimeError, match="tests have no network"):
        urllib.request.urlopen(url, timeout=1)


def test_a_server_on_loopback_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_the_settings_of_the_machine_are_gone(run_pytest) -> None:
    test = """
import os
def test():
    assert not [name for name in os.environ if name.startswith(("METTA_", "AWS_", "WANDB_"))]
"""
    result = run_pytest(test, METTA_DATA_DIR="/somewhere", AWS_PROFILE="mine", WANDB_API_KEY="secret")
    assert result.returncode == 0, result.stdout


def test_a_forgotten_child_process_fails_the_run(run_pytest) -> None:
    test = """
import subprocess, sys
def test():
    globals()["kept"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
"""
    result = run_pytest(test)
    assert result.returncode == 1
    assert "the tests left behind: ['process" in result.stdout


def test_a_forgotten_shared_memory_segment_fails_the_run(run_pytest) -> None:
    test = """
import pathlib
def test():
    pathlib.Path("/dev/shm/metta_test_forgotten").touch()
"""
    try:
        result = run_pytest(test)
        assert result.returncode == 1
        assert "shared memory /dev/shm/metta_test_forgotten" in result.stdout
    finally:
        Path("/dev/shm/metta_test_forgotten").unlink(missing_ok=True)


def test_torch_runs_with_one_thread() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import conftest, torch; print(torch.get_num_threads())"
    )
    command = [sys.executable, "-c", code, str(REPOSITORY / "tests")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"


@pytest.fixture
def run_pytest(tmp_path: Path):
    """Run one test of its own, under this suite's conftest with little patience, in another process."""

    def run(test: str, **environment: str) -> subprocess.CompletedProcess[str]:
        conftest = (REPOSITORY / "tests/conftest.py").read_text()
        (tmp_path / "conftest.py").write_text(
            conftest.replace("PATIENCE_SECONDS = 10.0", "PATIENCE_SECONDS = 0.3")
        )
        (tmp_path / "test_inner.py").write_text(test)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
            cwd=tmp_path,
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
