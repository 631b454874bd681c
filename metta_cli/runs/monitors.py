"""Where the time and the memory of a program go."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Self

import numpy as np
import torch

GLOBAL = "global"
"""The timer that a `Stopwatch` runs when no other is named."""
BYTES_PER_MB = 2**20
LEAVES = (str, bytes, int, float, type, type(None), ModuleType, FunctionType, MethodType)
"""What holds no tensors of its own."""


class Stopwatch:
    """Named timers that may run inside each other; seconds add up over all runs of a name.

    `with stopwatch("rollout"): ...` measures a stretch of code, and makes it a `timer` for
    `perform_rollout_step`.

    Args:
        clock: seconds from any fixed moment.
    """

    def __init__(self, clock: Any = time.perf_counter) -> None:
        self._clock = clock
        self._elapsed: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._laps: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str = GLOBAL) -> Any:
        """Return a context that measures; see the class."""
        return self.time(name)

    @contextmanager
    def time(self, name: str = GLOBAL) -> Iterator[Self]:
        """Run a timer as long as the context lasts, however it ends."""
        self.start(name)
        try:
            yield self
        finally:
            self.stop(name)

    def start(self, name: str = GLOBAL) -> None:
        """Start a timer, or go on with it.

        Raises:
            ValueError: if it runs already.
        """
        if name in self._started:
            raise ValueError(f"timer '{name}' runs already")
        self._elapsed.setdefault(name, 0.0)
        self._started[name] = self._clock()

    def stop(self, name: str = GLOBAL) -> float:
        """Stop a timer and return its seconds so far.

        Raises:
            ValueError: if it does not run.
        """
        if name not in self._started:
            raise ValueError(f"timer '{name}' does not run")
        self._elapsed[name] += self._clock() - self._started.pop(name)
        return self._elapsed[name]

    def reset(self, name: str | None = None) -> None:
        """Forget one timer, or all of them."""
        for table in (self._elapsed, self._started, self._laps):
            if name is None:
                table.clear()
            else:
                table.pop(name, None)

    def get_elapsed(self, name: str = GLOBAL) -> float:
        """Return the seconds of a timer so far, also of one that runs; 0 if there is none of that name."""
        running = self._clock() - self._started[name] if name in self._started else 0.0
        return self._elapsed.get(name, 0.0) + running

    def get_all_elapsed(self) -> dict[str, float]:
        """Return the seconds of every timer."""
        return {name: self.get_elapsed(name) for name in self._elapsed}

    def get_rate(self, steps: float, name: str = GLOBAL) -> float:
        """Return steps per second of a timer; 0 if it has not run."""
        elapsed = self.get_elapsed(name)
        return steps / elapsed if elapsed > 0 else 0.0

    def lap(self, steps: float, name: str = GLOBAL) -> float:
        """Return steps per second since the last lap of a timer, or since it was first started.

        Args:
            steps: counted from the beginning.
            name: of the timer.
        """
        elapsed = self.get_elapsed(name)
        steps_before, elapsed_before = self._laps.get(name, (0.0, 0.0))
        self._laps[name] = (steps, elapsed)
        return (steps - steps_before) / (elapsed - elapsed_before) if elapsed > elapsed_before else 0.0

    def estimate_remaining(self, steps: float, total_steps: float, name: str = GLOBAL) -> float:
        """Return the seconds that are left if every step takes as long as those so far; inf before any."""
        rate = self.get_rate(steps, name)
        return max(total_steps - steps, 0) / rate if rate > 0 else float("inf")

    def state_dict(self) -> dict[str, Any]:
        """Return what it takes to go on later: the seconds of every timer, running ones included."""
        return {"elapsed": self.get_all_elapsed()}

    def load_state_dict(self, data: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; no timer runs then."""
        self.reset()
        self._elapsed.update(data["elapsed"])


