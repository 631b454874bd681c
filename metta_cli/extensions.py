"""Find and load plugins: what distributions register under our entry-point groups.

Names are read from the metadata of installed distributions, so listing imports no plugin; a plugin is
imported when it is asked for by name, and only that one. The built-in plugins come through the same
door. What a policy or a loader must be able to do is not known here: see the packages that use them.

`METTA_LOAD_PLUGINS=a,b` names the distributions whose plugins are seen beside the built-in ones; empty
means none of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from metta_cli.errors import PluginError, UnknownNameError

POLICIES = "metta_cli.policies"
"""Entry-point group of policy architectures: name -> class."""
LOADERS = "metta_cli.loaders"
"""Entry-point group of checkpoint loaders: URI scheme -> class."""

KINDS = {POLICIES: "policy", LOADERS: "loader"}
"""Every group, and what a person calls one of its members."""
BUILT_IN_DISTRIBUTION = "metta-cli"
"""The distribution whose plugins `METTA_LOAD_PLUGINS` never hides."""
SELECTION_VARIABLE = "METTA_LOAD_PLUGINS"

_TARGET = re.compile(r"[\w.]+\s*:\s*[\w.]+\s*(\[.*\])?")


@dataclass(frozen=True)
class PluginInfo:
    """What is known of a plugin without importing it.

    Args:
        name: the name it is asked for by, such as `fast` or `s3`.
        group: `POLICIES` or `LOADERS`.
        distribution: the installed distribution that registers it.
        version: version of that distribution.
        target: `module:attribute`, as written in the entry point.
    """

    name: str
    group: str
    distribution: str
    version: str
    target: str

    def __str__(self) -> str:
        """Return the plugin as error messages name it."""
        return f"{KINDS[self.group]} '{self.name}' of {self.distribution} {self.version}"


def list_plugins(group: str) -> list[PluginInfo]:
    """Return the plugins of `group`, ordered by name, without importing any.

    A name that several distributions claim appears once for each: see `conflict`.

    Raises:
        UnknownNameError: `METTA_LOAD_PLUGINS` names a distribution that has no plugin.
    """
    installed = _installed()
    selected = _selected_distributions(installed)
    return [
        info
        for info in installed
        if info.group == group and (selected is None or _normalized(info.distribution) in selected)
    ]


def plugin_names(group: str) -> list[str]:
    """Return the names in `group`, each once, in order, without importing any plugin."""
    return sorted({info.name for info in list_plugins(group)})


def load_plugin(group: str, name: str) -> object:
    """Import the plugin `name` and return what its entry point names.

    What the plugin prints while it is imported goes to stderr: stdout belongs to data.

    Raises:
        UnknownNameError: no visible distribution registers `name` in `group`.
        PluginError: two distributions register it, or importing it fails for any reason.
    """
    known = list_plugins(group)
    found = [info for info in known if info.name == name]
    if not found:
        raise UnknownNameError(KINDS[group], name, {info.name for info in known}, cure=_hidden(group, name))
    clash = conflict(found[0])
    if clash is not None:
        raise PluginError(clash, f"uninstall one of them, or leave it out of {SELECTION_VARIABLE}")
    try:
        return _import(found[0])
    except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
        distribution = found[0].distribution
        raise PluginError(
            f"{found[0]} cannot be loaded: {_reason(error)}",
            f"reinstall it (pip install --force-reinstall {distribution}) or remove it"
            f" (pip uninstall {distribution})",
        ) from error


def conflict(info: PluginInfo) -> str | None:
    """Return why `info.name` is ambiguous, naming every distribution that claims it, or None."""
    claims = [other for other in list_plugins(info.group) if other.name == info.name]
    if len(claims) < 2:
        return None
    claimants = " and ".join(f"{claim.distribution} {claim.version} ({claim.target})" for claim in claims)
    return f"{KINDS[info.group]} '{info.name}' is registered by {claimants}"


def check_plugin(info: PluginInfo) -> str | None:
    """Import one plugin and return the reason why it cannot be used, or None if it can."""
    clash = conflict(info)
    if clash is not None:
        return clash
    try:
        _import(info)
    except (Exception, SystemExit) as error:  # as in `load_plugin`
        return _reason(error)
    return None


def _import(info: PluginInfo) -> object:
    if not _TARGET.fullmatch(info.target):
        raise ValueError(f"'{info.target}' is not of the form module:attribute")
    with _stdout_to_stderr():
        return metadata.EntryPoint(name=info.name, value=info.target, group=info.group).load()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _installed() -> list[PluginInfo]:
    """Return every plugin on `sys.path`; of a distribution found twice, the first one found counts."""
    found = []
    for group in KINDS:
        for entry_point in metadata.entry_points(group=group):
            distribution = _metadata_field(entry_point, "Name")
            version = _metadata_field(entry_point, "Version")
            found.append(PluginInfo(entry_point.name, group, distribution, version, entry_point.value))
    return sorted(found, key=lambda info: (info.name, info.distribution))


def _metadata_field(entry_point: metadata.EntryPoint, field: str) -> str:
    """Return a field of the distribution's metadata, which a half-removed one may lack."""
    distribution = entry_point.dist
    if distribution is None or field not in distribution.metadata:
        return f"(no {field.lower()})"
    return distribution.metadata[field]


def _selected_distributions(installed: list[PluginInfo]) -> set[str] | None:
    """Return the normalized distribution names that may be used, or None for all."""
    text = os.environ.get(SELECTION_VARIABLE)
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {_normalized(info.distribution): info.distribution for info in installed}
    for name in names:
        if _normalized(name) not in known:
            raise UnknownNameError(f"distribution in {SELECTION_VARIABLE}:", name, known.values())
    return {_normalized(name) for name in [*names, BUILT_IN_DISTRIBUTION]}


def _normalized(distribution: str) -> str:
    """Return the name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _hidden(group: str, name: str) -> str | None:
    """Return the cure where the plugin is installed and `METTA_LOAD_PLUGINS` hides it."""
    for info in _installed():
        if info.group == group and info.name == name:
            return f"{SELECTION_VARIABLE} hides it: add '{info.distribution}' to that variable"
    return None


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what is written to stdout, by Python code and by the processes it starts (file 1)."""
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started us: nothing to protect
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
