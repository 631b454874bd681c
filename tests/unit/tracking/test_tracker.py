from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metta_cli.errors import MettaError
from metta_cli.tracking.metrics import FAMILIES, GLOSSARY, check_names
from metta_cli.tracking.tracker import TrackerGroup


class RecordingTracker:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.logged: list[tuple[dict[str, float], int, int]] = []
        self.offered: list[tuple[Path, int, int, bool]] = []
        self.is_closed = False

    def log(self, metrics: Mapping[str, float], *, agent_steps: int, epoch: int) -> None:
        self.logged.append((dict(metrics), agent_steps, epoch))

    def save_checkpoint(self, path: Path, *, epoch: int, metadata: Mapping[str, Any], is_last: bool) -> None:
        self.offered.append((path, epoch, metadata["epoch"], is_last))

    def close(self) -> None:
        self.is_closed = True
        if self.error:
            raise self.error


def test_a_group_sends_everything_to_everyone() -> None:
    trackers = [RecordingTracker(), RecordingTracker()]
    group = TrackerGroup(trackers)
    group.log({"loss": 0.5}, agent_steps=10, epoch=1)
    group.save_checkpoint(Path("r:v1"), epoch=1, metadata={"epoch": 1}, is_last=True)
    group.close()
    assert [tracker.logged for tracker in trackers] == [[({"loss": 0.5}, 10, 1)]] * 2
    assert [tracker.offered for tracker in trackers] == [[(Path("r:v1"), 1, 1, True)]] * 2
    assert all(tracker.is_closed for tracker in trackers)


def test_one_that_fails_to_close_keeps_no_other_open() -> None:
    trackers = [RecordingTracker(MettaError("first")), RecordingTracker()]
    with pytest.raises(MettaError, match="first"):
        TrackerGroup(trackers).close()
    assert trackers[1].is_closed


def test_names_outside_the_glossary_are_refused() -> None:
    check_names([*GLOSSARY, "gradients/encoder.weight/norm", "eval_navigation/score"])
    with pytest.raises(ValueError, match=r"losses/loss, ppo/kl$"):
        check_names(["ppo/kl", "losses/entropy", "losses/loss"])


def test_every_definition_has_a_unit_and_a_formula() -> None:
    for name, definition in (GLOSSARY | FAMILIES).items():
        assert definition.unit, name
        assert len(definition.formula) > 10, name
