"""Hold an installed plugin to its contract: `python -m metta_cli.testing.check GROUP NAME FILE`.

`metta plugins check` runs this in a process of its own, because a plugin may do there what it likes. The
outcome goes into FILE, as JSON: a list of records with the keys of `Outcome`.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from metta_cli.artifacts.loaders import Loader
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import AccessError, MettaError
from metta_cli.extensions import LOADERS, load_plugin
from metta_cli.policies.registry import create_policy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, PolicyContract
from metta_cli.testing.loaders import LoaderContract

OK, BROKEN, NOT_CHECKED = "ok", "broken", "not checked"
NEEDS_A_STORE = "only its author can store a checkpoint for it: run the tests of its package"


@dataclass(frozen=True)
class Outcome:
    """What came of one promise.

    Attributes:
        test: name of the test.
        promise: what the plugin promises, in one line.
        state: `ok`, `broken` or `not checked`.
        reason: why it is not ok, in one line.
    """

    test: str
    promise: str
    state: str
    reason: str | None = None


class InstalledPolicy(PolicyContract):
    """The contract of a policy that is registered under a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def make_policy(self, interface: EnvironmentInterface) -> nn.Module:
        """Return a new policy with its default arguments."""
        return create_policy(self.name, interface, {})


class InstalledLoader(LoaderContract):
    """The contract of a loader that is registered under a scheme, as far as it needs no checkpoint."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme

    def make_loader(self) -> Loader:
        """Return a new loader."""
        loader_class: Any = load_plugin(LOADERS, self.scheme)
        loader: Loader = loader_class()
        return loader

    def missing_uri(self, directory: Path) -> str:
        """Return an address below a new empty directory."""
        return f"{self.scheme}://{directory}/missing"


def check_policy(name: str) -> list[Outcome]:
    """Run every test of the policy contract; if the policy cannot even be made, only that is said."""
    contract = InstalledPolicy(name)
    made = _outcome(
        "make_policy",
        "It is made from an environment and its default arguments.",
        lambda: contract.make_policy(EXAMPLE_INTERFACE),
    )
    if made.state == BROKEN:
        return [made]
    return [made, *(_outcome(test, _promise(run), run) for test, run in _tests(contract))]


def check_loader(scheme: str) -> list[Outcome]:
    """Run what can be run of the loader contract without a checkpoint behind the scheme."""
    contract = InstalledLoader(scheme)
    made = _outcome("make_loader", "It is made without arguments and has load().", lambda: _load_of(contract))
    if made.state == BROKEN:
        return [made]
    can_run = LoaderContract.test_nothing_there_is_not_found.__name__
    outcomes = [
        Outcome(test, _promise(run), NOT_CHECKED, NEEDS_A_STORE)
        for test, run in _tests(contract)
        if test != can_run
    ]
    with tempfile.TemporaryDirectory() as directory:
        run = partial(contract.test_nothing_there_is_not_found, Path(directory))
        outcomes.append(_outcome(can_run, _promise(contract.test_nothing_there_is_not_found), run))
    return [made, *outcomes]


def _load_of(contract: InstalledLoader) -> None:
    load = contract.make_loader().load
    inspect.signature(load).bind("uri", device="cpu", data_dir="data_dir")


def _tests(contract: PolicyContract | LoaderContract) -> list[tuple[str, Callable[..., None]]]:
    base = next(base for base in (PolicyContract, LoaderContract) if isinstance(contract, base))
    return [(name, getattr(contract, name)) for name in vars(base) if name.startswith("test_")]


def _promise(run: Callable[..., None]) -> str:
    return (inspect.getdoc(run) or run.__name__).splitlines()[0]


def _outcome(test: str, promise: str, run: Callable[[], Any]) -> Outcome:
    try:
        run()
    except (Exception, SystemExit) as error:  # whatever a stranger's code does
        is_away = isinstance(error, AccessError) or type(error) is MettaError
        return Outcome(test, promise, NOT_CHECKED if is_away else BROKEN, _reason(error))
    return Outcome(test, promise, OK)


def _reason(error: BaseException) -> str:
    """Return in one line what went wrong, and where if the contract did not expect it."""
    text = error.message if isinstance(error, MettaError) else str(error)
    said = " ".join(text.split())
    last = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, AssertionError):
        return said or f"this does not hold: {str(last.line).removeprefix('assert ')}"
    if isinstance(error, MettaError):
        return said
    return f"{type(error).__name__}: {said} ({Path(last.filename).name}, line {last.lineno})"


def main(group: str, name: str, file: str) -> None:
    """Check one plugin and write the outcome to a file."""
    outcomes = check_loader(name) if group == LOADERS else check_policy(name)
    Path(file).write_text(json.dumps([asdict(outcome) for outcome in outcomes]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
