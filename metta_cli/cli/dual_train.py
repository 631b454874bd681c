"""`metta dual-train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import (
    AllowPickleOption,
    AssignmentOption,
    ConfigOption,
    DataDirectoryOption,
    DeviceOption,
    EnvironmentOption,
    FormatOption,
    NumWorkersOption,
    OutputOption,
    PolicyOption,
    PolicyShareOption,
    PrintConfigOption,
    ProgressOption,
    ResumeOption,
    RunOption,
    SeedOption,
    SettingsArgument,
    Sha256Option,
    TotalTimestepsOption,
)
from metta_cli.cli.process import prepare_process, resolve
from metta_cli.cli.resolved import emit_config
from metta_cli.cli.train import emit_result, training_options
from metta_cli.cli.words import split_uri
from metta_cli.errors import UsageError

if TYPE_CHECKING:
    from metta_cli.config.dual_policy import DualPolicyConfig

SECTION = "trainer.dual_policy"
EPILOG = """\b
Examples:
  metta dual-train train_dir/first env=laser_tag run=second
  metta dual-train random env=laser_tag_small --assignment team --total-timesteps 1_000_000
  metta dual-train wandb://metta-research/metta/model/RUN:latest --num-workers 8
  metta dual-train train_dir/first user=dual_policy_checkpoint_local_example
"""


NpcArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NPC_URI",
        help="The opponent: a run, a checkpoint, random, noop, scripted, roomba or grid_search.",
        autocompletion=completion.uri_or_settings,
        show_default=False,
    ),
]


def dual_train(
    npc_uri: NpcArgument = None,
    words: SettingsArgument = None,
    config: ConfigOption = None,
    run: RunOption = None,
    env: EnvironmentOption = None,
    policy: PolicyOption = None,
    policy_agents_pct: PolicyShareOption = None,
    assignment: AssignmentOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    total_timesteps: TotalTimestepsOption = None,
    num_workers: NumWorkersOption = None,
    data_dir: DataDirectoryOption = None,
    resume: ResumeOption = True,
    allow_pickle: AllowPickleOption = False,
    sha256: Sha256Option = None,
    progress: ProgressOption = "auto",
    print_config: PrintConfigOption = False,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Train a policy against an opponent that does not learn.

    NPC_URI sets trainer.dual_policy.checkpoint_npc.checkpoint_path; without it a file or a setting has to
    say who the opponent is. `metta train` with the same settings does the same.
    """
    prepare_process()
    uri, settings = split_uri([*([npc_uri] if npc_uri is not None else []), *(words or [])])
    options = training_options(run, env, policy, seed, device, total_timesteps, num_workers, data_dir) | {
        f"{SECTION}.enabled": True,
        f"{SECTION}.policy_a_percentage": policy_agents_pct,
        f"{SECTION}.assignment": assignment,
        f"{SECTION}.npc_type": None if uri is None else "checkpoint",
        f"{SECTION}.checkpoint_npc.checkpoint_path": uri,
    }
    resolved = resolve(config or [], settings, options)
    require_opponent(resolved.config.trainer.dual_policy, resolved.is_chosen(f"{SECTION}.npc_type"))
    if print_config:
        emit_config(resolved, format_name, output)
        return
    from metta_cli.cli.progress import create_progress
    from metta_cli.runs.policies import Trust
    from metta_cli.runs.train import train as run_training

    result = run_training(
        resolved,
        resume=resume,
        progress=create_progress(progress),
        npc_trust=Trust(allow_pickle, sha256),
    )
    if result is not None:
        emit_result(result, format_name, output)


def require_opponent(config: DualPolicyConfig, kind_is_chosen: bool) -> None:
    """Refuse to guess an opponent.

    Raises:
        UsageError: neither the command nor a file says who it is.
    """
    is_named = config.opponents or config.npc_uri is not None or config.mode != "single"
    if not (is_named or kind_is_chosen):
        raise UsageError(
            "nothing says who the opponent is",
            "metta dual-train train_dir/RUN, or metta dual-train random, or set "
            f"{SECTION}.checkpoint_npc.checkpoint_path=...",
        )
