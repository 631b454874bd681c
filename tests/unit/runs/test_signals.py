import os
import pickle
import signal

import pytest

from metta_cli.errors import MettaError
from metta_cli.runs.signals import STOP_SIGNALS, Interrupted, StopSignals


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_noted_and_interrupts_nothing(number: signal.Signals) -> None:
    with StopSignals() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number


@pytest.mark.parametrize("first", STOP_SIGNALS)
@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_the_second_signal_stops_at_once(first: signal.Signals, second: signal.Signals) -> None:
    with StopSignals() as stop:
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
        assert stop.requested == first


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


def fail_inside() -> None:
    before = handlers()
    with StopSignals():
        assert handlers() != before
        raise MettaError("failed")


def test_previous_handlers_come_back_also_after_an_error() -> None:
    before = handlers()
    with pytest.raises(MettaError, match="failed"):
        fail_inside()
    assert handlers() == before


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_the_exit_code_tells_the_signal(number: int, name: str, code: int) -> None:
    error = pickle.loads(pickle.dumps(Interrupted(number, "metta train run=x")))
    assert (error.exit_code, error.message, error.cure) == (code, f"stopped by {name}", "metta train run=x")
