"""Stopwatch against a clock that the test winds; memory and system against what was made for them."""

import mmap
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from metta_cli.runs.monitors import MemoryMonitor, Stopwatch, SystemMonitor, size_of


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(clock):
    return Stopwatch(clock)


def test_seconds_add_up_over_all_runs_of_a_timer(clock, watch):
    for seconds in (2.0, 3.0):
        with watch("rollout"):
            clock.now += seconds
        clock.now += 50
    assert watch.get_elapsed("rollout") == 5.0
    assert watch.get_elapsed("never") == 0.0


def test_timers_run_inside_each_other(clock, watch):
    with watch():
        clock.now += 1
        with watch("inner"):
            clock.now += 2
        clock.now += 4
        assert watch.get_elapsed() == 7.0
    assert watch.get_all_elapsed() == {"global": 7.0, "inner": 2.0}


def test_a_timer_ends_with_its_context_even_by_an_exception(clock, watch):
    def fail():
        clock.now += 2
        raise KeyError

    with pytest.raises(KeyError), watch("broken"):
        fail()
    clock.now += 9
    assert watch.get_elapsed("broken") == 2.0


def test_a_timer_cannot_be_started_twice_nor_stopped_at_rest(watch):
    watch.start("a")
    with pytest.raises(ValueError, match="'a' runs already"):
        watch.start("a")
    watch.stop("a")
    with pytest.raises(ValueError, match="'a' does not run"):
        watch.stop("a")


def test_rates_laps_and_what_remains(clock, watch):
    assert watch.estimate_remaining(0, 100) == float("inf")
    watch.start()
    clock.now += 4
    assert watch.get_rate(200) == 50
    assert watch.lap(200) == 50
    clock.now += 1
    assert watch.lap(300) == 100
    assert watch.lap(300) == 0
    assert watch.estimate_remaining(300, 900) == 10
    assert watch.estimate_remaining(900, 300) == 0


def test_a_stopwatch_goes_on_from_its_state(clock, watch):
    watch.start()
    clock.now += 3
    later = Stopwatch(clock)
    later.load_state_dict(watch.state_dict())
    clock.now += 100
    later.start()
    clock.now += 1
    assert later.get_elapsed() == 4.0
    later.reset("global")
    assert later.get_all_elapsed() == {}


def test_tensors_and_arrays_are_found_wherever_they_are():
    class Holder:
        def __init__(self):
            self.tensor = torch.zeros(10)
            self.table = {"array": np.zeros(5, np.float64), "more": [torch.zeros(2, 2), (1, "x", None)]}
            self.itself = self

    assert size_of(Holder()) == 40 + 40 + 16
    assert size_of(nn.Linear(3, 2)) == 24 + 8
    assert size_of("text") == 0


def test_shared_memory_counts_once():
    tensor, array = torch.zeros(100), np.zeros(50, np.uint8)
    assert size_of([tensor, tensor[10:], tensor.view(10, 10), tensor.clone()]) == 800
    assert size_of([array, array[3:][::2]]) == 50


def test_gradients_count():
    layer = nn.Linear(4, 1, bias=False)
    layer(torch.ones(4)).backward()
    assert size_of(layer) == 2 * 16


def test_the_memory_monitor_names_what_it_watches():
    monitor = MemoryMonitor()
    monitor.add(nn.Linear(2**18, 1, bias=False), name="policy")
    monitor.add(Clock(), track_attributes=True)
    assert monitor.stats() == {"memory/policy_mb": 1.0, "memory/Clock_mb": 0, "memory/Clock.now_mb": 0}
    monitor.remove("policy")
    assert "memory/policy_mb" not in monitor.stats()
    monitor.clear()
    assert monitor.stats() == {}


def test_a_sample_sees_work_and_memory():
    monitor = SystemMonitor()
    before = monitor.sample()
    held = mmap.mmap(-1, 2**26)  # 64 MB that no allocator has kept from before
    held.write(b"x" * len(held))
    deadline = time.process_time() + 0.05
    while time.process_time() < deadline:
        pass
    after = monitor.sample()
    assert after["cpu_seconds"] - before["cpu_seconds"] >= 0.04
    assert after["cpu_percent"] > 0
    assert after["memory_mb"] - before["memory_mb"] > 48
    assert after["memory_peak_mb"] >= after["memory_mb"] * 0.9
    assert after["memory_available_mb"] > 0
    assert after["threads"] >= 1
    held.close()


def test_the_monitor_samples_by_itself_and_ends_its_thread():
    threads = threading.active_count()
    with SystemMonitor(sampling_interval_seconds=0.001, history_size=3) as monitor:
        monitor.start()
        deadline = time.monotonic() + 10
        while len(monitor._history) < 3 and time.monotonic() < deadline:
            time.sleep(0.002)
    assert threading.active_count() == threads
    summary = monitor.get_summary()
    assert summary["threads"]["min"] <= summary["threads"]["mean"] <= summary["threads"]["max"]
    assert len(monitor._history) == 3
    monitor.stop()


def test_system_metrics_have_their_prefix():
    stats = SystemMonitor().stats()
    assert stats["system/memory_mb"] > 0
    assert SystemMonitor().get_summary() == {}
