"""`metta push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import DataDirectoryOption
from metta_cli.cli.output import write
from metta_cli.cli.process import prepare_process

EPILOG = "Example: metta push s3://my-bucket/runs walker && metta eval s3://my-bucket/runs/walker"


def push(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="Where to: s3://BUCKET/FOLDER, wandb://ENTITY/PROJECT[/NAME] or wandb://run/NAME.",
            show_default=False,
        ),
    ],
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run (its newest checkpoint), RUN:vN, or the path of a checkpoint or a file of weights.",
            autocompletion=completion.runs_and_directories,
            show_default=False,
        ),
    ],
    data_dir: DataDirectoryOption = None,
) -> None:
    """Upload a checkpoint to S3 or W&B, see that it arrived whole, and print its address there."""
    prepare_process()
    from metta_cli.config.settings import read_settings
    from metta_cli.runs.push import push as push_checkpoint

    write(push_checkpoint(uri, run, data_dir=Path(data_dir or read_settings().data_dir)))
