"""What the shell offers behind Tab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY_LIBRARIES = {"torch", "mettagrid", "tensordict", "pufferlib", "wandb", "matplotlib", "numpy"}


def complete(line, shell="zsh"):
    """Return what Typer's completion of a shell offers at the end of a command line, one per line."""
    words = line.split(" ")
    environment = {"_METTA_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line, "COMP_WORDS": line}
    environment["COMP_CWORD"] = str(len(words) - 1)
    code = "import sys; from metta_cli.cli.main import main\ntry: main()\nfinally: print('|', *sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    offered, _, modules = result.stdout.rpartition("| ")
    assert not HEAVY_LIBRARIES & {name.split(".")[0] for name in modules.split()}
    return offered


def bash(*words):
    return complete(" ".join(words), "bash").split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("metta tr", {"train"}),
        ("metta configs sh", {"show"}),
        ("metta train --env laser", {"laser_tag", "laser_tag_small"}),
        ("metta train --policy fa", {"fast"}),
        ("metta eval random --suite navigation_", {"navigation_rooms", "navigation_single"}),
        ("metta eval --format ", {"table", "json", "yaml", "csv"}),
        ("metta train --progress p", {"plain"}),
        ("metta eval ran", {"random"}),
        ("metta train trainer.total_t", {"trainer.total_timesteps="}),
        ("metta train hard", {"hardware="}),
        ("metta train hardware=local", {"hardware=local_debug"}),
        ("metta eval random sim.suite=full", {"sim.suite=full_eval"}),
        ("metta eval random trainer.batch_", {"trainer.batch_size="}),
        ("metta train env=navigation/s", {"env=navigation/simple"}),
        ("metta configs show env/navigation/s", {"env/navigation/simple"}),
        ("metta configs list sui", {"suite"}),
    ],
)
def test_names_are_offered(line, offered):
    if "=" in line.split()[-1]:
        assert offered == {text for text in offered if f'"{text}"' in complete(line)}
    else:
        assert set(bash(*line.split(" "))) == offered


def test_a_part_of_the_configuration_that_a_name_stands_for_is_a_key():
    assert {"env=", "env.builder="} <= set(bash("metta", "train", "en"))


def test_bash_takes_the_equals_sign_for_a_word_and_gets_bare_values():
    assert bash("metta", "train", "env", "=", "navigation/s") == ["navigation/simple"]
    assert "laser_tag" in bash("metta", "train", "env", "=")
    assert bash("metta", "train", "seed", "=", "x") == []


def test_runs_are_offered_by_name_and_as_what_to_evaluate(monkeypatch):
    Path("elsewhere/first/checkpoints").mkdir(parents=True)
    Path("elsewhere/no_run").mkdir()
    monkeypatch.setenv("METTA_DATA_DIR", "elsewhere")
    assert bash("metta", "train", "--run", "") == ["first"]
    assert bash("metta", "eval", "else") == ["elsewhere/first"]
    assert bash("metta", "plot", "fi") == ["first"]


def test_a_plugin_that_would_crash_is_offered_like_any_other(install_policy, tmp_path, monkeypatch):
    install_policy("bad-dist", "fatal", "import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    assert bash("metta", "train", "--policy", "fat") == ["fatal"]


def test_a_wrong_selection_of_plugins_offers_nothing(monkeypatch):
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "nonsense")
    assert bash("metta", "train", "--policy", "f") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_every_shell_is_shown(metta, monkeypatch, shell):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    environment = {**os.environ, "SHELL": f"/bin/{shell}"}
    result = subprocess.run(
        [sys.executable, "-m", "metta_cli", "--show-completion", shell],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert "_METTA_COMPLETE" in result.stdout
