from __future__ import annotations

import json
from pathlib import Path

import pytest

from metta_cli.artifacts.cache import Cache
from metta_cli.cli.cache import parse_age, parse_size
from metta_cli.errors import UsageError

KEY = "s3://bucket/runs/walker, sha256 abc"


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Cache().fetch(KEY, lambda directory: (directory / "policy.pt").write_bytes(bytes(1500)) and None)


def test_ls_shows_addresses_and_sizes(metta, entry):
    outcome = metta("cache", "ls")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1].split()[:4] == ["s3://bucket/runs/walker", "1.5", "kB", "1"]
    assert "1.5 kB in" in outcome.err


def test_ls_as_data_has_bytes_and_times(metta, entry):
    (row,) = json.loads(metta("cache", "ls", "--format", "json").out)
    assert row["bytes"] == 1500
    assert row["address"] == "s3://bucket/runs/walker"
    assert row["version"] == "sha256 abc"
    assert row["used"].endswith("+00:00")


def test_an_empty_cache_is_no_error(metta, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert metta("cache", "ls").err.startswith("the cache is empty")
    assert metta("cache", "ls", "--format", "json").out == "[]\n"
    assert metta("cache", "verify").code == 0


def test_verify_ends_with_3_where_a_file_has_changed(metta, entry):
    assert metta("cache", "verify").code == 0
    (entry / "policy.pt").write_bytes(bytes(1499) + b"x")
    outcome = metta("cache", "verify", "--format", "json")
    assert outcome.code == 3
    (row,) = json.loads(outcome.out)
    assert (row["state"], row["problem"]) == ("damaged", "policy.pt is changed")


def test_prune_needs_to_know_what(metta, entry):
    assert metta("cache", "prune").code == 2
    assert Cache().ls() != []


def test_a_dry_run_removes_nothing(metta, entry):
    assert "1.5 kB would be removed" in metta("cache", "prune", "--all", "--dry-run").err
    assert Cache().ls() != []
    assert "1.5 kB removed" in metta("cache", "prune", "--all").err
    assert Cache().ls() == []


def test_prune_by_age_and_by_size_leave_what_is_young_and_small(metta, entry):
    metta("cache", "prune", "--unused", "30d", "--max-size", "1GB")
    assert Cache().ls() != []
    metta("cache", "prune", "--max-size", "1kB")
    assert Cache().ls() == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("30d", 2_592_000), ("2w", 1_209_600)]
)
def test_an_age_has_a_unit(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("0", 0), ("500MB", 5 * 10**8), ("2 GB", 2 * 10**9), ("1.5k", 1500)]
)
def test_a_size_may_have_a_unit(text, num_bytes):
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "1y", "1d2h"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(UsageError):
        parse_age(text)


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError):
        parse_size(text)
