"""What is installed is what the checkout has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import metta_cli

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SOURCES = {
    "metta_cli": REPOSITORY / "metta_cli",
    "metta_cli/configs": REPOSITORY / "configs",
    "metta_plugins": REPOSITORY / "plugins/metta_plugins",
}


def test_the_package_list_is_what_is_on_disk() -> None:
    on_disk = {
        "/".join((name, *path.parent.relative_to(folder).parts)).replace("/", ".")
        for name, folder in SOURCES.items()
        for path in folder.rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for folder in SOURCES.values() for path in folder.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_wheel_holds_every_module_and_every_config_and_nothing_else(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", "metta_cli", "plugins", "configs", "tests"):
        source, target = REPOSITORY / name, tmp_path / "source" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
            )
        else:
            shutil.copy(source, target)
    build = [
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "build_py",
        "--build-lib",
        "built",
    ]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True)

    built = tmp_path / "source/built"
    in_wheel = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    shipped = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in SOURCES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_wheel == shipped
    assert any(name.endswith(".yaml") for name in shipped)


def test_the_version_is_the_newest_of_the_changelog() -> None:
    newest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == metta_cli.__version__ == PROJECT["project"]["version"]


def declared_requirements() -> list[Requirement]:
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for requirements in lists for line in requirements]


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_the_tested_version_of_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_the_architecture_document_says_why_of_every_dependency_and_of_no_other() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text()
    section = text.split("\n## Dependencies\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([\w.-]+)`", section, re.MULTILINE))
    assert documented == {requirement.name for requirement in declared_requirements()}
