"""`metta eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metta_cli.cli import completion
from metta_cli.cli.options import (
    AllowPickleOption,
    AssignmentOption,
    BaselinesOption,
    ConfigOption,
    DeviceOption,
    EnvironmentOption,
    EpisodesOption,
    FormatOption,
    OutputOption,
    PolicyShareOption,
    ProgressOption,
    ResultsDirectoryOption,
    SaveReplaysOption,
    SeedOption,
    SettingsArgument,
    Sha256Option,
    WorkersOption,
    named,
)
from metta_cli.cli.output import emit
from metta_cli.cli.process import prepare_process, resolve
from metta_cli.cli.words import split_uri
from metta_cli.errors import UsageError

if TYPE_CHECKING:
    from metta_cli.config.layers import ResolvedConfig
    from metta_cli.evaluation.population import PopulationResult
    from metta_cli.evaluation.results import SuiteResult

EPILOG = """\b
Examples:
  metta eval train_dir/first                         its latest checkpoint, on the default suite
  metta eval train_dir/first:v20 --suite navigation  its checkpoint of epoch 20
  metta eval random --env laser_tag --episodes 100 --workers 2
  metta eval train_dir/first --npc scripted --env laser_tag --assignment team
  metta eval train_dir/first --format json | jq .avg_simulation_score
"""


NpcOption = Annotated[
    list[str] | None,
    typer.Option(
        "--npc",
        metavar="URI",
        help="Let this opponent play the other agents of every environment; repeatable.",
        autocompletion=completion.uri_or_settings,
        show_default=False,
    ),
]
UriArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="URI",
        help="What to evaluate: a run, a checkpoint, random, noop or scripted.",
        autocompletion=completion.uri_or_settings,
        show_default=False,
    ),
]


def evaluate(
    uri: UriArgument = None,
    words: SettingsArgument = None,
    suite: Annotated[str | None, named("Suite to play, such as navigation.", completion.suites)] = None,
    env: EnvironmentOption = None,
    episodes: EpisodesOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    output_dir: ResultsDirectoryOption = Path("eval_results"),
    save_replays: SaveReplaysOption = False,
    baselines: BaselinesOption = True,
    npc: NpcOption = None,
    policy_agents_pct: PolicyShareOption = None,
    assignment: AssignmentOption = None,
    allow_pickle: AllowPickleOption = False,
    sha256: Sha256Option = None,
    progress: ProgressOption = "auto",
    format_name: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Evaluate a policy on a suite of simulations, beside random and scripted play of the same episodes.

    The same seed gives the same scores for any number of workers. With --npc the policy plays only a share
    of the agents, and its mirror, and the result says how both sides did.
    """
    mixed = check_options(suite, env, npc, policy_agents_pct, assignment, save_replays)
    policy_uri, settings = split_uri([*([uri] if uri is not None else []), *(words or [])])
    options = {"policy_uri": policy_uri, "sim.suite": suite, "sim.episodes": episodes, "env": env}
    options |= {"sim.num_workers": workers, "seed": seed, "device": device}
    prepare_process()
    resolved = resolve(config or [], settings, options)
    what: dict[str, Any] = {
        "uri": require_uri(resolved),
        "suite": suite,
        "environment": env,
        "episodes": resolved.config.sim.episodes,
        "num_workers": resolved.config.sim.num_workers,
        "output_dir": output_dir,
    }
    what |= {"trust": (allow_pickle, sha256), "progress": progress}
    what |= {"format_name": format_name, "output": output}
    if mixed is None:
        what |= {"save_replays": save_replays, "baselines": baselines}
    play_and_print(resolved, mixed=mixed, **what)


def check_options(
    suite: str | None,
    env: str | None,
    npc: list[str] | None,
    policy_agents_pct: float | None,
    assignment: str | None,
    save_replays: bool,
) -> dict[str, Any] | None:
    """Return what the options say about opponents; None if there are none.

    Raises:
        UsageError: options that contradict each other.
    """
    if suite is not None and env is not None:
        raise UsageError("--suite and --env exclude each other", "leave one of them out")
    if not npc:
        if policy_agents_pct is not None or assignment is not None:
            raise UsageError("--policy-agents-pct and --assignment need an opponent", "add --npc URI")
        return None
    if save_replays:
        raise UsageError("--save-replays and --npc exclude each other", "leave --save-replays out")
    share = 0.5 if policy_agents_pct is None else policy_agents_pct
    if not 0 < share < 1:
        raise UsageError(
            f"--policy-agents-pct {share:g} leaves one side without agents", "choose a share between 0 and 1"
        )
    return {"npcs": npc, "share": share, "assignment": assignment or "fraction"}


def play_and_print(
    resolved: ResolvedConfig,
    *,
    trust: tuple[bool, str | None],
    progress: str,
    format_name: str | None,
    output: str | None,
    mixed: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Evaluate, with a display on stderr, and print the scores.

    Args:
        resolved: the configuration.
        trust: values of `--allow-pickle` and `--sha256`.
        progress: form of the display.
        format_name: see `emit`.
        output: see `emit`.
        mixed: what the options say about opponents; None evaluates without.
        options: see `metta_cli.runs.evaluate.evaluate`, or with opponents
            `metta_cli.runs.population.evaluate_population`.
    """
    from metta_cli.cli.progress import create_suite_progress
    from metta_cli.cli.terminal import replay_player
    from metta_cli.runs.evaluate import evaluate as run_evaluation
    from metta_cli.runs.policies import Trust
    from metta_cli.runs.population import evaluate_population

    options |= {"trust": Trust(*trust), "progress": create_suite_progress(progress)}
    result: SuiteResult | PopulationResult
    if mixed is None:
        result = run_evaluation(resolved, show=replay_player(), **options)
    else:
        result = evaluate_population(resolved, **options, **mixed)
    emit_result(result, format_name, output)


def require_uri(resolved: ResolvedConfig) -> str:
    """Return what is to be evaluated.

    Raises:
        UsageError: neither the command nor a file says it.
    """
    uri = resolved.config.policy_uri
    if uri is None:
        raise UsageError(
            "nothing says what to evaluate",
            "metta eval train_dir/RUN, or policy_uri=... in a configuration file",
        )
    return uri


def emit_result(result: SuiteResult | PopulationResult, format_name: str | None, output: str | None) -> None:
    """Print scores: as text in the form of the documentation, or as data."""
    rows = result.rows()
    emit(
        rows,
        columns=list(rows[0]),
        format_name=format_name,
        destination=output,
        data=result.to_json(),
        text=result.to_text(),
    )
