"""Documents that name things of the code name things that exist."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from metta_cli import errors

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "plugins").rglob("*.md")]
)


def test_no_tracked_file_holds_a_path_of_the_machine_it_was_written_on() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("which files are tracked is known only in a git checkout")
    # The brackets keep this line from finding itself.
    path = r"(^|[^A-Za-z0-9_.])/([w]ork|[f]arm|[r]oot|[h]ome/[a-z]|[U]sers|[t]mp/[a-z])[/A-Za-z]"
    command = ["git", "grep", "-nIE", path, "--", "."]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_link_into_the_repository_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_the_index_of_the_documents_lists_them_all() -> None:
    index = (REPOSITORY / "docs/README.md").read_text()
    pages = [path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in index] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_command_in_a_code_block_exists(document: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    known = {"make": set(targets), "metta": metta_commands()}
    unknown = []
    for block in re.findall(
        r"^```(?:bash|sh|console)?\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in block.splitlines():
            words = line.removeprefix("$ ").split("#")[0].split()
            if len(words) > 1 and words[0] in known and not re.match(r"-|[A-Z_]+=", words[1]):
                unknown += [] if words[1] in known[words[0]] else [line]
    assert unknown == []


def test_the_reference_of_the_command_line_is_what_the_commands_say() -> None:
    generate = runpy.run_path(str(REPOSITORY / "docs/generate.py"))
    assert (REPOSITORY / "docs/cli.md").read_text() == generate["reference"](), "run `make docs`"


def test_the_list_of_metrics_is_the_glossary() -> None:
    generate = runpy.run_path(str(REPOSITORY / "docs/generate.py"))
    assert (REPOSITORY / "docs/metrics.md").read_text() == generate["metrics"](), "run `make docs`"


def metta_commands() -> set[str]:
    import typer.main

    from metta_cli.cli.main import app

    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_public_modules_of_the_plugin_guide_have_the_names_that_it_lists() -> None:
    rows = re.findall(
        r"^\| `(metta_cli\.[\w.]+)` \| (.*) \|$", (REPOSITORY / "docs/plugins.md").read_text(), re.M
    )
    names = [(module, name) for module, text in rows for name in re.findall(r"`([A-Za-z]\w*)`", text)]
    assert [pair for pair in names if not hasattr(importlib.import_module(pair[0]), pair[1])] == []
    assert len(rows) >= 9


def test_the_tree_of_errors_is_drawn_as_it_is_written() -> None:
    drawn = dict(re.findall(r"(\w+Error) +(\d+)  ", errors.__doc__ or ""))
    assert {name: int(code) for name, code in drawn.items()} == error_codes()


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    text = (REPOSITORY / "docs/exit_codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \|[^|]*\| ?(.*?) ?\|$", text, re.MULTILINE)
    documented = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+Error)`", names)}
    assert documented == error_codes()
    assert {int(code) for code, _ in rows} == {0, 6, 130, 143} | set(error_codes().values())


def error_codes() -> dict[str, int]:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.MettaError)
    ]
    return {error.__name__: error.exit_code for error in classes}
