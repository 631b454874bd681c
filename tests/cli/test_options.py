"""Every command with its options: a new one is a decision, and this file is where it is taken."""

import typer.main

from metta_cli.cli.main import app

COMMANDS = {
    "": "--version --debug --install-completion --show-completion --help -h",
    "train": "KEY=VALUE --config --run --env --policy --seed --device --total-timesteps --num-workers"
    " --data-dir --resume --no-resume --progress --print-config --format --output -o --help -h",
    "dual-train": "NPC_URI KEY=VALUE --config --run --env --policy --policy-agents-pct --assignment --seed"
    " --device --total-timesteps --num-workers --data-dir --resume --no-resume --allow-pickle --sha256"
    " --progress --print-config --format --output -o --help -h",
    "eval": "URI KEY=VALUE --suite --env --episodes --seed --workers --device --config --output-dir"
    " --save-replays --baselines --no-baselines --npc --policy-agents-pct --assignment --allow-pickle"
    " --sha256 --progress --format --output -o --help -h",
    "eval-external": "--policy-path --suite --simulation-suite --num-episodes --pytorch-config --allow-pickle"
    " --sha256 --run-name --output-dir --save-replays --baselines --no-baselines --seed --workers --device"
    " --progress --format --output -o --help -h",
    "inspect": "URI --pytorch-config --allow-pickle --sha256 --format --output -o --help -h",
    "export": "URI --to --output -o --env --pytorch-config --allow-pickle --sha256 --help -h",
    "replay": "PATH --to --output -o --help -h",
    "push": "URI RUN --data-dir --help -h",
    "list-runs": "--source --entity --project --bucket --limit --state --sort --filter --data-dir --format"
    " --output -o --help -h",
    "plot": "RUN --output -o --help -h",
    "cache": "--help -h",
    "cache ls": "--format --output -o --help -h",
    "cache verify": "--format --output -o --help -h",
    "cache prune": "--unused --max-size --all --dry-run --format --output -o --help -h",
    "league": "--help -h",
    "league show": "RUN --heatmap --format --output -o --help -h",
    "league evaluate": "RUN --episodes --only --seed --workers --device --progress --heatmap --format"
    " --output -o --help -h",
    "configs": "--help -h",
    "configs list": "GROUP --format --output -o --help -h",
    "configs show": "NAME --output -o --help -h",
    "configs copy": "NAME DESTINATION --force --help -h",
    "configs validate": "NAME --format --output -o --help -h",
    "plugins": "--help -h",
    "plugins list": "--check --format --output -o --help -h",
    "plugins new": "NAME --kind --directory --help -h",
    "plugins check": "NAME --format --output -o --help -h",
}


def described(command, context):
    found = set()
    for parameter in command.get_params(context):
        is_option = parameter.opts[0].startswith("-")
        found |= {*parameter.opts, *parameter.secondary_opts} if is_option else {parameter.metavar}
    return found


def commands(word, command, parent=None):
    context = command.make_context(word, [], parent, resilient_parsing=True)
    yield context.command_path.removeprefix("metta").strip(), described(command, context)
    for child_word, child in getattr(command, "commands", {}).items():
        yield from commands(child_word, child, context)


def test_the_options_are_those_that_were_decided_on():
    found = dict(commands("metta", typer.main.get_command(app)))
    assert found == {name: set(options.split()) for name, options in COMMANDS.items()}
