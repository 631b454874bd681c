"""What a run makes of the machine: device, threads, worker processes. Imports no torch until asked."""

from __future__ import annotations

import ctypes
import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from metta_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch

MAX_TORCH_THREADS = 16
MAX_WORKERS = 16
SPIN_COUNT = "1000"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from malloc.h."""
LARGEST_KEPT_BLOCK_BYTES, MOST_KEPT_BYTES = 2**30, 2**31 - 1


def limit_spinning(environ: MutableMapping[str, str]) -> None:
    """Let waiting OpenMP threads sleep after a few microseconds; has no effect once torch is imported.

    Measured on two cores, agent steps per second of learning, quiet / beside one busy process: spinning
    for long, libgomp's default, 24k / 8k; sleeping at once 17k / 16k; this 28k / 11k; a single thread
    18k / 18k. What the user has set is left alone.
    """
    if "OMP_WAIT_POLICY" not in environ:
        environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        environ.setdefault("KMP_BLOCKTIME", "0")


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let the C library keep the large blocks that torch frees, instead of handing them to the kernel.

    Every minibatch frees and takes the same blocks; getting them anew costs a page fault per 4 KiB,
    measured as 18 % of the time of an update. Does nothing where the C library is not glibc.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)


def configure_threads() -> int:
    """Give torch as many threads as there are CPUs, up to 16, unless OMP_NUM_THREADS says otherwise.

    Acting and stepping take turns, so torch and the workers do not compete.

    Returns:
        The number of torch threads.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(cpu_count(), MAX_TORCH_THREADS))
    return torch.get_num_threads()


def choose_num_workers(requested: int | None, num_environments: int) -> int:
    """Return how many processes step the environments.

    Args:
        requested: the user's number, or None for one that suits the machine and the number of training
            processes on it, which torchrun tells in LOCAL_WORLD_SIZE.
        num_environments: more workers than environments would idle.
    """
    if requested is None:
        cpus = max(1, cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        requested = 0 if cpus == 1 else min(cpus, MAX_WORKERS)
    return min(requested, num_environments)


def choose_device(name: str) -> torch.device:
    """Return the device of a name: `auto` (CUDA where there is one, else CPU), `cpu`, `cuda:1`, ...

    Raises:
        ConfigError: if there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = available_devices()
    device = torch.device(name)
    if str(device) not in available and device.type not in (a for a in available if device.index is None):
        raise ConfigError(
            f"device={name}: there is no such device here",
            f"use device=auto, or one of: {', '.join(available)}",
        )
    return device


def available_devices() -> list[str]:
    """Return the names of the devices that torch can compute on."""
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices
