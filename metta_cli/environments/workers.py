"""Worker processes that step environments in shared memory.

The protocol is one byte each way per step, over two pipes, so that both sides sleep in the kernel while they
wait and the death of either is the end of a pipe for the other:

    parent -> worker    a pickled `BatchTask` first; then STEP, or RESET and a pickled (seed, first episode)
    worker -> parent    DONE, or FINISHED and a pickled list of finished episodes, or FAILED and an error

A worker is a plain child process, not one of `multiprocessing`: it never imports the program's main module
(which may import torch, or lack the `__main__` guard), needs no helper process, and works from a notebook.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from metta_cli.environments.batch import BatchTask, SimulatorBatch, describe_place
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.simulator import FinishedEpisode
from metta_cli.environments.slab import SharedMemory, Slab
from metta_cli.errors import MettaError, SimulatorError

logger = logging.getLogger(__name__)

STEP, RESET = b"s", b"r"
DONE, FINISHED, FAILED = b"d", b"f", b"x"

LIBRARY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PATIENCE_SECONDS = 60.0
"""After how long without an answer a worker is mentioned in the log, again and again."""

DYING_SECONDS = 5.0
"""How long a process may take from closing its pipes to its end."""

START_CODE = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
from metta_cli.environments.workers import main
main()
"""


