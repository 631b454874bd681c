"""Cost of an opponent: `python -m benchmarks.opponents ENVIRONMENT` prints its figures as JSON lines.

Training alone and training against an opponent of the same architecture take turns, epoch by epoch, so
that whatever else the machine does falls on both.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from metta_cli.config.layers import load_config
from metta_cli.runs.machine import configure_threads, keep_freed_memory, limit_spinning

if TYPE_CHECKING:
    from metta_cli.config.schema import MettaConfig
    from metta_cli.training.trainer import Trainer

EPOCHS = 6
"""Measured epochs of each; one more comes before them and is not counted."""
SHARE = 0.5
LEAST_RATIO = 0.75
"""What is promised."""


def create_trainer(config: MettaConfig, stack: ExitStack) -> Trainer:
    """Return a trainer in this process, with an opponent if the configuration asks for one."""
    import torch

    from metta_cli.environments.vector import VectorEnvironment
    from metta_cli.policies.registry import create_policy
    from metta_cli.populations.environment import OpponentEnvironment
    from metta_cli.populations.opponents import FixedMatchmaker, OpponentPool, PolicyOpponent
    from metta_cli.runs.train import count_environments
    from metta_cli.training.environment import TrainingEnvironment
    from metta_cli.training.optimizers import create_optimizer
    from metta_cli.training.trainer import Trainer

    torch.manual_seed(1)
    inner = VectorEnvironment(config.env, num_environments=count_environments(config), stagger_episodes=True)
    stack.enter_context(inner)
    policy = create_policy("fast", inner.interface, {})
    played: TrainingEnvironment = inner
    if config.trainer.dual_policy.enabled:
        opponent = PolicyOpponent("copy", policy, inner.num_agents)
        played = OpponentEnvironment(
            inner, OpponentPool({"copy": opponent}), FixedMatchmaker({"copy": 1.0}), learner_share=SHARE
        )
    return Trainer(
        config.trainer,
        environment=played,
        policy=policy,
        optimizer=create_optimizer(config.trainer, policy),
        device=torch.device("cpu"),
    )


def measure(environment_name: str) -> list[dict[str, object]]:
    """Return agent-steps per second of all agents, alone and with an opponent, and their ratio."""
    limit_spinning(os.environ)
    words = [f"env={environment_name}", "hardware=cpu"]
    dual = ["trainer.dual_policy.enabled=true", f"trainer.dual_policy.policy_a_percentage={SHARE}"]
    threads = configure_threads()
    keep_freed_memory()
    seconds: dict[str, list[float]] = {"alone": [], "with_opponent": []}
    with ExitStack() as stack:
        added: dict[str, list[str]] = {"alone": [], "with_opponent": dual}
        configs = {name: load_config(words=words + more).config for name, more in added.items()}
        trainers = {name: create_trainer(config, stack) for name, config in configs.items()}
        for _ in range(1 + EPOCHS):
            for name, trainer in trainers.items():
                started = time.perf_counter()
                experience, _ = trainer.collect()
                trainer.update(experience)
                seconds[name].append(time.perf_counter() - started)
    batch_size = configs["alone"].trainer.batch_size
    agent_steps = {"alone": batch_size, "with_opponent": batch_size / SHARE}
    setting = {"environment": environment_name, "torch_threads": threads}
    speeds = {name: agent_steps[name] / statistics.median(seconds[name][1:]) for name in seconds}
    figures: list[dict[str, object]] = [
        {"figure": f"training_{name}", "value": round(speed), "unit": "learner + opponent agent-steps/s"}
        for name, speed in speeds.items()
    ]
    ratio = round(speeds["with_opponent"] / speeds["alone"], 2)
    figures.append({"figure": "ratio_with_opponent", "value": ratio, "unit": "1", "least": LEAST_RATIO})
    return [figure | setting for figure in figures]


if __name__ == "__main__":
    for figure in measure(sys.argv[1]):
        print(json.dumps(figure), flush=True)