class MemoryMonitor:
    """Tells how many bytes the tensors and arrays hold that can be reached from objects."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[Any, bool]] = {}

    def add(self, obj: Any, name: str | None = None, track_attributes: bool = False) -> None:
        """Watch an object.

        Args:
            obj: held until `remove` or `clear`.
            name: what the figures call it; its class if None.
            track_attributes: whether each of its attributes is counted by itself too.
        """
        self._objects[name or type(obj).__name__] = (obj, track_attributes)

    def remove(self, name: str) -> None:
        """Stop watching an object.

        Raises:
            KeyError: if none is watched under the name.
        """
        del self._objects[name]

    def clear(self) -> None:
        """Stop watching all objects."""
        self._objects.clear()

    def get(self, name: str) -> dict[str, int]:
        """Return the bytes of one object under its name, and of its attributes as `NAME.ATTRIBUTE`."""
        obj, track_attributes = self._objects[name]
        figures = {name: size_of(obj)}
        if track_attributes:
            figures |= {f"{name}.{key}": size_of(value) for key, value in vars(obj).items()}
        return figures

    def stats(self) -> dict[str, float]:
        """Return the megabytes (2^20 bytes) of everything that is watched, as `memory/NAME_mb`."""
        figures = {key: value for name in self._objects for key, value in self.get(name).items()}
        return {f"memory/{name}_mb": num_bytes / BYTES_PER_MB for name, num_bytes in figures.items()}


def size_of(obj: Any) -> int:
    """Return the bytes of all tensors and arrays that can be reached from an object.

    They are looked for in containers and attributes. Memory that several share counts once, and as a whole
    even if only a part of it is in sight.
    """
    visited: dict[int, Any] = {}  # holds what it names, so that no id is given away meanwhile
    blocks: dict[int, int] = {}
    waiting = [obj]
    while waiting:
        current = waiting.pop()
        if id(current) in visited or isinstance(current, LEAVES):
            continue
        visited[id(current)] = current
        if isinstance(current, np.ndarray):
            while isinstance(current.base, np.ndarray):
                current = current.base
            blocks[current.__array_interface__["data"][0]] = current.nbytes
        elif isinstance(current, torch.Tensor):
            storage = current.untyped_storage()
            blocks[storage.data_ptr()] = storage.nbytes()
            waiting.append(current.grad if current.is_leaf else None)
        elif isinstance(current, Mapping):
            waiting.extend(current.values())
        elif isinstance(current, list | tuple | set | frozenset | deque):
            waiting.extend(current)
        else:
            waiting.extend(vars(current).values() if hasattr(current, "__dict__") else ())
    return sum(blocks.values())


class SystemMonitor:
    """Samples what this process and its machine are doing, in a thread of its own.

    The figures come from the kernel (`/proc` and `getrusage`), and from torch where there is a GPU; what a
    machine does not offer is left out.

    Args:
        sampling_interval_seconds: time between samples.
        history_size: samples kept.
        auto_start: whether to start at once. Else `start`, or ask `sample` whenever it suits.
    """

    def __init__(
        self, sampling_interval_seconds: float = 1.0, history_size: int = 100, auto_start: bool = False
    ) -> None:
        self.sampling_interval_seconds = sampling_interval_seconds
        self._history: deque[dict[str, float]] = deque(maxlen=history_size)
        self._last = (time.monotonic(), _cpu_seconds())
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if auto_start:
            self.start()

    def start(self) -> None:
        """Begin to sample; does nothing if it has begun."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name="SystemMonitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Sample no more; what was sampled stays."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(self.sampling_interval_seconds):
            self.sample()

    def sample(self) -> dict[str, float]:
        """Take a sample now, keep it, and return it.

        Returns:
            `cpu_percent` of this process since the last sample (100 is one core), `cpu_seconds`,
            `memory_mb` and `memory_peak_mb` of this process, `threads`, `load_1min` and
            `memory_available_mb` of the machine, `gpu_memory_mb` and `gpu_memory_peak_mb` that torch holds.
        """
        with self._lock:
            now, cpu_seconds = time.monotonic(), _cpu_seconds()
            then, cpu_seconds_before = self._last
            self._last = (now, cpu_seconds)
            passed = now - then
            figures = {
                "cpu_percent": 100 * (cpu_seconds - cpu_seconds_before) / passed if passed > 0 else 0.0,
                "cpu_seconds": cpu_seconds,
                "load_1min": os.getloadavg()[0],
                "threads": float(threading.active_count()),
                "memory_peak_mb": _peak_bytes() / BYTES_PER_MB,
            }
            figures |= _from_proc() | _from_gpu()
            self._history.append(figures)
            return figures

    def get_latest(self) -> dict[str, float]:
        """Return the newest sample; takes one if there is none."""
        with self._lock:
            latest = self._history[-1] if self._history else None
        return self.sample() if latest is None else latest

    def get_summary(self) -> dict[str, dict[str, float]]:
        """Return `latest`, `mean`, `min` and `max` of every figure over the samples that are kept."""
        with self._lock:
            history = list(self._history)
        names = history[-1] if history else {}
        summary = {}
        for name in names:
            values = [sample[name] for sample in history if name in sample]
            summary[name] = {
                "latest": values[-1],
                "mean": sum(values) / len(values),
                "min": min(values),
                "max": max(values),
            }
        return summary

    def stats(self) -> dict[str, float]:
        """Return the newest sample as metrics, `system/...`."""
        return {f"system/{name}": value for name, value in self.get_latest().items()}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _from_proc() -> dict[str, float]:
    """Return what `/proc` says of memory, in MB; empty where there is none."""
    figures = {}
    for path, key, name in (
        (Path("/proc/self/status"), "VmRSS:", "memory_mb"),
        (Path("/proc/meminfo"), "MemAvailable:", "memory_available_mb"),
    ):
        if path.exists():
            line = next((line for line in path.read_text().splitlines() if line.startswith(key)), None)
            if line is not None:
                figures[name] = int(line.split()[1]) * 1024 / BYTES_PER_MB
    return figures


def _from_gpu() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    return {
        "gpu_memory_mb": torch.cuda.memory_allocated() / BYTES_PER_MB,
        "gpu_memory_peak_mb": torch.cuda.max_memory_allocated() / BYTES_PER_MB,
    }
