"""`metta export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import (
    AllowPickleOption,
    EnvironmentOption,
    PytorchConfigOption,
    Sha256Option,
    choice,
    read_architecture,
)
from metta_cli.cli.output import note
from metta_cli.cli.process import prepare_process, resolve

FORMS = ("state-dict", "safetensors", "torchscript", "mettagrid")
EPILOG = """\b
Examples:
  metta export train_dir/first --to safetensors -o first.safetensors
  metta export train_dir/first:v20 --to mettagrid -o bundle   a directory that MettaGrid itself plays
  metta export metta.pt --to torchscript -o metta.ts --env laser_tag
"""


def export(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="A run, a checkpoint, or a file of weights.",
            autocompletion=completion.uri_or_settings,
        ),
    ],
    form: Annotated[str, typer.Option("--to", **choice("form", FORMS), help="What to write.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="Where to; a bundle is a directory.")
    ],
    env: EnvironmentOption = None,
    pytorch_config: PytorchConfigOption = None,
    allow_pickle: AllowPickleOption = False,
    sha256: Sha256Option = None,
) -> None:
    """Write a policy for another program, and check it by reading it back and comparing logits.

    state-dict and safetensors hold the tensors under the names of the architecture; torchscript is the
    policy as it acts for all agents of one environment; mettagrid is a bundle for MettaGrid's own runners.
    """
    prepare_process()
    options = {"policy_uri": uri, "pytorch": read_architecture(pytorch_config), "env": env}
    config = resolve([], [], options).config
    from metta_cli.runs.export import export_policy
    from metta_cli.runs.policies import Trust

    exported = export_policy(
        uri,
        form,
        output,
        data_dir=Path(config.data_dir),
        environment=config.env,
        architecture=config.pytorch,
        trust=Trust(allow_pickle, sha256),
    )
    note(
        f"wrote {exported.path}; read back, its log-probabilities in {exported.environment} differ by at"
        f" most {exported.largest_difference:.1e}"
    )
