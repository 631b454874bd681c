"""Workers that die, simulators that fail, parents that are killed."""

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from mettagrid.config.handler_config import Handler
from mettagrid.config.mutation import updateActor
from mettagrid.map_builder.ascii import AsciiMapBuilder

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.builders import build
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import SimulatorError

ROOM = EnvironmentSpec(name="room", builder="mean_distance", args={"max_steps": 9})
PATIENCE_SECONDS = 10.0

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what the Linux kernel offers")


def opened(**arguments):
    numbers = {"num_environments": 4, "num_workers": 2, "seed": 8} | arguments
    return VectorEnvironment(ROOM, **numbers)


def process_ids(environment):
    return environment._stepper.process_ids


def noops(environment):
    return np.zeros(environment.num_agents, int)


def is_running(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # An orphan whose new parent has not reaped it yet has ended all the same.
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def assert_gone(ids):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(map(is_running, ids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [process_id for process_id in ids if is_running(process_id)]


def place(slot, episode, step, seed=8):
    seeds = EpisodeSeeds(seed)
    return (
        f"environment 'room', slot {slot}, episode {episode}, seed {seed}, "
        f"map seed {seeds.map_seed(episode)}, simulation seed {seeds.simulation_seed(episode)}, step {step}"
    )


def test_a_killed_worker_is_an_error_that_names_the_place_and_ends_the_others():
    environment = opened()
    environment.reset()
    for _ in range(11):  # the second step of the second episodes
        environment.step(noops(environment))
    ids = process_ids(environment)
    os.kill(ids[1], signal.SIGKILL)
    assert_gone(ids[1:])
    with pytest.raises(SimulatorError) as caught:
        environment.step(noops(environment))
    assert "worker 1 was killed by SIGKILL" in caught.value.message
    assert place(slot=3, episode=7, step=3) in caught.value.message
    assert "memory" in caught.value.cure
    assert_gone(ids)
    with pytest.raises(RuntimeError, match="closed"):
        environment.step(noops(environment))
    environment.close()


def test_a_worker_that_dies_while_others_are_still_busy_is_noticed_at_once():
    environment = opened()
    environment.reset()
    first, second = process_ids(environment)
    os.kill(first, signal.SIGSTOP)  # never answers
    killer = threading.Timer(0.3, os.kill, (second, signal.SIGKILL))
    killer.start()
    environment.send(noops(environment))
    os.kill(second, signal.SIGSTOP)
    with pytest.raises(SimulatorError, match="worker 1 was killed by SIGKILL"):
        environment.recv()
    killer.join()
    assert_gone([first, second])


def test_a_worker_that_dies_while_it_starts_is_an_error():
    environment = opened()
    ids = process_ids(environment)
    os.kill(ids[0], signal.SIGKILL)
    with pytest.raises(SimulatorError, match="worker 0 was killed by SIGKILL"):
        environment.reset()
    assert_gone(ids)


def test_a_simulator_that_crashes_its_process_is_an_error(monkeypatch):
    def build_crashing(spec):
        config = build(spec)
        config.game.on_tick = Handler(name="crash", mutations=[updateActor({"heart": 1})])
        return config

    monkeypatch.setattr("metta_cli.environments.vector.build", build_crashing)  # past the guard
    environment = opened(num_workers=1)
    environment.reset()
    ids = process_ids(environment)
    with pytest.raises(SimulatorError, match=r"worker 0 was killed by SIGSEGV; it was last at .*step 1 "):
        environment.step(noops(environment))
    assert_gone(ids)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_exception_of_the_simulator_names_the_place(monkeypatch, num_workers):
    def build_with_few_tokens(spec):
        config = build(spec)
        config.game.obs.num_tokens = 12  # enough where no wall is in sight, as at first
        return config

    monkeypatch.setattr("metta_cli.environments.vector.build", build_with_few_tokens)
    environment = opened(num_workers=num_workers, first_episode=20)
    environment.reset()
    ids = process_ids(environment) if num_workers else []
    walk_north = np.full(environment.num_agents, environment.interface.action_names.index("move_north"))
    steps = iter(range(1, 9))
    with pytest.raises(SimulatorError) as caught:
        step_until_it_fails(environment, walk_north, steps)
    error = caught.value
    slot = int(re.search(r"slot (\d)", error.message)[1])
    assert place(slot, episode=20 + slot, step=next(steps) - 1) in error.message
    assert "token budget exceeded" in error.message
    assert "\n" not in error.message
    assert "num_tokens" in error.cure
    if num_workers:
        assert "simulator.step()" in "".join(error.__notes__)  # the traceback of the worker
    else:
        assert isinstance(error.__cause__, RuntimeError)
    assert_gone(ids)
    with pytest.raises(RuntimeError, match="closed"):
        environment.step(walk_north)


def step_until_it_fails(environment, actions, steps):
    for _ in steps:
        environment.step(actions)


def test_a_worker_that_cannot_load_the_environment_says_why(monkeypatch):
    module = types.ModuleType("only_in_the_parent")  # as a notebook's cells are
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.Map = type("Map", (AsciiMapBuilder.Config,), {"__module__": module.__name__})

    def build_with_own_map(spec):
        config = build(spec)
        config.game.map_builder = module.Map(map_data=[["#", "@", "#"]], char_to_map_name={})
        return config

    monkeypatch.setattr("metta_cli.environments.vector.build", build_with_own_map)
    environment = opened()
    ids = process_ids(environment)
    with pytest.raises(SimulatorError, match=r"cannot load .*'only_in_the_parent'") as caught:
        environment.reset()
    assert "num_workers=0" in caught.value.cure
    assert_gone(ids)


def test_a_worker_that_keeps_everybody_waiting_is_named_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr("metta_cli.environments.workers.PATIENCE_SECONDS", 0.2)
    environment = opened()
    environment.reset()
    caplog.clear()
    (_, second) = process_ids(environment)
    os.kill(second, signal.SIGSTOP)
    environment.send(noops(environment))
    waker = threading.Timer(1.0, os.kill, (second, signal.SIGCONT))
    waker.start()
    environment.recv()
    waker.join()
    assert f"worker 1 has not answered for 0.2 s; it is at {place(3, episode=3, step=1)}" in caplog.messages
    environment.close()


def test_an_environment_that_is_forgotten_ends_its_workers():
    environment = opened()
    environment.reset()
    ids = process_ids(environment)
    del environment
    gc.collect()
    assert_gone(ids)


def test_closing_in_the_middle_of_a_step_ends_stopped_and_busy_workers():
    environment = opened()
    environment.reset()
    ids = process_ids(environment)
    environment.send(noops(environment))
    os.kill(ids[0], signal.SIGSTOP)
    environment.close()
    assert_gone(ids)


@on_linux
def test_nothing_stays_open_after_close():
    opened().close()  # whatever is opened once and for all
    before = open_files()
    for _ in range(2):
        environment = opened()
        environment.reset()
        environment.close()
        del environment
    gc.collect()
    assert open_files() == before


def open_files():
    return sorted(os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())


PARENT = """
import os, sys, threading
import numpy as np
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.vector import VectorEnvironment

def make():
    global environment
    spec = EnvironmentSpec(name="room", builder="mean_distance")
    environment = VectorEnvironment(spec, num_environments=2, num_workers=2)
    environment.reset()

def main():
    print(*environment._stepper.process_ids, flush=True)
    sys.stdin.readline()
    environment.step(np.zeros(2, int))
"""


def heed_interrupts():
    """Take back that whoever started the tests in the background has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def parent(ending):
    """Run a program that has two workers; yields it and their process ids."""
    program = PARENT + textwrap.dedent(ending)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    ids = []
    try:
        ids = [int(word) for word in process.stdout.readline().split()]
        assert len(ids) == 2, process.communicate()
        yield process, ids
    finally:
        process.kill()
        process.communicate()
        for process_id in ids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)


@on_linux
def test_workers_of_a_killed_parent_end():
    with parent("make(); main()") as (process, ids):
        process.kill()
        assert_gone(ids)


@on_linux
def test_workers_of_a_killed_parent_end_even_if_they_are_stuck():
    with parent("make(); main()") as (process, ids):
        for process_id in ids:
            os.kill(process_id, signal.SIGSTOP)
        process.kill()
        assert_gone(ids)


@on_linux
def test_workers_of_a_killed_parent_end_even_if_a_fork_of_it_holds_their_pipes():
    ending = """
    make()
    if os.fork() == 0:
        import time
        os.closerange(0, 3)
        time.sleep(15)
        os._exit(0)
    main()
    """
    with parent(ending) as (process, ids):
        process.kill()
        assert_gone(ids)


def test_workers_that_a_thread_made_end_with_the_parent_too():
    with parent("thread = threading.Thread(target=make); thread.start(); thread.join(); main()") as (
        process,
        ids,
    ):
        process.kill()
        assert_gone(ids)


@pytest.mark.parametrize(
    ("ending", "status", "complaint"),
    [
        ("make(); main()", 0, ""),
        ("make(); main(); raise ValueError('mine')", 1, "ValueError: mine"),
        ("make(); main(); environment.send(np.zeros(2, int))", 0, ""),
    ],
)
def test_a_program_may_end_without_closing(ending, status, complaint):
    with parent(ending) as (process, ids):
        _, errors = process.communicate("\n", timeout=60)
        assert process.returncode == status
        assert errors.strip().endswith(complaint)
        assert bool(errors) == bool(complaint)  # no warning, no traceback of a worker
        assert_gone(ids)


def test_ctrl_c_reaches_the_parent_alone():
    ending = """
    make()
    try:
        main()
    except KeyboardInterrupt:
        environment.step(np.zeros(2, int))  # the workers are still there
        environment.close()
        sys.exit(130)
    """
    with parent(ending) as (process, ids):
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, "")
        assert_gone(ids)
