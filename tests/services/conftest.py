"""Services on this machine, for tests with the real clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .s3_server import s3_server, s3_session
from .wandb_server import WandbServer

__all__ = ["s3_server", "s3_session"]


@pytest.fixture
def wandb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A W&B server that this process and its children take for theirs."""
    pytest.importorskip("wandb", reason="needs the extra metta-cli[wandb]")
    home = tmp_path / "home"
    home.mkdir()
    with WandbServer() as server:
        for name, value in server.environment(str(home)).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        yield server
        assert server.unknown == []
