"""Whether a server can be reached at all, known within seconds.

Clients of services look up a name and connect in ways that can take minutes, and threads that wait for a
name keep a process from ending. The first look is taken here, in a thread that nobody waits for.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from urllib.parse import urlsplit

from metta_cli.errors import MettaError, UsageError


def require_reachable(url: str, kind: str, variable: str, seconds: float) -> None:
    """Connect to a server, and hang up.

    Where a proxy is set for it, nothing is done: only the proxy can say.

    Args:
        url: of the server.
        kind: what a person calls it.
        variable: environment variable that holds the URL.
        seconds: how long to try.

    Raises:
        UsageError: that is no URL.
        MettaError: the server cannot be reached; the message says why.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError(
            f"{url!r} is not the address of a server", f"set {variable} to http(s)://HOST[:PORT]"
        )
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    reasons: list[BaseException] = [TimeoutError(f"no answer within {seconds:g} s")]
    thread = threading.Thread(target=_connect, args=(host, port, seconds, reasons), daemon=True)
    thread.start()
    thread.join(seconds)
    if reasons:
        error = reasons[-1]
        if not isinstance(error, OSError):
            raise error
        raise MettaError(
            f"the {kind} {parts.scheme}://{host}:{port} cannot be reached: {error.strerror or error}",
            f"look at the network and at {variable}",
        ) from error


def _connect(host: str, port: int, seconds: float, reasons: list[BaseException]) -> None:
    """Empty `reasons` when connected, or add why not."""
    try:
        socket.create_connection((host, port), seconds).close()
    except Exception as error:  # an exception in a thread has nobody else to catch it
        reasons.append(error)
    else:
        reasons.clear()
