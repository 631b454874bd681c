"""Addresses of checkpoints.

RUN                                     a run in the data directory, or any path; scheme `file`
train_dir/RUN:v12                       epoch 12
file:///absolute/path, file://relative  the same, spelled out
SCHEME://PATH[:vN|:latest]              whatever the loader plugin of that scheme makes of PATH
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from metta_cli.errors import UsageError

DEFAULT_SCHEME = "file"
MAX_PART_BYTES = 255
"""No file system takes a longer name."""

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_VERSION = re.compile(r"(?P<path>.*[^/]):(?P<version>latest|v[0-9]{1,12})", re.DOTALL)


@dataclass(frozen=True)
class Uri:
    """A parsed address.

    Attributes:
        scheme: in lower case; names the loader plugin.
        path: everything after `SCHEME://`, without the version.
        version: `latest`, `vN`, or None where the address does not say.
    """

    scheme: str
    path: str
    version: str | None = None

    @property
    def epoch(self) -> int | None:
        """`N` of `:vN`; None for `:latest` and where the address does not say."""
        if self.version is None or self.version == "latest":
            return None
        return int(self.version[1:])

    def __str__(self) -> str:
        """Return the address in full, such as `file://train_dir/walker:v12`."""
        return f"{self.scheme}://{self.path}" + (f":{self.version}" if self.version else "")


def parse_uri(text: str) -> Uri:
    """Take an address apart. A trailing `/` does not count.

    Raises:
        UsageError: there is no path in it.
    """
    match = _SCHEME.fullmatch(text)
    scheme, rest = (match["scheme"].lower(), match["rest"]) if match else (DEFAULT_SCHEME, text)
    path = rest.rstrip("/") or rest[:1]
    versioned = _VERSION.fullmatch(path)
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if not path or "\0" in path or longest > MAX_PART_BYTES:
        raise UsageError(
            f"{text!r} is not the address of a checkpoint", "give a run, such as RUN or RUN:v12, or a path"
        )
    if versioned is None:
        return Uri(scheme, path)
    return Uri(scheme, versioned["path"], versioned["version"])
