"""What goes wrong, as a person and as a script see it."""

import os
import subprocess
import sys

import pytest

from metta_cli import __version__, errors
from metta_cli.cli import main as main_module
from metta_cli.runs.signals import Interrupted


@pytest.fixture
def failing(monkeypatch):
    """Add a command that raises what it is given."""
    app, raised = main_module.app, []

    def fail() -> None:
        raise raised[0]

    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    app.command("fail")(main_module.keep_broken_pipes(fail))
    return raised


def all_errors():
    found = [errors.MettaError]
    for error in found:
        found += error.__subclasses__()
    return [error for error in dict.fromkeys(found) if error.__module__ == errors.__name__]


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_an_error_is_two_lines_on_stderr_and_its_exit_code(metta, failing, error):
    arguments = ("thing", "x", ["y"], "do it") if error is errors.UnknownNameError else ("it broke", "do it")
    failing.append(error(*arguments))
    outcome = metta("fail")
    assert outcome.code == error.exit_code
    assert outcome.err == f"error: {failing[0].message}\nhint: do it\n"
    assert outcome.out == ""


def test_an_error_without_a_cure_is_one_line(metta, failing):
    failing.append(errors.MettaError("it broke"))
    assert metta("fail").err == "error: it broke\n"


@pytest.mark.parametrize("words", [("--debug", "fail"), ("fail", "--debug")])
def test_debug_adds_the_traceback_wherever_it_stands(metta, failing, words):
    failing.append(errors.MettaError("it broke", "do it"))
    lines = metta(*words).err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["error: it broke", "hint: do it"]


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_debug_variable_does_what_the_option_does(metta, failing, monkeypatch, value, is_on):
    failing.append(errors.MettaError("it broke"))
    monkeypatch.setenv("METTA_DEBUG", value)
    assert ("Traceback" in metta("fail").err) is is_on


def test_a_defect_keeps_its_traceback(failing):
    failing.append(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main_module.main(["fail"])


def test_a_defect_ends_with_1_and_a_plain_traceback():
    code = """
from metta_cli.cli import main
@main.app.command("fail")
def fail() -> None:
    raise ZeroDivisionError("ours")
main.main(["fail"])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith("ZeroDivisionError: ours\n")


def test_ctrl_c_ends_with_130_and_no_traceback(metta, failing):
    failing.append(KeyboardInterrupt())
    outcome = metta("fail")
    assert outcome.code == 130
    assert outcome.err == "\ninterrupted\n"


@pytest.mark.parametrize(("number", "name"), [(2, "SIGINT"), (15, "SIGTERM")])
def test_a_run_that_was_stopped_is_no_error_and_ends_as_shells_expect(metta, failing, number, name):
    failing.append(Interrupted(number, "metta train run=x"))
    outcome = metta("fail")
    assert outcome.code == 128 + number
    assert outcome.err == f"stopped by {name}\nhint: metta train run=x\n"


def test_a_broken_pipe_to_a_worker_is_not_taken_for_a_closed_stdout(failing):
    failing.append(BrokenPipeError(32, "Broken pipe"))
    with pytest.raises(RuntimeError, match="a pipe to another process broke"):
        main_module.main(["fail"])


def test_the_reader_of_the_output_may_leave_at_any_time(metta_process):
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "metta_cli", "configs", "list"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (0, b"")


def test_version(metta):
    assert metta("--version").out == f"metta {__version__}\n"


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", ["", "train", "eval", "plot", "configs", "configs copy", "plugins list"])
def test_help_goes_to_stdout_with_0(metta, command, option):
    outcome = metta(*command.split(), option)
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: {' '.join(['metta', *command.split()])} ")
    assert outcome.err == ""


def test_no_command_is_a_mistake_and_gets_the_help(metta):
    outcome = metta()
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: metta ")
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("trian", "'trian'. Did you mean 'train'", "see 'metta --help'"),
        ("configs lst", "'lst'. Did you mean 'list'", "see 'metta configs --help'"),
        ("plugins", "Missing command", "see 'metta plugins --help'"),
        ("train --sed 3", "--seed", "see 'metta train --help'"),
        ("train --seed x", "Invalid value for '--seed'", "see 'metta train --help'"),
        ("train --seed -1", "Invalid value for '--seed'", "see 'metta train --help'"),
        ("plugins list --format jsn", "unknown format 'jsn'", "did you mean 'json'?"),
        ("eval random --progress plan", "unknown progress display 'plan'", "did you mean 'plain'?"),
        ("configs list evn", "unknown group 'evn'", "did you mean 'env'?"),
        ("plot", "Missing argument 'RUN'", "see 'metta plot --help'"),
    ],
)
def test_a_wrong_command_is_told_with_what_is_right(metta, words, message, hint):
    outcome = metta(*words.split())
    assert outcome.code == 2
    assert outcome.out == ""
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second == f"hint: {hint}"


@pytest.mark.parametrize(
    ("environment", "has_colour"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False),
    ],
)
def test_escape_codes_appear_only_where_they_are_wanted(metta_process, environment, has_colour):
    outcome = metta_process("plugins", "list", "--format", "jsn", **environment)
    assert ("\033[" in outcome.err) is has_colour
    assert "\033" not in metta_process("configs", "list", "env", **environment).out


def test_help_in_a_pipe_has_no_escape_codes(metta_process):
    assert "\033" not in metta_process("train", "--help").out
