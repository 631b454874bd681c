"""Evaluation speed: `python -m benchmarks.evaluation ENVIRONMENT` prints its figure as a JSON line."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

from metta_cli.config.catalogue import find_environment
from metta_cli.runs.machine import configure_threads, limit_spinning

EPISODES = 32
REPEATS = 3


def measure(environment_name: str) -> dict[str, object]:
    """Return agent steps per second of playing an untrained `fast`, start of the workers included."""
    limit_spinning(os.environ)
    import torch

    from metta_cli.environments.builders import build
    from metta_cli.environments.interface import interface_of
    from metta_cli.evaluation.suite import evaluate_policy
    from metta_cli.policies.registry import create_policy
    from metta_cli.runs.evaluate import choose_workers, suite_of

    threads = configure_threads()
    torch.manual_seed(1)
    interface = interface_of(build(find_environment(environment_name)))
    policy = create_policy("fast", interface, {})
    suite = suite_of(find_environment(environment_name))
    simulation = suite.simulations[environment_name].model_copy(update={"num_episodes": EPISODES})
    suite = suite.model_copy(update={"simulations": {environment_name: simulation}})
    workers = choose_workers(suite, None)
    speeds = []
    for repeat in range(REPEATS):
        started = time.perf_counter()
        result = evaluate_policy(policy, interface, suite, seed=repeat, num_workers=workers)
        agent_steps = sum(
            episode.num_steps * len(episode.agent_returns) for episode in result.simulations[0].episodes
        )
        speeds.append(agent_steps / (time.perf_counter() - started))
    return {
        "figure": "evaluation",
        "value": round(statistics.median(speeds)),
        "unit": "agent-steps/s",
        "environment": environment_name,
        "workers": workers[environment_name],
        "torch_threads": threads,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])), flush=True)
