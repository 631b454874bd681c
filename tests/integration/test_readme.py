"""The README's commands and its program run, as they stand there, in an empty directory."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
PATIENCE_SECONDS = 400


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(arguments, directory):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def test_the_commands_run_one_after_the_other(tmp_path):
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("metta ")]
    assert len(lines) > 5
    for line in lines:
        run(["-m", "metta_cli", *shlex.split(line, comments=True)[1:]], tmp_path)
    assert (tmp_path / "scores.json").stat().st_size > 0
    assert (tmp_path / "train_dir" / "first" / "learning_curve.png").stat().st_size > 0
    assert (tmp_path / "my_demo.yaml").is_file()


def test_the_program_runs(tmp_path):
    (program,) = blocks("python")
    lines = run(["-c", program], tmp_path).splitlines()
    assert [int(line.split()[0]) for line in lines] == [2048, 4096, 6144, 8192]


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"^[A-Z ]{5,}$", README, re.MULTILINE)
    assert "TODO" not in README
