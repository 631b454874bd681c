"""The words of a command that are not options: `KEY=VALUE` settings and, for some commands, one URI."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from metta_cli.cli import completion
from metta_cli.errors import UsageError

# A URI or a path that holds a "=" has a "/" or a ":" before it, or starts with a dot.
_SETTING = re.compile(r"\+{0,2}[A-Za-z_][\w.-]*=", re.ASCII)


def is_setting(word: str) -> bool:
    """Tell whether a word is a `KEY=VALUE` (or `+KEY=VALUE`) and not a URI."""
    return _SETTING.match(word) is not None


def require_settings(words: Sequence[str]) -> list[str]:
    """Return the words if each is a setting.

    Raises:
        UsageError: the first one that is not, with what was probably meant.
    """
    for word in words:
        if not is_setting(word):
            raise UsageError(f"'{word}' is not a setting of the form KEY=VALUE", _cure(word, words))
    return list(words)


def split_uri(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the URI, if there is one, and the settings.

    Raises:
        UsageError: two words could be the URI, or the one that could is the name of something else.
    """
    settings = [word for word in words if is_setting(word)]
    others = [word for word in words if not is_setting(word)]
    for word in others:
        option = _option_for(word)
        if option is not None:
            raise UsageError(f"'{word}' is no policy", f"did you mean {option}?")
    if len(others) > 1:
        raise UsageError(
            f"one policy is evaluated at a time, and there are {len(others)}: {', '.join(others)}",
            _cure(others[-1], words) if "=" in others else "settings are written KEY=VALUE",
        )
    return (others[0] if others else None), settings


def _option_for(word: str) -> str | None:
    """Return the option for an environment or a suite, unless the word is a path or a run as well."""
    from metta_cli.config.catalogue import environment_names, suite_names

    if _exists(word) or word in completion.runs(word):
        return None
    if word in suite_names():
        return f"--suite {word}"
    return f"--env {word}" if word in environment_names() else None


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except OSError:  # longer than a file name can be
        return False


def _cure(word: str, words: Sequence[str]) -> str:
    if "=" in words:
        return "write KEY=VALUE without blanks around the '='"
    if word.endswith((".yaml", ".yml")):
        return f"did you mean --config {word}?"
    key, separator, value = word.partition("=")
    if separator and is_setting(f"{value}=") and "/" in key:
        return f"did you mean {value}={key}?"
    return _guess(word) or "see 'metta configs list' for names, and 'metta train --print-config' for keys"


def _guess(word: str) -> str | None:
    """Return the setting that a bare name was probably meant for."""
    from metta_cli.config.catalogue import environment_names
    from metta_cli.extensions import POLICIES, plugin_names

    for key, names in (("env", environment_names()), ("policy", plugin_names(POLICIES))):
        name = _closest(word, names)
        if name is not None:
            return f"did you mean {key}={name}?"
    return None


def _closest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that a word is, or ends, or resembles."""
    candidates = list(names)
    last_parts = [name for name in candidates if name.rsplit("/", 1)[-1] == word]
    return next(iter(last_parts or difflib.get_close_matches(word, candidates, n=1)), None)
