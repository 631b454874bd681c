"""The arrays of all environments in one block of memory, private or shared with worker processes."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np

ALIGNMENT_BYTES = 64
"""Every array begins on a cache line of its own."""


@dataclass(frozen=True)
class SlabLayout:
    """Sizes that determine where every array of a slab lies.

    Attributes:
        num_environments: environments, `E`.
        agents_per_environment: agents in one environment; `N` is their number in all environments.
        num_tokens: rows of the token array of one agent, `K`.
        num_workers: worker processes; 0 if this process steps the environments itself.
    """

    num_environments: int
    agents_per_environment: int
    num_tokens: int
    num_workers: int

    @property
    def num_agents(self) -> int:
        """`N`, the agents of all environments; those of one environment are neighbours."""
        return self.num_environments * self.agents_per_environment

    @property
    def arrays(self) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Name of an array -> its element type and shape, in the order in which they lie."""
        num_agents, num_environments = self.num_agents, self.num_environments
        tokens = (num_agents, self.num_tokens, 3)
        return {
            "observations": (np.uint8, tokens),
            "final_observations": (np.uint8, tokens),
            "rewards": (np.float32, (num_agents,)),
            "terminals": (np.bool_, (num_agents,)),
            "truncations": (np.bool_, (num_agents,)),
            "primary_actions": (np.int32, (num_agents,)),
            "vibe_actions": (np.int32, (num_agents,)),
            "teams": (np.int32, (num_agents,)),
            "scripted": (np.int32, (num_agents,)),
            "episodes": (np.int64, (num_environments,)),
            "episode_starts": (np.int64, (num_environments,)),
            "tasks": (np.int32, (num_environments,)),
            "next_tasks": (np.int32, (num_environments,)),
            "active_slots": (np.int64, (max(1, self.num_workers),)),
        }

    @property
    def num_bytes(self) -> int:
        """Size of the block."""
        return sum(
            _aligned(int(np.prod(shape)) * np.dtype(kind).itemsize) for kind, shape in self.arrays.values()
        )


class Slab:
    """Views of one block of memory. The simulator writes into slices of them; nothing is ever copied.

    Args:
        layout: where the arrays lie.
        memory: a writable buffer of `layout.num_bytes` zeros; the views keep it alive.

    Attributes:
        observations: uint8 `[N, K, 3]`, tokens of the current observation.
        final_observations: uint8 `[N, K, 3]`, of agents whose episode ended in the last step: what they saw
            last; of others: what is left of an earlier episode.
        rewards: float32 `[N]`, of the last step.
        terminals: bool `[N]`, whether the last step ended the episode by rule.
        truncations: bool `[N]`, whether the last step ended the episode by time.
        primary_actions: int32 `[N]`, action for the primary buffer of the simulator.
        vibe_actions: int32 `[N]`, action for its vibe buffer; 0 changes nothing.
        teams: int32 `[N]`, team of each agent in its running episode.
        scripted: int32 `[N]`, flat action that the scripted baseline proposes now.
        episodes: int64 `[E]`, number of the running episode.
        episode_starts: int64 `[E]`, steps that the vectorized environment had taken when it began.
        tasks: int32 `[E]`, task of the running episode.
        next_tasks: int32 `[E]`, task of the episode after it: written between steps by the process that
            owns the vectorized environment, read by whoever begins that episode.
        active_slots: int64 `[workers, at least 1]`, environment that each process last turned to.
    """

    observations: np.ndarray
    final_observations: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    truncations: np.ndarray
    primary_actions: np.ndarray
    vibe_actions: np.ndarray
    teams: np.ndarray
    scripted: np.ndarray
    episodes: np.ndarray
    episode_starts: np.ndarray
    tasks: np.ndarray
    next_tasks: np.ndarray
    active_slots: np.ndarray

    def __init__(self, layout: SlabLayout, memory: mmap.mmap | bytearray) -> None:
        self.layout = layout
        offset = 0
        for name, (kind, shape) in layout.arrays.items():
            array = np.ndarray(shape, kind, buffer=memory, offset=offset)
            setattr(self, name, array)
            offset += _aligned(array.nbytes)

    def rows(self, slot: int) -> slice:
        """Return the agents of one environment."""
        agents = self.layout.agents_per_environment
        return slice(slot * agents, (slot + 1) * agents)


class SharedMemory:
    """A block of memory that worker processes can map, and that has no name.

    Because it has no name, nothing has to be unlinked and nothing can be left behind: the kernel frees it
    when the last process that maps it has ended, however it ended. It is not limited by the size of
    /dev/shm either (64 MB in a container by default).

    Args:
        num_bytes: size.
        file_descriptor: of the block, if another process made it; by default a new block of zeros is made.
    """

    def __init__(self, num_bytes: int, file_descriptor: int | None = None) -> None:
        self.file_descriptor = _unnamed_file(num_bytes) if file_descriptor is None else file_descriptor
        self.memory = mmap.mmap(self.file_descriptor, num_bytes)

    def close(self) -> None:
        """Close the file descriptor. The memory stays as long as somebody holds a view of it."""
        if self.file_descriptor >= 0:
            os.close(self.file_descriptor)
            self.file_descriptor = -1


def _unnamed_file(num_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        file_descriptor = os.memfd_create("metta-slab")
    else:  # macOS: a file that is deleted at once
        with tempfile.TemporaryFile() as file:
            file_descriptor = os.dup(file.fileno())
    os.ftruncate(file_descriptor, num_bytes)
    return file_descriptor


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
