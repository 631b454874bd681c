"""Metrics on Weights & Biases; the only module that imports wandb.

W&B's client can wait for ever, at the end of a run and at the exit of the process, when its server or
its own service process is gone. Here everything has a deadline, and nothing that happens after the start
stops a training run: its metrics are in `metrics.jsonl` in any case. What cannot be sent at the start,
because the network or the server fails, is kept for a later `wandb sync`.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import secrets
import socket
import threading
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metta_cli.config.schema import WandbConfig
from metta_cli.errors import AccessError, MettaError, UsageError
from metta_cli.tracking.sender import Sender
from metta_cli.tracking.wandb_uploads import CheckpointUploads, Upload

CONNECT_TIMEOUT_SECONDS = 3.0
INIT_TIMEOUT_SECONDS = 30.0
FINISH_TIMEOUT_SECONDS = 30.0
TEARDOWN_TIMEOUT_SECONDS = 5.0
UPLOAD_TIMEOUT_SECONDS = 600.0
LAST_UPLOAD_TIMEOUT_SECONDS = 120.0

RUN_FILE = "wandb_run.json"
"""Which W&B run belongs to a run directory."""

_WITHOUT = "go on without it: wandb.mode=offline, or wandb=off"

logger = logging.getLogger(__name__)


class WandbTracker:
    """Sends metrics, and checkpoints at intervals, to a W&B run; a resumed run goes on with the same one.

    Where the server cannot be reached or fails at the start, the metrics are kept for `wandb sync`.

    Args:
        config: where to, and how.
        run: name of the run.
        directory: where W&B keeps its local files, in a folder `wandb`, and the id of the run is kept.
        run_config: configuration of the run, to be shown beside its metrics.
        upload_interval: epochs between two uploads of a checkpoint; 0 uploads none.

    Raises:
        UsageError: wandb is not installed, or the project cannot be called that.
        AccessError: there is no valid API key, or it may not write to the project.
        MettaError: it cannot be started, not even offline.
    """

    def __init__(
        self,
        config: WandbConfig,
        *,
        run: str,
        directory: Path,
        run_config: Mapping[str, Any] | None = None,
        upload_interval: int = 0,
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else its own telemetry is sent as well
        self._wandb = _import_wandb()
        self._config, self._name, self._directory = config, run, directory
        self._identity = RunIdentity.of(directory, run)
        self._run: Any = self._start(dict(run_config or {}))
        self._sender = Sender(self._run.log, lambda error: self._give_up(describe(error)))
        self._interval = upload_interval
        self._offered_epoch = self._identity.uploaded_epoch
        self._uploads: CheckpointUploads | None = None
        if upload_interval and not self._run.offline:
            waiting = directory / "wandb" / "uploads"
            self._uploads = CheckpointUploads(waiting, self._send, self._identity.set_uploaded)

    def _start(self, run_config: dict[str, Any]) -> Any:
        if self._config.mode == "online":
            try:
                require_server(self._wandb.setup().settings.base_url)
                run = self._init("online", run_config)
                logger.info("W&B: %s", run.url)
                return run
            except (AccessError, UsageError):
                raise
            except MettaError as error:
                logger.warning(
                    "%s; metrics are kept in %s, send them later with `wandb sync`",
                    error.message,
                    self._directory / "wandb",
                )
        return self._init("offline", run_config)

    def _init(self, mode: str, run_config: dict[str, Any]) -> Any:
        config = self._config
        try:
            run = self._wandb.init(
                mode=mode,
                entity=config.entity,
                project=config.project,
                group=config.group,
                tags=config.tags,
                notes=config.notes,
                name=self._name,
                id=self._identity.id,
                resume="allow" if mode == "online" else None,
                dir=str(self._directory),
                config=run_config,
                settings=self._settings(),
            )
            run.define_metric("*", step_metric="agent_steps")
        except Exception as error:  # wandb raises half a dozen unrelated types
            within_deadline(self._wandb.teardown, TEARDOWN_TIMEOUT_SECONDS)
            raise start_error(error) from error
        return run

    def _settings(self) -> Any:
        return self._wandb.Settings(
            console="off",  # stdout is data, and stderr has a live display
            silent=True,
            init_timeout=INIT_TIMEOUT_SECONDS,
            finish_timeout=FINISH_TIMEOUT_SECONDS,
            finish_timeout_raises=True,
        )

    def log(self, metrics: Mapping[str, float], *, agent_steps: int, epoch: int) -> None:
        """Send the metrics of an epoch; after the first failure, nothing any more."""
        if self._run is None:
            return
        record = {**metrics, "agent_steps": agent_steps, "epoch": epoch}
        if not self._sender.put(record):
            self._give_up("it has stopped taking them")

    def save_checkpoint(self, path: Path, *, epoch: int, metadata: Mapping[str, Any], is_last: bool) -> None:
        """Upload a checkpoint in the background, if it is time for one; as an artifact of type `model`."""
        if self._uploads is None or self._run is None or epoch <= self._offered_epoch:
            return
        if is_last or epoch // self._interval > self._offered_epoch // self._interval:
            self._offered_epoch = epoch
            self._uploads.add(path, epoch, metadata)

    def _send(self, upload: Upload) -> None:
        artifact = self._wandb.Artifact(self._name, type="model", metadata=upload.metadata)
        artifact.add_dir(str(upload.path), policy="immutable", skip_cache=True)
        logged = self._run.log_artifact(artifact, aliases=["latest", f"epoch-{upload.epoch}"])
        logged.wait(timeout=int(UPLOAD_TIMEOUT_SECONDS))

    def close(self) -> None:
        """Upload what is left, for a bounded time; what is then left stays on disk."""
        if self._uploads is not None and self._run is not None:
            self._uploads.close(LAST_UPLOAD_TIMEOUT_SECONDS)
        is_sent = self._sender.close(TEARDOWN_TIMEOUT_SECONDS)
        if self._run is not None:
            run, self._run = self._run, None
            failure: str | None = "its service process takes nothing"
            if is_sent:
                failure = within_deadline(run.finish, FINISH_TIMEOUT_SECONDS + TEARDOWN_TIMEOUT_SECONDS)
            if failure is not None:
                self._warn_unfinished(run.dir, failure)
        self._teardown()

    def _give_up(self, reason: str) -> None:
        logger.warning("W&B gets no more metrics, they go on in metrics.jsonl: %s", reason)
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


@dataclass
class RunIdentity:
    """Which W&B run belongs to a run directory; kept there.

    Attributes:
        path: the file.
        id: of the W&B run. It is the name and something random, so that two runs of one name on two machines
            stay two runs, and a run that was deleted on W&B can be started again.
        uploaded_epoch: the last checkpoint that arrived there; 0 if none did.
    """

    path: Path
    id: str
    uploaded_epoch: int = 0

    @classmethod
    def of(cls, directory: Path, run: str) -> RunIdentity:
        """Return the identity that a directory has, or give it one."""
        path = directory / RUN_FILE
        try:
            known = json.loads(path.read_text())
            return cls(path, str(known["id"]), int(known["uploaded_epoch"]))
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s makes no sense (%s); a new W&B run is begun", path, error)
        identity = cls(path, f"{run[:100]}-{secrets.token_hex(4)}")
        identity._write()
        return identity

    def set_uploaded(self, epoch: int) -> None:
        """Remember that the checkpoint of an epoch has arrived."""
        self.uploaded_epoch = epoch
        self._write()

    def _write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}")
        temporary.write_text(json.dumps({"id": self.id, "uploaded_epoch": self.uploaded_epoch}) + "\n")
        os.replace(temporary, self.path)


def _import_wandb() -> Any:
    try:
        found = importlib.import_module("wandb")
    except ImportError:
        found = None
    if not hasattr(found, "init"):  # a directory `wandb` of old runs imports as an empty package
        raise UsageError(
            "tracking with W&B needs the package wandb", "pip install 'metta-cli[wandb]', or set wandb=off"
        )
    return found


def require_server(url: str) -> None:
    """See within seconds that a server is there at all; W&B's client would try for much longer.

    Raises:
        MettaError: nothing answers at the address.
    """
    if urllib.request.getproxies():
        return  # only the proxy knows whether it is there
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443))
    failure = within_deadline(  # also of looking up the name, which has no time limit of its own
        lambda: socket.create_connection(address, CONNECT_TIMEOUT_SECONDS).close(),
        2 * CONNECT_TIMEOUT_SECONDS,
    )
    if failure is not None:
        raise MettaError(
            f"the W&B server {url} cannot be reached: {failure}",
            f"look at WANDB_BASE_URL and the network, or {_WITHOUT}",
        )


def start_error(error: Exception) -> MettaError:
    """Return what the user can do about an exception that W&B raised at the start."""
    text = describe(error)
    lower = text.lower()
    is_unknown = "api key" in lower or "api_key" in lower or "401" in lower or "not logged in" in lower
    if is_unknown or type(error).__name__ == "AuthenticationError":
        return AccessError(
            f"W&B wants an API key: {text}", "run `wandb login`, set WANDB_API_KEY, or wandb=off"
        )
    if "permission" in lower or "403" in lower:
        return AccessError(f"W&B refused: {text}", "look at wandb.entity and wandb.project, or set wandb=off")
    if type(error).__name__ == "UsageError" or "404" in lower or "not found" in lower:
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
