import json
import math
import resource
from pathlib import Path

import pytest

from metta_cli.errors import MettaError, NotFoundError, StorageError
from metta_cli.tracking.jsonl import JsonlTracker, read_metrics


def log(path: Path, epochs: list[int], **metrics: float) -> None:
    tracker = JsonlTracker(path)
    for epoch in epochs:
        tracker.log({"loss": epoch / 10} | metrics, agent_steps=100 * epoch, epoch=epoch)
    tracker.close()


def test_every_line_carries_agent_steps_and_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log(path, [1, 2])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["agent_steps"], line["epoch"], line["loss"]) for line in lines] == [
        (100, 1, 0.1),
        (200, 2, 0.2),
    ]
    assert all(line["timestamp"] > 1e9 for line in lines)


def test_a_line_is_readable_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log({}, agent_steps=1, epoch=1)
    assert read_metrics(path)[0]["epoch"] == 1
    tracker.close()


def test_numbers_that_are_not_finite_are_null_and_read_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log(path, [1], up=math.inf, odd=math.nan)
    assert "Infinity" not in path.read_text()
    assert "NaN" not in path.read_text()
    [record] = read_metrics(path)
    assert math.isnan(record["up"])
    assert math.isnan(record["odd"])


@pytest.mark.parametrize("torn", [b"", b'{"agent_st', b'{"epoch": 3}', b"x" * 200_000])
def test_a_torn_last_line_is_removed_on_resume(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    log(path, [1, 2])
    with path.open("ab") as file:
        file.write(torn)
    assert [record["epoch"] for record in read_metrics(path)] == [1, 2]
    log(path, [3])
    assert [record["epoch"] for record in read_metrics(path)] == [1, 2, 3]
    assert len(path.read_text().splitlines()) == 3


def test_a_file_of_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"{")
    JsonlTracker(path).close()
    assert path.read_bytes() == b""


def test_after_a_resume_the_later_record_of_an_epoch_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log(path, [1, 2, 3, 4], session=1)
    log(path, [3, 4, 5], session=2)
    records = read_metrics(path)
    assert [(record["epoch"], record["session"]) for record in records] == [
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 2),
    ]
    assert len(path.read_text().splitlines()) == 7


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log({}, agent_steps=1, epoch=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(
            StorageError, match=r"metrics cannot be written to .*metrics\.jsonl: File too large"
        ):
            tracker.log({}, agent_steps=2, epoch=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes().endswith(b"\n")
    tracker.log({}, agent_steps=3, epoch=3)
    tracker.close()
    assert [record["epoch"] for record in read_metrics(path)] == [1, 3]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        JsonlTracker(tmp_path / "missing" / "metrics.jsonl")


@pytest.mark.parametrize("line", ["not json", "[1]", '{"loss": 1}', ""])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    log(path, [1])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(MettaError, match=r"line 2 of .*metrics\.jsonl is not a record"):
        read_metrics(path)


def test_missing_metrics_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no metrics at"):
        read_metrics(tmp_path / "metrics.jsonl")
