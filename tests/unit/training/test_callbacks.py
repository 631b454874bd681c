"""What lives beside a run is told, saved, and ends the run only if it may."""

import pytest

from metta_cli.training.callbacks import Callback, Expendable


class Broken(Callback):
    calls = 0

    def on_epoch_end(self, trainer, metrics):
        self.calls += 1
        raise ArithmeticError("the weights are no matrix")

    def state_dict(self):
        return {"calls": self.calls}


def test_an_expendable_callback_fails_once_with_its_traceback_and_is_not_called_again(caplog):
    broken = Broken()
    callback = Expendable("the monitor 'weights'", broken)
    assert [callback.on_epoch_end(None, {}) for _ in range(3)] == [{}, {}, {}]
    assert broken.calls == 1
    assert len(caplog.records) == 1
    assert "the monitor 'weights' failed and is switched off" in caplog.text
    assert "ArithmeticError: the weights are no matrix" in caplog.text


def test_an_expendable_callback_that_works_is_the_callback_itself():
    class Counter(Callback):
        def on_rollout_end(self, trainer, rollout):
            return {"counted": rollout}

        def state_dict(self):
            return {"count": 3}

    callback = Expendable("counter", Counter())
    assert callback.on_rollout_end(None, 7.0) == {"counted": 7.0}
    assert callback.state_dict() == {"count": 3}


def test_any_other_callback_ends_the_run():
    with pytest.raises(ArithmeticError):
        Broken().on_epoch_end(None, {})