class WorkerProcess:
    """The parent's handle of one worker.

    Args:
        task: what it does.
        memory: the block of the slab.
    """

    def __init__(self, task: BatchTask, memory: SharedMemory) -> None:
        self.task = task
        self._has_task = False
        command_reader, command_writer = os.pipe()
        reply_reader, reply_writer = os.pipe()
        self.commands = Connection(command_writer, readable=False)
        self.replies = Connection(reply_reader, writable=False)
        inherited = (command_reader, reply_writer, memory.file_descriptor)
        # The kernel kills it when the *thread* that started it ends; only the main thread is sure to stay.
        dies_with_parent = threading.current_thread() is threading.main_thread()
        arguments = [*inherited, os.getpid(), int(dies_with_parent)]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", START_CODE, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,  # standard output is for data, and only the parent writes it
                env=worker_environment(),
                pass_fds=inherited,
                process_group=0,  # Ctrl-C in a terminal goes to the parent alone
            )
        finally:
            os.close(command_reader)
            os.close(reply_writer)

    def command(self, kind: bytes, payload: object = None) -> None:
        """Send a command.

        Raises:
            BrokenPipeError: if the worker has ended.
        """
        if not self._has_task:
            self._has_task = True
            self.commands.send(self.task)
        os.write(self.commands.fileno(), kind)
        if kind == RESET:
            self.commands.send(payload)

    def reply(self) -> list[FinishedEpisode]:
        """Wait for the answer to a command.

        Returns:
            Episodes that ended.

        Raises:
            EOFError: if the worker has ended.
            MettaError: what the worker failed with; its traceback is a note of the exception.
        """
        kind = os.read(self.replies.fileno(), 1)
        if kind == DONE:
            return []
        if kind == FINISHED:
            finished: list[FinishedEpisode] = self.replies.recv()
            return finished
        if kind == FAILED:
            error, worker_traceback = self.replies.recv()
            error.add_note(f"In worker {self.task.worker}:\n{worker_traceback}")
            raise error
        raise EOFError

    def exit_status(self) -> int:
        """Return the exit status, negative for a signal, of a worker that has closed its pipes."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(DYING_SECONDS)
        return self.end()

    def end(self) -> int:
        """End the process, whatever it is doing: it has nothing that could be lost.

        Returns:
            Its exit status, negative for a signal.
        """
        self.commands.close()
        self.replies.close()
        self.process.kill()
        return self.process.wait()


class WorkerPool:
    """Steps environments in worker processes, in parallel.

    Args:
        tasks: one for each worker.
        slab: the arrays.
        memory: the block of the slab.
    """

    def __init__(self, tasks: Sequence[BatchTask], slab: Slab, memory: SharedMemory) -> None:
        self._slab = slab
        self._seeds = EpisodeSeeds(0)
        self._num_steps = 0
        self._workers: list[WorkerProcess] = []
        self._finished: list[list[FinishedEpisode]] = [[] for _ in tasks]
        self._poll = select.poll()
        self._awaited: dict[int, WorkerProcess] = {}
        try:
            for task in tasks:
                worker = WorkerProcess(task, memory)
                self._workers.append(worker)
                self._poll.register(worker.replies.fileno(), select.POLLIN)
        except BaseException:
            self.close()
            raise

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def start_reset(self, seed: int, first_episode: int) -> None:
        """Let every worker begin new episodes; the first time it may still be importing its modules."""
        self._seeds = EpisodeSeeds(seed, self._workers[0].task.map_pool_size)
        self._num_steps = 0
        self._command(RESET, (seed, first_episode))

    def start_step(self) -> None:
        """Let every worker step its environments by the actions in the slab."""
        self._num_steps += 1
        self._command(STEP)

    def wait(self) -> list[FinishedEpisode]:
        """Wait for all workers.

        Returns:
            The episodes that ended, by slot.

        Raises:
            SimulatorError: if a worker failed or ended. All workers are gone then.
        """
        while self._awaited:
            answers = self._poll.poll(PATIENCE_SECONDS * 1000)
            if not answers:
                self._complain()
            for file_descriptor, _ in answers:
                worker = self._awaited.pop(file_descriptor, None)
                if worker is None:  # it ended after its answer
                    worker = next(w for w in self._workers if w.replies.fileno() == file_descriptor)
                try:
                    self._finished[worker.task.worker] = worker.reply()
                except (EOFError, OSError):
                    raise self._death(worker) from None
                except MettaError:
                    self.close()
                    raise
        return [episode for finished in self._finished for episode in finished]

    def close(self) -> None:
        """End all workers, also such as are busy or stopped; may be called again."""
        for worker in self._workers:
            worker.end()
        self._awaited.clear()
        self._workers.clear()

    def _command(self, kind: bytes, payload: object = None) -> None:
        for worker in self._workers:
            self._awaited[worker.replies.fileno()] = worker
            with suppress(BrokenPipeError):  # it has ended; `wait` sees that, and perhaps its last words
                worker.command(kind, payload)

    def _complain(self) -> None:
        """Say who keeps everybody waiting; a map or a step that never ends would show nothing else."""
        for worker in self._awaited.values():
            logger.warning(
                "worker %d has not answered for %g s; it is at %s",
                worker.task.worker,
                PATIENCE_SECONDS,
                self._place(worker.task),
            )

    def _death(self, worker: WorkerProcess) -> SimulatorError:
        """End the other workers, and say what this one did last."""
        status = worker.exit_status()
        self.close()
        if status < 0:
            killer = signal.Signals(-status)
            end, cure = f"was killed by {killer.name}", SIGNAL_CURES.get(killer, CRASH_CURE)
        else:
            end, cure = f"ended with status {status}", "its messages are on standard error"
        place = self._place(worker.task)
        return SimulatorError(f"worker {worker.task.worker} {end}; it was last at {place}", cure)

    def _place(self, task: BatchTask) -> str:
        """Return what a worker turned to last."""
        slot = int(self._slab.active_slots[task.worker])
        slot = slot if slot in task.slots else task.slots.start
        step = self._num_steps - int(self._slab.episode_starts[slot])
        name = task.name_of(int(self._slab.tasks[slot]))
        return describe_place(name, slot, int(self._slab.episodes[slot]), self._seeds, step)


SIGNAL_CURES = {
    signal.SIGKILL: "SIGKILL without a hand behind it means that memory ran out: use fewer environments",
}
IMPORT_CURE = "define its parts in a module that can be imported, or use num_workers=0"
CRASH_CURE = "MettaGrid crashed: the environment's configuration does something that it cannot do"


def worker_environment() -> dict[str, str]:
    """Return the environment variables of a worker: the modules of this process, and one thread."""
    variables = dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join(sys.path)
    variables.update(dict.fromkeys(LIBRARY_THREADS, "1"))
    return variables


def main() -> None:
    """Be a worker process; the arguments of the command line come from `WorkerProcess`."""
    command_reader, reply_writer, memory_descriptor, parent, dies_with_parent = map(int, sys.argv[1:])
    if dies_with_parent:
        die_with_parent(parent)
    commands = Connection(command_reader, writable=False)
    replies = Connection(reply_writer, readable=False)
    try:
        serve(commands, replies, memory_descriptor)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has closed the environment, or is dead
    except MettaError as error:
        send_failure(replies, error)
    except Exception as error:
        send_failure(replies, SimulatorError(f"a worker failed: {type(error).__name__}: {error}"))
    finally:
        sys.stderr.flush()
        os._exit(0)  # nothing here needs the slow end of the interpreter


def serve(commands: Connection, replies: Connection, memory_descriptor: int) -> None:
    """Obey commands until there are no more.

    Raises:
        EOFError: if there never were any.
        SimulatorError: if the environment cannot be loaded or fails.
    """
    try:
        task: BatchTask = commands.recv()
    except (ImportError, AttributeError) as error:
        raise SimulatorError(f"a worker cannot load the environment: {error}", IMPORT_CURE) from error
    memory = SharedMemory(task.layout.num_bytes, memory_descriptor)
    batch = SimulatorBatch(task, Slab(task.layout, memory.memory))
    gc.freeze()  # what is here now stays, so later collections need not look at it
    command_reader, reply_writer = commands.fileno(), replies.fileno()
    while kind := os.read(command_reader, 1):
        finished = batch.step() if kind == STEP else batch.reset(*commands.recv())
        if finished:
            os.write(reply_writer, FINISHED)
            replies.send(finished)
        else:
            os.write(reply_writer, DONE)


def send_failure(replies: Connection, error: MettaError) -> None:
    """Tell the parent what went wrong, with the traceback of the exception in flight."""
    os.write(replies.fileno(), FAILED)
    replies.send((error, traceback.format_exc()))


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends, even while the simulator is busy (Linux).

    Elsewhere, and where the parent's other children hold its pipes, the end of the commands does it.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
