"""Stopping on request: SIGINT (Ctrl-C) and SIGTERM (schedulers, spot machines) save before they stop."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from metta_cli.errors import MettaError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(MettaError):  # noqa: N818  # a stop on request is no error
    """A signal ended the run; everything is saved.

    Args:
        signal_number: which one; the exit code is 128 more, as shells expect: 130 or 143.
        cure: how to go on, one line.
    """

    def __init__(self, signal_number: int, cure: str | None = None) -> None:
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}", cure)

    def __reduce__(self) -> tuple[type[MettaError], tuple[int, str | None]]:  # type: ignore[override]
        """Survive the way from a worker process to the main process."""
        return type(self), (self.signal_number, self.cure)


class StopSignals:
    """Notes the first SIGINT or SIGTERM, so that loops can stop where it suits them.

    `requested` is the number of that signal, None before it. A second signal means "now": it raises
    `KeyboardInterrupt` wherever the program is. Previous handlers are back on exit.

    Trap: Python sets signal handlers in its main thread only; anywhere else entering raises `ValueError`.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = number
