"""What an import does: nothing heavy for the quick commands, nothing at all to the process."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY_LIBRARIES = {"torch", "mettagrid", "tensordict", "pufferlib", "wandb", "s3fs", "boto3", "matplotlib"}
FOLDERS = {"metta_cli": REPOSITORY / "metta_cli", "metta_plugins": REPOSITORY / "plugins/metta_plugins"}
MODULES = sorted(
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
    for package, folder in FOLDERS.items()
    for path in folder.rglob("*.py")
    if path.stem != "__main__"
)


@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "train --help", "eval --help", "configs list", "configs show navigation/simple",
     "plugins list", "plugins new fresh --kind policy", "eval-external --help", "inspect --help",
     "export --help"],
)  # fmt: skip
def test_a_quick_command_imports_no_heavy_library(words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "metta_cli", *words.split()]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    imported = set(re.findall(r"^import time: .*\| +([\w.]+)$", result.stderr, re.MULTILINE))
    said = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert result.returncode == 0, said
    assert "metta_cli.cli.main" in imported
    assert {name.split(".")[0] for name in imported} & HEAVY_LIBRARIES == set()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported_and_has_the_names_that_it_promises(module: str) -> None:
    loaded = importlib.import_module(module)
    missing = [name for name in getattr(loaded, "__all__", ()) if not hasattr(loaded, name)]
    assert missing == []


def test_importing_everything_leaves_the_process_as_it_was() -> None:
    code = f"""
import importlib, logging, os, signal, warnings
import mettagrid, mettagrid.policy.policy, pufferlib, tensordict, torch, matplotlib  # theirs
def state():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)]
    globals_of_others = (list(warnings.filters), list(logging.root.handlers), torch.get_num_threads())
    return signals, dict(os.environ), *globals_of_others
before = state()
for name in {MODULES!r}:
    importlib.import_module(name)
for was, now in zip(before, state(), strict=True):
    assert was == now, (was, now)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
