"""Speed of the vectorized environment: `python -m benchmarks.slab [ENVIRONMENT]...`, JSON lines.

Actions are random. The numbers of workers take turns window by window, so that whatever else the machine is
doing falls on all of them alike; a ratio is the median of the ratios within one turn.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from metta_cli.config.catalogue import find_environment
from metta_cli.environments.vector import VectorEnvironment

ENVIRONMENTS = ("arena/basic_2x4", "navigation/terrain_small", "navigation/simple")
WORKERS = (0, 1, 2)
WINDOWS = 15
AGENTS = 512
"""Agents at least; as many environments as that takes."""
WINDOW_AGENT_STEPS = 20_000


def measure(environment_name: str) -> Iterator[dict[str, object]]:
    """Yield the agent-steps per second, episode ends included, for each number of workers."""
    with ExitStack() as stack:
        environments = [stack.enter_context(open_staggered(environment_name, count)) for count in WORKERS]
        num_agents = environments[0].num_agents
        num_actions = environments[0].interface.num_actions
        actions = np.random.default_rng(0).integers(0, num_actions, (64, num_agents))
        for environment in environments:
            environment.reset()
            run_window(environment, actions)
        rounds = [[run_window(environment, actions) for environment in environments] for _ in range(WINDOWS)]
    setting = {"environment": environment_name, "agents": num_agents, "windows": WINDOWS}
    for column, num_workers in enumerate(WORKERS):
        speeds = [speeds[column] for speeds in rounds]
        ratio = statistics.median(speeds[column] / speeds[0] for speeds in rounds)
        yield {
            "figure": "slab",
            "value": round(statistics.median(speeds)),
            "unit": "agent-steps/s",
            "workers": num_workers,
            "best": round(max(speeds)),
            "ratio_to_no_workers": round(ratio, 2),
            **setting,
        }


def open_staggered(environment_name: str, num_workers: int) -> VectorEnvironment:
    spec = find_environment(environment_name)
    with VectorEnvironment(spec, num_environments=1) as one:
        num_environments = -(-AGENTS // one.num_agents)
    return VectorEnvironment(
        spec, num_environments=num_environments, num_workers=num_workers, stagger_episodes=True
    )


def run_window(environment: VectorEnvironment, actions: np.ndarray) -> float:
    num_steps = -(-WINDOW_AGENT_STEPS // environment.num_agents)
    started = time.perf_counter()
    for step in range(num_steps):
        environment.step(actions[step % len(actions)])
    return num_steps * environment.num_agents / (time.perf_counter() - started)


if __name__ == "__main__":
    for name in sys.argv[1:] or ENVIRONMENTS:
        for figure in measure(name):
            print(json.dumps(figure), flush=True)
