"""Several processes that train one policy: what each may do alone, and what they must agree on.

Every process acts in environments of its own and learns from its own experience. Gradients are averaged
before each step, statistics of advantages are taken over all processes, and so all have the same weights
at all times. `torchrun` starts the processes and says who they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from metta_cli.errors import ConfigError, MettaError

Item = TypeVar("Item")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first of them evaluates and saves alone meanwhile."""


class World:
    """The processes of a run, seen from one of them; by default it is alone.

    Args:
        rank: number of this process, from 0; the first one writes the files.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def current(cls) -> World:
        """Return the processes that `join_world` has found; this one alone before."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size == 1:
            return tensor
        summed = tensor.clone()
        _together(lambda: dist.all_reduce(summed))
        return summed

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        return self.total(tensor) / self.size

    def concatenate(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes, in the order of their ranks; each has equally many."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        _together(lambda: dist.all_gather(parts, tensor.contiguous()))
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process."""
        return bool(self.total(torch.tensor(float(flag), device=self._device)))

    def gather(self, value: Item) -> list[Item]:
        """Return the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        _together(lambda: dist.all_gather_object(gathered, value))
        return gathered

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its mean over all processes; one message for all of them."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace the content of tensors by what it is in the first process."""
        if self.size > 1:
            for tensor in tensors:
                _together(partial(dist.broadcast, tensor.detach(), src=0))

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            _together(dist.barrier)

    @property
    def _device(self) -> torch.device:
        on_gpu = self.size > 1 and dist.get_backend() == "nccl"
        return torch.device("cuda" if on_gpu else "cpu")


def _together(operation: Any) -> None:
    """Do what needs all processes.

    Raises:
        MettaError: if one of them is gone.
    """
    try:
        operation()
    except RuntimeError as error:
        raise MettaError(
            f"another process of this run has ended or does not answer: {str(error).partition(chr(10))[0]}",
            "see the message of the process that ended first; the run goes on from its newest checkpoint",
        ) from error


def join_world(device: torch.device, environ: Mapping[str, str] = os.environ) -> World:
    """Find the other processes that `torchrun` started, if it started this one and they are not found yet.

    Args:
        device: where this process computes; CUDA devices talk over NCCL, everything else over gloo.
        environ: environment variables; RANK and WORLD_SIZE are read here, MASTER_ADDR and MASTER_PORT by
            torch.

    Raises:
        ConfigError: if the variables do not make sense.
        MettaError: if the others cannot be reached.
    """
    if int(environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return World.current()
    try:
        rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is set, but RANK and WORLD_SIZE are no two numbers: {error}",
            "start several processes with torchrun, or unset WORLD_SIZE",
        ) from error
    backend = "nccl" if device.type == "cuda" else "gloo"
    _together(lambda: dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE))
    return World(rank, size)


def leave_world() -> None:
    """Say goodbye to the other processes; what they do no longer matters."""
    if dist.is_initialized():
        with suppress(RuntimeError):  # they may be gone, which is no matter any more
            dist.destroy_process_group()


def rank_device(device: torch.device, environ: Mapping[str, str] = os.environ) -> torch.device:
    """Return the CUDA device of this process, by its LOCAL_RANK; any other device as it is.

    Args:
        device: as the configuration says; one with a number stays.
        environ: environment variables.
    """
    if device == torch.device("cuda") and "LOCAL_RANK" in environ:
        return torch.device("cuda", int(environ["LOCAL_RANK"]))
    return device
