"""Make the deliberate mistakes of `mistakes.py` one by one; each must turn a test red (`make mutants`).

A mistake goes into a fresh copy of the package, where its witnesses then run. Names on the command line
restrict the run to files whose path contains one of them: `python tests/golden/mutations.py losses`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mistakes import MUTATIONS, WITNESSES, Mutation

ROOT = Path(__file__).parent.parent.parent
NUM_WORKERS = 2
PYTEST_TESTS_FAILED = 1


def copy_package(destination: Path, mutation: Mutation | None) -> Path:
    """Copy what the tests need into a folder, with or without a mistake, and return the folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("metta_cli", "tests"):
        shutil.copytree(ROOT / name, destination / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", destination)
    if mutation is not None:
        (destination / "metta_cli" / mutation.file).write_text(mutation.mutated(ROOT))
    return destination


def run_python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy of the package; the copy hides the installed package."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def run_tests(root: Path, files: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run the witnesses of some files in a copy of the package."""
    tests = dict.fromkeys(path for file in files for path in WITNESSES[file].split())
    return run_python(root, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)


def unnoticed(mutation: Mutation) -> str | None:
    """Make one mistake; return None if a test fails because of it, else what happened instead."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_tests(copy_package(Path(folder), mutation), [mutation.file])
    if result.returncode == PYTEST_TESTS_FAILED:
        return None
    if result.returncode == 0:
        return f"every test of {WITNESSES[mutation.file]} passed"
    return f"the tests did not run:\n{result.stdout[-1000:]}{result.stderr[-1000:]}"


def check_copy(mutations: list[Mutation]) -> str | None:
    """Return why the results would mean nothing: tests that fail anyway, or that see another package."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy_package(Path(folder).resolve(), None)
        location = run_python(root, "-c", "import metta_cli; print(metta_cli.__file__)").stdout.strip()
        if not Path(location).is_relative_to(root):
            return f"the tests would see {location} and not the copy in {root}"
        result = run_tests(root, [mutation.file for mutation in mutations])
        return result.stdout[-3000:] + result.stderr[-1000:] if result.returncode != 0 else None


def main(names: list[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not names or any(name in mutation.file for name in names)]
    if not chosen:
        print(f"error: no mistake is listed for {' '.join(names)}", file=sys.stderr)
        return 2
    if problem := check_copy(chosen):
        print(f"error: without any mistake the tests fail:\n{problem}", file=sys.stderr)
        return 1
    num_unnoticed = 0
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        for mutation, problem in zip(chosen, pool.map(unnoticed, chosen), strict=True):
            num_unnoticed += problem is not None
            print(
                f"{'noticed' if problem is None else 'UNNOTICED'}: {mutation.file}: {mutation.mistake}",
                flush=True,
            )
            if problem is not None:
                print(f"    {problem}", flush=True)
    print(f"{len(chosen) - num_unnoticed} of {len(chosen)} mistakes noticed")
    return 1 if num_unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
