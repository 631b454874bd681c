import os
import subprocess
import sys

import pytest

from metta_cli.errors import ConfigError
from metta_cli.runs import machine


def test_the_users_own_thread_settings_are_left_alone():
    environ = {"OMP_WAIT_POLICY": "ACTIVE"}
    machine.limit_spinning(environ)
    assert environ == {"OMP_WAIT_POLICY": "ACTIVE"}
    environ = {"GOMP_SPINCOUNT": "5"}
    machine.limit_spinning(environ)
    assert environ["GOMP_SPINCOUNT"] == "5"


@pytest.mark.parametrize(
    ("requested", "environments", "cpus", "expected"),
    [(None, 64, 1, 0), (None, 64, 2, 2), (None, 64, 64, 16), (None, 1, 8, 1), (5, 64, 2, 5), (0, 64, 8, 0)],
)
def test_workers_suit_the_machine_unless_they_are_asked_for(
    monkeypatch, requested, environments, cpus, expected
):
    monkeypatch.setattr(machine, "cpu_count", lambda: cpus)
    assert machine.choose_num_workers(requested, environments) == expected


@pytest.mark.parametrize("name", ["cuda:99", "mps:0"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(ConfigError, match="no such device") as caught:
        machine.choose_device(name)
    assert "cpu" in caught.value.cure


def test_the_cpu_is_always_there():
    assert machine.choose_device("cpu").type == "cpu"
    assert machine.choose_device("auto").type in ("cpu", "cuda")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_blocks_that_were_freed_are_used_again_without_page_faults():
    program = (
        "import resource, torch\n"
        "from metta_cli.runs.machine import keep_freed_memory\n"
        "{call}\n"
        "for _ in range(10): torch.ones(16_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): torch.ones(16_000_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = {}
    for call in ("", "keep_freed_memory()"):
        command = [sys.executable, "-c", program.format(call=call)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        faults[call] = int(done.stdout)
    assert faults["keep_freed_memory()"] < faults[""] / 2
