"""Metrics on Weights & Biases; the only module that imports wandb.

W&B's client can wait for ever, at the end of a run and at the exit of the process, when its server or
its own service process is gone. Here everything has a deadline, and nothing that happens after the start
stops a training run: its metrics are in `metrics.jsonl` in any case.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metta_cli.config.schema import WandbConfig
from metta_cli.errors import AccessError, MettaError, UsageError

CONNECT_TIMEOUT_SECONDS = 3.0
INIT_TIMEOUT_SECONDS = 30.0
FINISH_TIMEOUT_SECONDS = 30.0
TEARDOWN_TIMEOUT_SECONDS = 5.0

_WITHOUT = "go on without it: wandb.mode=offline, or wandb=off"

logger = logging.getLogger(__name__)


class WandbTracker:
    """Sends metrics to a W&B run of the same name; resuming a run goes on with it.

    Args:
        config: where to, and how.
        run: name of the run, also its id within the project.
        directory: where W&B keeps its local files, in a folder `wandb`.
        run_config: configuration of the run, to be shown beside its metrics.

    Raises:
        UsageError: wandb is not installed, or the project cannot be called that.
        AccessError: there is no valid API key, or it may not write to the project.
        MettaError: the server cannot be reached, or refuses for another reason.
    """

    def __init__(
        self,
        config: WandbConfig,
        *,
        run: str,
        directory: Path,
        run_config: Mapping[str, Any] | None = None,
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else its own telemetry is sent as well
        self._wandb = _import_wandb()
        if config.mode == "online":
            require_server(self._wandb.setup().settings.base_url)
        try:
            self._run: Any = self._wandb.init(
                mode=config.mode,
                entity=config.entity,
                project=config.project,
                group=config.group,
                tags=config.tags,
                notes=config.notes,
                name=run,
                id=run,
                resume="allow",
                dir=str(directory),
                config=dict(run_config or {}),
                settings=self._settings(),
            )
            self._run.define_metric("*", step_metric="agent_steps")
        except Exception as error:  # wandb raises half a dozen unrelated types
            within_deadline(self._wandb.teardown, TEARDOWN_TIMEOUT_SECONDS)
            raise start_error(error) from error

    def _settings(self) -> Any:
        wanted = {
            "console": "off",  # stdout is data, and stderr has a live display
            "init_timeout": INIT_TIMEOUT_SECONDS,
            "finish_timeout": FINISH_TIMEOUT_SECONDS,
        }
        known = self._wandb.Settings.model_fields  # older clients have no finish_timeout
        return self._wandb.Settings(**{name: value for name, value in wanted.items() if name in known})

    def log(self, metrics: Mapping[str, float], *, agent_steps: int, epoch: int) -> None:
        """Send the metrics of an epoch; after the first failure, nothing any more."""
        if self._run is None:
            return
        try:
            self._run.log({**metrics, "agent_steps": agent_steps, "epoch": epoch})
        except Exception as error:  # whatever it is, training is worth more than its live curves
            self._give_up(f"W&B gets no more metrics, they go on in metrics.jsonl: {describe(error)}")

    def close(self) -> None:
        """Upload what is left, for half a minute at most; what is then left stays on disk."""
        if self._run is not None:
            run, self._run = self._run, None
            failure = within_deadline(run.finish, FINISH_TIMEOUT_SECONDS + TEARDOWN_TIMEOUT_SECONDS)
            if failure is not None:
                self._warn_unfinished(run.dir, failure)
        self._teardown()

    def _give_up(self, message: str) -> None:
        logger.warning("%s", message)
        self._run = None

    def _warn_unfinished(self, directory: str, failure: str) -> None:
        logger.warning(
            "W&B has not got everything (%s); send the rest with `wandb sync --no-skip-online %s`",
            failure,
            Path(directory).parent,
        )

    def _teardown(self) -> None:
        # Begun here, its exit hook is gone: that one would wait for the service process without a limit.
        within_deadline(self._wandb.teardown, TEARDOWN_TIMEOUT_SECONDS)


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise UsageError(
            f"tracking with W&B needs the package wandb: {error}",
            "pip install 'metta-cli[wandb]', or set wandb=off",
        ) from error


def require_server(url: str) -> None:
    """See within seconds that a server is there at all; W&B's client would try for much longer.

    Raises:
        MettaError: nothing answers at the address.
    """
    if urllib.request.getproxies():
        return  # only the proxy knows whether it is there
    parts = urlsplit(url)
    port = parts.port or {"http": 80}.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT_SECONDS).close()
    except OSError as error:
        raise MettaError(
            f"the W&B server {url} cannot be reached: {error.strerror or error}",
            f"look at WANDB_BASE_URL and the network, or {_WITHOUT}",
        ) from error


def start_error(error: Exception) -> MettaError:
    """Return what the user can do about an exception that W&B raised at the start."""
    text = describe(error)
    lower = text.lower()
    if "api key" in lower or "api_key" in lower or type(error).__name__ == "AuthenticationError":
        return AccessError(
            f"W&B wants an API key: {text}", "run `wandb login`, set WANDB_API_KEY, or wandb=off"
        )
    if "permission" in lower or "403" in lower or "401" in lower:
        return AccessError(f"W&B refused: {text}", "look at wandb.entity and wandb.project, or set wandb=off")
    if type(error).__name__ == "UsageError":
        return UsageError(f"W&B refused: {text}", "look at the keys wandb.*, or set wandb=off")
    return MettaError(f"W&B could not be started: {text}", _WITHOUT)


def describe(error: BaseException) -> str:
    """Return an exception in one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def within_deadline(call: Callable[[], object], seconds: float) -> str | None:
    """Call a function and stop waiting for it at the deadline.

    Returns:
        Why it did not end well, in one line; None if it did.
    """
    failures: list[str] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # an exception in a thread has nobody else to catch it
            failures.append(describe(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"no answer within {seconds:g} s"
    return failures[0] if failures else None
