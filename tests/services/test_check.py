"""`metta plugins check` of a loader whose service cannot be asked."""

from __future__ import annotations

import pytest

from metta_cli.testing.check import check_loader

from .s3_server import S3Server


def states(scheme: str) -> set[str]:
    return {outcome.state for outcome in check_loader(scheme)}


def last(scheme: str) -> tuple[str, str | None]:
    outcome = check_loader(scheme)[-1]
    return outcome.state, outcome.reason


def test_a_loader_whose_service_answers_is_checked(s3_server: S3Server) -> None:
    assert last("s3") == ("ok", None)


def test_a_service_that_cannot_be_reached_does_not_make_a_loader_broken(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    state, reason = last("s3")
    assert state == "not checked"
    assert reason is not None
    assert "cannot be reached" in reason


def test_missing_credentials_do_not_make_a_loader_broken(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert last("s3")[0] == "not checked"
    assert "broken" not in states("s3")
