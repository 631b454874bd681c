"""Asks W&B in a child process that is stopped at its deadline, and says what its failures mean.

W&B's client can wait for ever: at the exit of its process, for a server that accepts and never answers,
for its own service process. Here a question is a child process (`wandb_child`) with a deadline that holds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metta_cli.errors import (
    AccessError,
    CheckpointError,
    MettaError,
    NotFoundError,
    UsageError,
    suggestion,
)

RETRIES = 2
"""How often a download that broke off is begun again, within its deadline."""

_POLL_SECONDS = 0.2
_MAX_SHOWN = 12
_MARGIN_SECONDS = 2.0
_LOG_IN = "run `wandb login`, or set WANDB_API_KEY"
_TEMPORARY_TYPES = frozenset(
    {
        "ChunkedEncodingError",
        "ConnectionError",
        "ConnectionResetError",
        "ContentDecodingError",
        "IncompleteRead",
        "ProtocolError",
        "ReadTimeout",
    }
)
# What would make the child a part of somebody's run, or send W&B's own telemetry.
_KEPT_FROM_CHILD = ("WANDB_RUN", "WANDB_NAME", "WANDB_RESUME", "WANDB_SWEEP", "WANDB_DIR", "WANDB_SERVICE")


class TemporaryError(MettaError):
    """A transfer broke off; the next try may do."""


def require_wandb() -> None:
    """See that the package wandb is installed, without importing it.

    Raises:
        UsageError: it is not.
    """
    try:
        found = importlib.util.find_spec("wandb")
    except ValueError:  # somebody put something else in its place
        found = None
    if found is None or found.origin is None:  # a directory `wandb` of old runs is no package
        raise UsageError("W&B needs the package wandb", "pip install 'metta-cli[wandb]'")


def ask(
    operation: str,
    arguments: Mapping[str, Any],
    *,
    subject: str,
    deadline_seconds: float,
    watch: Callable[[], None] = lambda: None,
    directory: Path | None = None,
) -> Any:
    """Return the answer of W&B's client to one question.

    Args:
        operation: a function of `wandb_child`.
        arguments: its arguments; a path among them is absolute.
        subject: what it is about, for messages.
        deadline_seconds: when to give up, at the latest.
        watch: called several times a second; what it raises ends the question.
        directory: where W&B may keep temporary files; they are removed.

    Raises:
        UsageError: wandb is not installed, or it is not clear what is meant.
        AccessError: credentials are missing or refused.
        NotFoundError: W&B has nothing of that name.
        CheckpointError: what came is not what was stored.
        MettaError: W&B cannot be reached, does not answer in time, or fails.
    """
    require_wandb()
    with tempfile.TemporaryDirectory(
        prefix=".wandb-", dir=directory, ignore_cleanup_errors=True
    ) as temporary:
        arguments = {**arguments, "timeout_seconds": max(1.0, deadline_seconds - _MARGIN_SECONDS)}
        if operation == "upload_artifact":
            arguments["directory"] = temporary
        request = json.dumps({"operation": operation, "arguments": arguments})
        log = Path(temporary) / "stderr"
        output = _run_child(request, temporary, log, deadline_seconds, watch)
        if output is None:
            raise _no_answer(subject, deadline_seconds)
        if not output:
            raise MettaError(f"W&B's client died while asked for {subject}: {_last_line(log)}", "try again")
    reply = json.loads(output)
    if "error" in reply:
        raise meaning(reply["error"], subject, reply.get("server"), deadline_seconds)
    return reply["result"]


def _run_child(
    request: str, temporary: str, log: Path, deadline_seconds: float, watch: Callable[[], None]
) -> str | None:
    """Return what the child wrote; None if it had not ended at the deadline."""
    deadline = time.monotonic() + deadline_seconds
    with log.open("w") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "metta_cli.artifacts.wandb_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=_environment(temporary),
            start_new_session=True,  # Ctrl-C is for this process, which then stops the child
        )
        try:
            while (remaining := deadline - time.monotonic()) > 0:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.communicate(request, timeout=min(_POLL_SECONDS, remaining))[0]
                request = ""  # sent already, and communicate would not take it again
                watch()
            return None
        finally:
            _stop(child)


def _stop(child: subprocess.Popen[str]) -> None:
    """End the child with whatever it started; W&B's service process ends by itself when the child has."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def _environment(temporary: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_FROM_CHILD)}
    places = dict.fromkeys(("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"), temporary)
    return kept | places | {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no message"


def meaning(
    error: Mapping[str, Any], subject: str, server: str | None, deadline_seconds: float
) -> MettaError:
    """Return what a user can do about a failure of the child.

    Args:
        error: as `wandb_child.describe_error` gives it.
        subject: what was asked for.
        server: address of the W&B server, if it is known.
        deadline_seconds: when the child would have been stopped.
    """
    text, kind, status = str(error["text"]), error.get("kind"), error.get("status")
    types = set(error.get("types", ()))
    where = f"W&B ({server})"
    lower = text.lower()
    if "TimeoutError" in types or "did not respond in time" in lower:
        return _no_answer(subject, deadline_seconds)
    if kind == "unreachable":
        return MettaError(
            f"{where} cannot be reached: {text}",
            "look at the network, or at WANDB_BASE_URL; work without it: wandb=offline, local checkpoints",
        )
    if kind == "usage":
        return UsageError(f"{text} for {subject}", "name it, or set WANDB_ENTITY and WANDB_PROJECT")
    if kind == "damaged":
        return TemporaryDamageError(f"the download of {subject} is damaged: {text}")
    if kind == "not_found" or status == 404:
        return _not_found(error, subject)
    if status == 403 or "permission" in lower:
        return AccessError(
            f"{where} refuses access to {subject}: {text}",
            "ask its owner for access, or log in as somebody who has it: `wandb login --relogin`",
        )
    if status == 401 or "AuthenticationError" in types or "api key" in lower or "not logged in" in lower:
        return AccessError(f"{where} wants an API key: {text}", _LOG_IN)
    if status == 429:
        return MettaError(
            f"{where} answers too many requests (429) for {subject}", "wait a minute, try again"
        )
    if types & _TEMPORARY_TYPES:
        return TemporaryError(f"{where} broke off while sending {subject}: {text}", "try again")
    shown = f"HTTP {status}" if status else next(iter(error.get("types", ())), "error")
    return MettaError(f"{where} failed for {subject}: {shown}: {text}", "try again later")


class TemporaryDamageError(CheckpointError, TemporaryError):
    """What came is not what was stored; the next try may do."""

    def __init__(self, message: str, cure: str | None = None) -> None:
        again = "download it again; if that does not help, whoever stored it must store it again"
        super().__init__(message, cure or again)


def _no_answer(subject: str, deadline_seconds: float) -> MettaError:
    return MettaError(
        f"W&B gave no answer about {subject} within {deadline_seconds:.3g} s",
        "try again later; see https://status.wandb.com",
    )


def _not_found(error: Mapping[str, Any], subject: str) -> NotFoundError:
    wanted, known = str(error.get("wanted") or ""), [str(name) for name in error.get("known", ())]
    cure = suggestion(wanted, known) if known else "look at the entity, the project, and who is logged in"
    if cure.startswith("known: ") and len(known) > _MAX_SHOWN:
        cure = f"known: {', '.join(known[:_MAX_SHOWN])}, and {len(known) - _MAX_SHOWN} more"
    return NotFoundError(f"W&B has no {subject}: {error['text']}", cure)
