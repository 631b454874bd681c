"""Hands things to a call that may hang, without ever waiting for it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

MAX_WAITING = 1000

Item = TypeVar("Item")


class Sender(Generic[Item]):
    """Calls a function for one thing after the other, in a thread of its own.

    Args:
        call: takes a thing; may take any time, also for ever.
        on_failure: told the exception that `call` raised; nothing is sent after it.
        max_waiting: how many things may wait.
    """

    def __init__(
        self,
        call: Callable[[Item], object],
        on_failure: Callable[[Exception], None],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._call, self._on_failure = call, on_failure
        self._queue: queue.Queue[Item | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Send a thing when its turn comes; False if too many wait already, and it is dropped."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def close(self, seconds: float) -> bool:
        """Wait for what is on its way; False if it is not through in time."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._call(item)
            except Exception as error:  # whatever it is, it must not end the program
                self._on_failure(error)
                return
