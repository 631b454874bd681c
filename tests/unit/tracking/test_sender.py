import threading

import pytest

from metta_cli.tracking.sender import Sender

PATIENCE_SECONDS = 10.0


def test_everything_is_sent_in_order() -> None:
    sent: list[int] = []
    sender = Sender(sent.append, pytest.fail)
    assert all(sender.put(number) for number in range(100))
    assert sender.close(PATIENCE_SECONDS)
    assert sent == list(range(100))


def test_a_call_that_hangs_holds_nobody_up() -> None:
    release = threading.Event()
    started = threading.Event()

    def hang(number: int) -> None:
        started.set()
        release.wait()

    sender = Sender(hang, pytest.fail, max_waiting=2)
    assert sender.put(1)
    assert started.wait(PATIENCE_SECONDS)
    assert [sender.put(number) for number in range(4)] == [True, True, False, False]
    assert not sender.close(0.05)
    release.set()


def test_after_a_failure_nothing_is_sent() -> None:
    failures: list[str] = []
    calls: list[int] = []

    def fail(number: int) -> None:
        calls.append(number)
        raise OSError("gone")

    sender = Sender(fail, lambda error: failures.append(str(error)))
    sender.put(1)
    assert sender.close(PATIENCE_SECONDS)
    sender.put(2)
    assert (calls, failures) == ([1], ["gone"])
