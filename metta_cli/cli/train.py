"""`metta train`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from metta_cli.cli.options import (
    ConfigOption,
    DataDirectoryOption,
    DeviceOption,
    EnvironmentOption,
    FormatOption,
    NumWorkersOption,
    OutputOption,
    PolicyOption,
    PrintConfigOption,
    ProgressOption,
    ResumeOption,
    RunOption,
    SeedOption,
    SettingsArgument,
    TotalTimestepsOption,
)
from metta_cli.cli.output import emit
from metta_cli.cli.process import prepare_process, resolve
from metta_cli.cli.resolved import emit_config
from metta_cli.cli.words import require_settings
from metta_cli.config.catalogue import find_environment
from metta_cli.errors import UnknownNameError

if TYPE_CHECKING:
    from metta_cli.runs.session import TrainResult

EPILOG = """\b
Examples:
  metta train --config demo
  metta train env=navigation/simple run=first trainer.total_timesteps=1_000_000
  metta train run=first                        goes on where it stopped
  metta train env=laser_tag --print-config     every value, and where it is from
"""


def train(
    words: SettingsArgument = None,
    config: ConfigOption = None,
    run: RunOption = None,
    env: EnvironmentOption = None,
    policy: PolicyOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    total_timesteps: TotalTimestepsOption = None,
    num_workers: NumWorkersOption = None,
    data_dir: DataDirectoryOption = None,
    resume: ResumeOption = True,
    progress: ProgressOption = "auto",
    print_config: PrintConfigOption = False,
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Train a policy.

    Values come from, each over the ones before: what metta ships, your user file, --config files,
    METTA_* variables, KEY=VALUE settings, options.
    """
    prepare_process()
    options = training_options(run, env, policy, seed, device, total_timesteps, num_workers, data_dir)
    resolved = resolve(config or [], require_settings(words or []), options)
    if print_config:
        emit_config(resolved, format_name, output)
        return
    from metta_cli.cli.progress import create_progress
    from metta_cli.runs.train import train as run_training

    result = run_training(resolved, resume=resume, progress=create_progress(progress))
    if result is not None:
        emit_result(result, format_name, output)


def training_options(
    run: str | None,
    env: str | None,
    policy: str | None,
    seed: int | None,
    device: str | None,
    total_timesteps: int | None,
    num_workers: int | None,
    data_dir: str | None,
) -> dict[str, Any]:
    """Return configuration key -> value for the options that every command that trains has."""
    return {
        "run": run,
        "env": env,
        "policy": policy,
        "seed": seed,
        "device": device,
        "trainer.total_timesteps": total_timesteps,
        "trainer.num_workers": num_workers,
        "data_dir": data_dir,
    }


def emit_result(result: TrainResult, format_name: str | None, output: str | None) -> None:
    """Print where the run is and how it is evaluated."""
    row = {
        "run": result.run,
        "run_dir": str(result.run_dir),
        "checkpoint": str(result.checkpoint),
        "agent_steps": result.agent_steps,
        "epoch": result.epoch,
        "seconds": round(result.seconds, 3),
        "return_mean": result.return_mean,
        "cost": result.cost,
    }
    evaluate = shlex.join(["metta", "eval", str(result.run_dir), *environment_words(result)])
    returns = "no episode has ended yet" if result.return_mean is None else f"{result.return_mean:.3f}"
    text = (
        f"Trained {result.agent_steps:,} agent steps ({result.epoch} epochs) in {duration(result.seconds)}.\n"
        f"Return:   {returns} (mean per agent of the last episodes)\n"
        f"{cost_line(result)}"
        f"Run:      {result.run_dir}\n"
        f"Evaluate: {evaluate}"
    )
    emit([row], columns=tuple(row), format_name=format_name, destination=output, data=row, text=text)


def environment_words(result: TrainResult) -> list[str]:
    """Return the words for `metta eval` that name the environment of a run, and what was changed of it."""
    name, args = result.environment, result.environment_args
    try:
        usual = find_environment(name).args
    except UnknownNameError:  # it came from a file that is not found by its name
        usual = {}
    changed = {key: value for key, value in args.items() if key not in usual or usual[key] != value}
    return ["--env", name, *(f"env.args.{key}={json.dumps(value)}" for key, value in changed.items())]


def cost_line(result: TrainResult) -> str:
    """Return the line on what the run has cost; empty where METTA_HOURLY_COST says nothing."""
    if result.cost is None:
        return ""
    per_million = 1e6 * result.cost / max(1, result.agent_steps)
    return f"Cost:     {result.cost:.2f} ({per_million:.4f} per million agent steps)\n"


def duration(seconds: float) -> str:
    """Return a time as people say it, such as `2 h 05 min` or `31 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
