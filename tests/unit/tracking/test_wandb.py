import importlib.util
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metta_cli.config.schema import WandbConfig
from metta_cli.errors import AccessError, MettaError, UsageError
from metta_cli.tracking.wandb import (
    RUN_FILE,
    RunIdentity,
    WandbTracker,
    require_server,
    start_error,
    within_deadline,
)

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="needs the extra metta-cli[wandb]"
)

TRACK = """
import os, signal, sys
from pathlib import Path
from metta_cli.config.schema import WandbConfig
from metta_cli.tracking.wandb import WandbTracker

def service_process():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        if name == "wandb-core" and int(rest.split()[1]) == os.getpid():
            return int(stat.parent.name)

config = WandbConfig(mode="offline", project="tests", tags=["a"])
tracker = WandbTracker(config, run="walker", directory=Path(sys.argv[1]), run_config={"seed": 1})
for epoch in range(1, 6):
    if epoch == 3 and sys.argv[2] == "kill":
        pid = service_process()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    tracker.log({"losses/entropy": 1 / epoch, "odd": float("nan")}, agent_steps=100 * epoch, epoch=epoch)
tracker.close()
print("trained to the end")
"""


def track(directory: Path, fault: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TRACK, directory, fault]
    environment = os.environ | {"HOME": str(directory), "WANDB_MODE": "online"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)


@needs_wandb
def test_metrics_reach_the_files_of_an_offline_run(tmp_path: Path) -> None:
    result = track(tmp_path, "none")
    assert result.stdout == "trained to the end\n"
    [written] = tmp_path.glob("wandb/offline-run-*-walker-*/run-walker-*.wandb")
    content = written.read_bytes()
    assert b"losses/entropy" in content
    assert b"agent_steps" in content


@needs_wandb
def test_a_killed_service_process_costs_one_warning_and_no_training(tmp_path: Path) -> None:
    result = track(tmp_path, "kill")
    assert result.stdout == "trained to the end\n"
    assert result.stderr.count("W&B gets no more metrics, they go on in metrics.jsonl: ") == 1
    assert "Traceback" not in result.stderr


def test_without_wandb_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"pip install 'metta-cli\[wandb\]'"):
        WandbTracker(WandbConfig(mode="offline"), run="walker", directory=tmp_path)


def test_a_directory_of_old_runs_is_not_taken_for_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'metta-cli\[wandb\]'"):
        WandbTracker(WandbConfig(mode="offline"), run="walker", directory=tmp_path)


def test_the_id_of_a_run_is_fixed_from_the_start(tmp_path: Path) -> None:
    first = RunIdentity.of(tmp_path, "walker")
    first.set_uploaded(12)
    again = RunIdentity.of(tmp_path, "walker")
    assert (again.id, again.uploaded_epoch) == (first.id, 12)
    (tmp_path / "other").mkdir()
    assert RunIdentity.of(tmp_path / "other", "walker").id != first.id


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"id": "a", "uploaded_epoch": null}'])
def test_an_identity_that_makes_no_sense_is_given_anew(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    assert RunIdentity.of(tmp_path, "walker").id.startswith("walker-")
    assert "makes no sense" in caplog.text


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        require_server(f"http://127.0.0.1:{port}")
    with pytest.raises(MettaError, match=rf"127\.0\.0\.1:{port} cannot be reached: .*wandb\.mode=offline"):
        require_server(f"http://127.0.0.1:{port}")


def test_behind_a_proxy_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    require_server("https://192.0.2.1")


class AuthenticationError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (AuthenticationError("API key must have 40+ characters"), AccessError, "wandb login"),
        (ValueError("No API key configured. Use `wandb login`"), AccessError, "WANDB_API_KEY"),
        (RuntimeError("HTTP 403: permission denied"), AccessError, "wandb.entity"),
        (RuntimeError("returned error 401: not logged in"), AccessError, "wandb login"),
        (RuntimeError("returned error 404: entity teem not found"), UsageError, "wandb.*"),
        (
            TimeoutError("Run initialization has timed out\nPlease ..."),
            MettaError,
            "timed out (go on without",
        ),
        (RuntimeError(), MettaError, "W&B could not be started: RuntimeError (go on"),
    ],
)
def test_what_goes_wrong_at_the_start_has_a_cure(error: Exception, kind: type, text: str) -> None:
    told = start_error(error)
    assert type(told) is kind
    assert text in str(told)
    assert "\n" not in str(told)


def test_a_call_that_hangs_is_left_behind_at_its_deadline() -> None:
    release = threading.Event()
    assert within_deadline(release.wait, 0.05) == "no answer within 0.05 s"
    release.set()
    assert within_deadline(release.wait, 10.0) is None
    assert within_deadline(lambda: [][0], 10.0) == "IndexError: list index out of range"
