"""The code keeps to the layers, and `docs/architecture.md` draws the same ones."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# From the top down. A room imports only from lower lines; rooms on one line do not know each other.
LAYERS = (
    {"cli", "api", "testing"},
    {"runs"},
    {"training", "evaluation"},
    {"populations"},
    {"environments", "policies", "artifacts", "tracking"},
    {"algorithms", "config", "extensions"},
    {"errors"},
)
HEIGHTS = {room: -line for line, rooms in enumerate(LAYERS) for room in rooms}

# Libraries that a room does not import at all, not even inside a function.
TENSOR_LIBRARIES = {"torch", "tensordict", "pufferlib"}
HEAVY_LIBRARIES = TENSOR_LIBRARIES | {"mettagrid", "gymnasium", "wandb", "boto3", "matplotlib"}
FOREIGN_LIBRARIES = {
    "errors": HEAVY_LIBRARIES,
    "extensions": HEAVY_LIBRARIES,
    "config": HEAVY_LIBRARIES,
    "algorithms": HEAVY_LIBRARIES - {"torch"} | {"typer", "rich", "pydantic", "yaml"},
    "environments": TENSOR_LIBRARIES,
}


def test_imports_of_the_core_run_downward() -> None:
    assert wrong_core_imports(REPOSITORY / "metta_cli") == []


def test_plugins_import_only_what_the_plugin_guide_documents() -> None:
    assert wrong_plugin_imports(REPOSITORY / "plugins/metta_plugins", documented_public_modules()) == []


def test_every_room_has_its_place_in_the_layers() -> None:
    entries = (REPOSITORY / "metta_cli").iterdir()
    rooms = {path.stem for path in entries if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} == set(HEIGHTS)


def test_the_picture_in_the_architecture_document_is_the_table_of_this_test() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text()
    picture = re.search(r"^## Layers\n.*?^```\n(.*?)^(?:- )+-?$", text, re.MULTILINE | re.DOTALL)
    assert picture, "docs/architecture.md has no picture under '## Layers' that ends in a dashed line"
    lines = [line.split("#")[0] for line in picture[1].splitlines() if line.strip()]
    assert [{room.strip() for room in line.split("|")} for line in lines] == list(LAYERS)


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("training/trainer.py", "from metta_cli.runs.directory import RunDirectory"),
        ("training/trainer.py", "def late():\n    import metta_cli.runs"),
        ("training/trainer.py", "from metta_cli import evaluation"),
        ("training/trainer.py", "from ..runs import directory"),
        ("training/trainer.py", "import importlib\nimportlib.import_module('metta_cli.cli.main')"),
        ("policies/registry.py", "from metta_plugins.policies.fast import Fast"),
        ("algorithms/losses.py", "import pydantic"),
        ("environments/vector.py", "def late():\n    from torch import nn"),
        ("errors.py", "from metta_cli.config import section"),
        ("__init__.py", "from metta_cli.errors import MettaError"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, importer: str, statement: str) -> None:
    path = tmp_path / "metta_cli" / importer
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(statement)
    assert len(wrong_core_imports(tmp_path / "metta_cli")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "from metta_cli.policies import registry",
        "from metta_cli.policies.registry import create_policy",
        "import metta_cli.runs.train",
        "from metta_plugins.loaders.file import FileLoader",
    ],
)
def test_a_wrong_import_of_a_plugin_is_found(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "metta_plugins/policies/fast.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"from metta_cli.policies import contract\nfrom metta_cli.errors import MettaError\n{statement}"
    )
    public = {"metta_cli.policies.contract", "metta_cli.errors"}
    assert len(wrong_plugin_imports(tmp_path / "metta_plugins", public)) == 1


def documented_public_modules() -> set[str]:
    text = (REPOSITORY / "docs/plugins.md").read_text()
    section = text.split("\n## What a plugin may import\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(metta_cli\.[\w.]+)`", section, re.MULTILINE))


def wrong_core_imports(package: Path) -> list[str]:
    wrong = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        for line, name in imported_names(path, package.parent):
            target = name.split(".")
            if target[0] == "metta_plugins":
                reason = "the core does not know the plugins"
            elif target[0] in FOREIGN_LIBRARIES.get(room, ()):
                reason = f"{room} does without {target[0]}"
            elif target[0] == "metta_cli" and not may_import(room, target[1] if len(target) > 1 else ""):
                reason = f"{room} may import only from the lines below it"
            else:
                continue
            wrong.append(f"{path.relative_to(package.parent)}:{line} imports {name}: {reason}")
    return wrong


def may_import(room: str, target: str) -> bool:
    if target not in HEIGHTS:  # a name of the root package itself, such as __version__
        return True
    if room == "__main__":
        return target == "cli"
    if room == "__init__":  # importing the package imports nothing
        return False
    return room == target or HEIGHTS[room] > HEIGHTS[target]


def wrong_plugin_imports(package: Path, public: set[str]) -> list[str]:
    wrong = []
    for path in sorted(package.rglob("*.py")):
        kind = path.relative_to(package).with_suffix("").parts[0]
        for line, name in imported_names(path, package.parent):
            is_core = name.split(".")[0] == "metta_cli"
            is_public = any(f"{name}.".startswith(f"{module}.") for module in public)
            is_foreign_plugin = name.startswith("metta_plugins.") and name.split(".")[1] != kind
            if (is_core and not is_public) or is_foreign_plugin:
                wrong.append(f"{path.relative_to(package.parent)}:{line} imports {name}")
    return wrong


def imported_names(path: Path, source_root: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of every import, at whatever depth it stands."""
    package = path.relative_to(source_root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            is_import = ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            yield from [(node.lineno, str(node.args[0].value))] if is_import else []
