"""What a failure of S3 means, and what to do about it: one sentence each, instead of dozens of classes."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from metta_cli.errors import AccessError, CheckpointError, MettaError, NotFoundError, UsageError

TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
_TRANSIENT_KINDS = {
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "FSTimeoutError",
    "FlexibleChecksumError",
    "HTTPClientError",
    "IncompleteRead",
    "ReadTimeoutError",
    "ResponseParserError",
    "ResponseStreamingError",
}
"""Of botocore, aiohttp and fsspec; by name, so that no version has to have them all."""

_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run `aws configure`"
_NO_CREDENTIALS = {
    "CredentialRetrievalError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_REFUSED = {
    "InvalidAccessKeyId": ("the S3 server does not know this access key", _CREDENTIALS),
    "SignatureDoesNotMatch": (
        "the S3 server refuses the secret key: it does not belong to the access key",
        _CREDENTIALS,
    ),
    "ExpiredToken": (
        "the S3 session has expired",
        "log in again, with `aws sso login` or a new session token",
    ),
    "InvalidToken": ("the S3 server refuses the session token", "log in again, or unset AWS_SESSION_TOKEN"),
    "AccountProblem": ("the S3 account has a problem", "ask its owner"),
}
_ELSEWHERE = {
    "PermanentRedirect",
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed when it is sent again."""
    client_error = _client_error(error)
    if client_error is not None:
        status = client_error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in TRANSIENT_STATUSES or _code(client_error) in ("SlowDown", "RequestTimeout")
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _TRANSIENT_KINDS) or isinstance(
        error, ConnectionError | TimeoutError | DamagedTransferError
    )


class DamagedTransferError(Exception):
    """What arrived is not what was announced; another attempt may bring it."""


def refusal(error: MettaError) -> str | None:
    """Return the code of the server where it refused or found nothing, without a word why; else None."""
    cause = _client_error(error.__cause__)
    code = None if cause is None else _code(cause)
    return code if code in ("301", "400", "403", "404", "NoSuchKey") else None


def explain(
    error: BaseException, what: str, *, seconds: float | None = None, endpoint: str | None = None
) -> MettaError:
    """Return what a user can do about a failed request.

    Args:
        error: what botocore, aiohttp or s3fs raised.
        what: the address that was asked for.
        seconds: the deadline.
        endpoint: the server.
    """
    client_error = _client_error(error)
    if client_error is not None:
        return _explain_answer(client_error, what, endpoint)
    names = {kind.__name__ for kind in type(error).__mro__}
    text = " ".join(str(error).split())
    if isinstance(error, DamagedTransferError) or "FlexibleChecksumError" in names:
        return CheckpointError(f"{what} is damaged: {text}", "whoever stored it must store it again")
    if names & _NO_CREDENTIALS:
        return AccessError(f"there are no credentials for {what}: {text}", _CREDENTIALS)
    if names & {"ParamValidationError", "InvalidEndpointConfigurationError"}:
        return UsageError(f"{what} is refused: {text}", "see the rules for names of buckets")
    if isinstance(error, ValueError) and "endpoint" in text.lower():
        return UsageError(
            f"the S3 server cannot be called that: {text}", "set AWS_ENDPOINT_URL to http(s)://HOST[:PORT]"
        )
    server = f"the S3 server {endpoint}" if endpoint else "the S3 server"
    if isinstance(error, TimeoutError | socket.timeout) or names & {
        "FSTimeoutError",
        "ReadTimeoutError",
        "ConnectTimeoutError",
    }:
        limit = f" within {seconds:g} s" if seconds else ""
        return MettaError(
            f"{server} did not deliver {what}{limit}", "try again later, or on a faster network"
        )
    return MettaError(
        f"{server} failed at {what}: {type(error).__name__}: {text}", "look at the network, and try again"
    )


def _explain_answer(error: Any, what: str, endpoint: str | None) -> MettaError:
    code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    text = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    if code == "RequestTimeTooSkewed" or "difference between the request time" in text:
        return AccessError(
            f"the S3 server refuses {what}: the clock of this machine is off{_skew(error)}",
            "set the clock, with `timedatectl set-ntp true` for example",
        )
    if code in _REFUSED:
        message, cure = _REFUSED[code]
        return AccessError(f"{message} ({what})", cure)
    if code == "NoSuchBucket":
        return NotFoundError(f"there is no bucket for {what}", "look at its name, and at AWS_ENDPOINT_URL")
    if code in ("NoSuchKey", "NotFound", "404"):
        return NotFoundError(f"there is nothing at {what}", "look at its name, and at AWS_ENDPOINT_URL")
    if code in _ELSEWHERE:
        return MettaError(
            f"{what} is in another region: {text}", "set AWS_REGION to the region of the bucket"
        )
    if code in ("PreconditionFailed", "412"):
        return MettaError(f"{what} was replaced while it was being downloaded", "try again")
    if status in (401, 403) or "Denied" in code:
        return AccessError(
            f"this account may not use {what}, or it does not exist ({code}{': ' + text if text else ''})",
            "use another account, or ask for s3:ListBucket, s3:GetObject and, to push, s3:PutObject",
        )
    if status is not None and status >= 500:
        return MettaError(f"the S3 server {endpoint} fails at {what}: {code} ({status})", "try again later")
    return MettaError(f"the S3 server refuses {what}: {code} {text}".rstrip(), "look at the address")


def _client_error(error: BaseException | None) -> Any:
    """Return the answer of the server behind what s3fs raised; None if there was none."""
    while error is not None:
        if isinstance(getattr(error, "response", None), dict):
            return error
        error = error.__cause__
    return None


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _skew(error: Any) -> str:
    """Return how far this clock is off, as far as the answer tells."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        offset = datetime.now(UTC) - parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError):
        return ""
    minutes = offset.total_seconds() / 60
    return f" by {abs(minutes):.0f} minutes ({'ahead' if minutes > 0 else 'behind'})"
