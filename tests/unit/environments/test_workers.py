"""Worker processes: what they are, and what they are not."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.vector import VectorEnvironment

ROOM = EnvironmentSpec(name="room", builder="mean_distance", args={"max_steps": 9})

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")


@pytest.fixture(scope="module")
def environment():
    with VectorEnvironment(ROOM, num_environments=3, num_workers=2) as environment:
        environment.reset()
        yield environment


def process_ids(environment):
    return environment._stepper.process_ids


def noops(environment):
    return np.zeros(environment.num_agents, int)


def test_the_environments_are_importable_without_torch():
    program = (
        "import sys, metta_cli.environments.vector\n"
        "heavy = {'torch', 'tensordict', 'pufferlib', 'boto3', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_environments_leaves_logging_alone():
    program = (
        "import logging\n"
        "logging.root.setLevel(logging.ERROR)\n"
        "import metta_cli.environments.vector\n"
        "assert logging.root.level == logging.ERROR\n"
        "assert not logging.root.handlers\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_ignores_the_signals_that_stop_a_run(environment, number):
    for process_id in process_ids(environment):
        os.kill(process_id, number)
    for _ in range(3):
        environment.step(noops(environment))


@needs_proc
def test_a_worker_has_one_thread_and_no_torch(environment):
    for process_id in process_ids(environment):
        process = Path(f"/proc/{process_id}")
        assert len(list((process / "task").iterdir())) == 1
        assert "torch" not in (process / "maps").read_text()
        variables = (process / "environ").read_text().split("\0")
        assert {"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1"} <= set(variables)


def test_a_terminal_does_not_send_its_signals_to_workers(environment):
    for process_id in process_ids(environment):
        assert os.getpgid(process_id) == process_id


@needs_proc
def test_a_worker_writes_nothing_to_standard_output(environment):
    for process_id in process_ids(environment):
        descriptors = Path(f"/proc/{process_id}/fd")
        assert os.readlink(descriptors / "1") == os.readlink(descriptors / "2")
        assert os.readlink(descriptors / "0") == os.devnull


@needs_proc
def test_a_worker_that_waits_uses_no_processor(environment):
    environment.step(noops(environment))
    before = [cpu_ticks(process_id) for process_id in process_ids(environment)]
    time.sleep(0.5)
    after = [cpu_ticks(process_id) for process_id in process_ids(environment)]
    assert all(later - earlier <= 1 for earlier, later in zip(before, after, strict=True))


def cpu_ticks(process_id):
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_the_parent_uses_no_processor_while_it_waits():
    with VectorEnvironment(ROOM, num_environments=1, num_workers=1) as environment:
        environment.async_reset()
        started = time.thread_time()
        environment.recv()  # waits while the worker imports its modules
        assert time.thread_time() - started < 0.05


def test_a_thread_that_made_the_workers_may_end():
    environments = []

    def make():
        environments.append(VectorEnvironment(ROOM, num_environments=1, num_workers=1))
        environments[0].reset()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    with environments[0] as environment:
        for _ in range(5):
            time.sleep(0.02)
            environment.step(noops(environment))


def test_a_script_without_a_main_guard_may_use_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np
            from metta_cli.config.environment import EnvironmentSpec
            from metta_cli.environments.vector import VectorEnvironment

            print("run")
            spec = EnvironmentSpec(name="room", builder="mean_distance")
            with VectorEnvironment(spec, num_environments=2, num_workers=2) as environment:
                environment.reset()
                environment.step(np.zeros(2, int))
            print("done")
            """
        )
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert (result.stdout, result.stderr, result.returncode) == ("run\ndone\n", "", 0)


def test_modules_in_the_working_directory_do_not_reach_a_worker(tmp_path, monkeypatch):
    (tmp_path / "signal.py").write_text("raise SystemExit('imported by mistake')")
    monkeypatch.chdir(tmp_path)
    with VectorEnvironment(ROOM, num_environments=1, num_workers=1) as environment:
        environment.reset()
