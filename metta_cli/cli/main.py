"""The command line: registers the commands, and turns what goes wrong into a message and an exit code."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from metta_cli import __version__
from metta_cli.cli import (
    cache,
    configs,
    dual_train,
    eval_external,
    evaluate,
    export,
    inspect,
    league,
    list_runs,
    plot,
    plugins,
    push,
    replay,
    train,
)
from metta_cli.cli.output import note, print_error, print_hint, write
from metta_cli.errors import MettaError, UsageError

SIGNAL_EXIT_CODES = 128  # and the number of the signal
INTERRUPTED = SIGNAL_EXIT_CODES + signal.SIGINT  # what Typer makes of Ctrl-C

# "No such command", "No such option", ... have no public class: they are siblings of Typer's public
# BadParameter, and this is their common parent.
_TyperUsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="metta",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def keep_broken_pipes(command: Callable[..., None]) -> Callable[..., None]:
    """Let Typer, which ends silently on any broken pipe, see only those of its own making.

    What `output` prints is taken care of there; any other pipe belongs to a worker process.
    """

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except BrokenPipeError as error:
            raise RuntimeError("a pipe to another process broke") from error

    return run


app.command("train", epilog=train.EPILOG)(keep_broken_pipes(train.train))
app.command("dual-train", epilog=dual_train.EPILOG)(keep_broken_pipes(dual_train.dual_train))
app.command("eval", epilog=evaluate.EPILOG)(keep_broken_pipes(evaluate.evaluate))
app.command("eval-external", epilog=eval_external.EPILOG)(keep_broken_pipes(eval_external.evaluate_external))
app.command("inspect")(keep_broken_pipes(inspect.inspect))
app.command("export", epilog=export.EPILOG)(keep_broken_pipes(export.export))
app.command("replay", epilog=replay.EPILOG)(replay.replay)
app.command("push", epilog=push.EPILOG)(keep_broken_pipes(push.push))
app.command("list-runs", epilog=list_runs.EPILOG)(keep_broken_pipes(list_runs.list_runs))
app.command("plot")(plot.plot)
app.add_typer(cache.app, name="cache")
app.add_typer(configs.app, name="configs")
app.add_typer(league.app, name="league")
app.add_typer(plugins.app, name="plugins")


def _print_version(wanted: bool) -> None:
    if wanted:
        write(f"metta {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def metta(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version.", show_default=False
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show the traceback of every error, as METTA_DEBUG=1 does.", show_default=False
        ),
    ] = False,
) -> None:
    """Train, evaluate and compare policies on MettaGrid."""
    if context.invoked_subcommand is None:
        note(context.get_help())
        raise typer.Exit(UsageError.exit_code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code.

    A mistake of the user is told in two lines; anything else is a defect of ours and keeps its traceback.

    Args:
        arguments: the words after `metta`; by default those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Taken out here, so that it may stand anywhere: one adds it behind the command that has just failed.
    debug = "--debug" in words or os.environ.get("METTA_DEBUG", "").lower() in ("1", "true", "yes", "on")
    words = [word for word in words if word != "--debug"]
    try:
        code = app(args=words, prog_name="metta", standalone_mode=False)
        if code == INTERRUPTED:
            note("\ninterrupted")
        sys.exit(code)
    except MettaError as error:
        if debug:
            note(traceback.format_exc().rstrip())
        if error.exit_code > SIGNAL_EXIT_CODES:  # stopped on request, which is no error
            note(error.message)
            print_hint(error.cure)
        else:
            print_error(error.message, error.cure)
        sys.exit(error.exit_code)
    except _TyperUsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "metta"
        print_error(error.format_message(), f"see '{command} --help'")
        sys.exit(UsageError.exit_code)
