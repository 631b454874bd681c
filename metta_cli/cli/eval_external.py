"""`metta eval-external`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metta_cli.cli import completion
from metta_cli.cli.evaluate import play_and_print
from metta_cli.cli.options import (
    AllowPickleOption,
    BaselinesOption,
    DeviceOption,
    FormatOption,
    OutputOption,
    ProgressOption,
    PytorchConfigOption,
    ResultsDirectoryOption,
    SaveReplaysOption,
    SeedOption,
    Sha256Option,
    WorkersOption,
    read_architecture,
)
from metta_cli.cli.process import prepare_process, resolve

EPILOG = """\b
Examples:
  metta eval-external --policy-path metta.pt --suite laser_tag --save-replays
  metta eval-external --policy-path metta.pt --suite full_eval --num-episodes 50 --workers 2
  metta eval-external --policy-path mine.pt --pytorch-config mine.yaml --format json -o scores.json
"""


PolicyPathOption = Annotated[
    str, typer.Option(metavar="PATH", help="File of weights that another tool wrote, or any URI.")
]
SuiteOption = Annotated[
    str,
    typer.Option(
        "--suite",
        "--simulation-suite",
        metavar="NAME",
        help="Suite to play: navigation_single, laser_tag, full_eval, or another.",
        autocompletion=completion.suites,
    ),
]
RunNameOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Folder of the results; by default eval_PATH_SUITE.", show_default=False
    ),
]


def evaluate_external(
    policy_path: PolicyPathOption,
    suite: SuiteOption = "navigation_single",
    num_episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Episodes per simulation.")] = 10,
    pytorch_config: PytorchConfigOption = None,
    allow_pickle: AllowPickleOption = False,
    sha256: Sha256Option = None,
    run_name: RunNameOption = None,
    output_dir: ResultsDirectoryOption = Path("eval_results"),
    save_replays: SaveReplaysOption = False,
    baselines: BaselinesOption = True,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    progress: ProgressOption = "auto",
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Evaluate a policy that was trained elsewhere.

    Its architecture is recognised from the weights, or described by --pytorch-config. What it plays, how
    it is scored and what is written is as in metta eval.
    """
    prepare_process()
    options: dict[str, Any] = {
        "policy_uri": policy_path,
        "sim.suite": suite,
        "sim.episodes": num_episodes,
        "sim.num_workers": workers,
        "seed": seed,
        "device": device,
        "pytorch": read_architecture(pytorch_config),
    }
    resolved = resolve([], [], options)
    play_and_print(
        resolved,
        uri=policy_path,
        suite=suite,
        episodes=num_episodes,
        num_workers=workers,
        output_dir=output_dir,
        run_name=run_name,
        save_replays=save_replays,
        baselines=baselines,
        trust=(allow_pickle, sha256),
        progress=progress,
        format_name=format_name,
        output=output,
    )
