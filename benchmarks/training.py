"""Training speed: `python -m benchmarks.training ENVIRONMENT` prints its figures as JSON lines."""

from __future__ import annotations

import json
import os
import statistics
import sys

from metta_cli.config.layers import load_config
from metta_cli.runs.machine import (
    choose_num_workers,
    configure_threads,
    keep_freed_memory,
    limit_spinning,
)

EPOCHS = 8
"""Measured epochs; one more comes before them and is not counted."""
PHASES = ("environment", "forward", "update")


def measure(environment_name: str) -> list[dict[str, object]]:
    """Return the figures of training `fast` with the sizes of `hardware=cpu`.

    Speed is the median over epochs. Shares are of the whole time of the measured epochs; what is missing
    to 1 is the copying in between.
    """
    limit_spinning(os.environ)
    import torch

    from metta_cli.environments.vector import VectorEnvironment
    from metta_cli.policies.registry import create_policy
    from metta_cli.runs.train import count_environments
    from metta_cli.training.optimizers import create_optimizer
    from metta_cli.training.trainer import Trainer

    words = [f"env={environment_name}", "hardware=cpu"]
    config = load_config(words=words).config
    threads = configure_threads()
    keep_freed_memory()
    torch.manual_seed(1)
    num_environments = count_environments(config)
    num_workers = choose_num_workers(config.trainer.num_workers, num_environments)
    with VectorEnvironment(
        config.env, num_environments=num_environments, num_workers=num_workers, stagger_episodes=True
    ) as environment:
        policy = create_policy("fast", environment.interface, {})
        optimizer = create_optimizer(config.trainer, policy)
        trainer = Trainer(
            config.trainer,
            environment=environment,
            policy=policy,
            optimizer=optimizer,
            device=torch.device("cpu"),
        )
        logged: list[dict[str, float]] = []
        for _ in range(1 + EPOCHS):
            experience, metrics = trainer.collect()
            logged.append(metrics | trainer.update(experience))
    logged = logged[1:]
    seconds = [metrics["time/rollout_seconds"] + metrics["time/update_seconds"] for metrics in logged]
    setting = {"environment": environment_name, "workers": num_workers, "torch_threads": threads}
    speed = statistics.median(config.trainer.batch_size / epoch for epoch in seconds)
    figures: list[dict[str, object]] = [
        {"figure": "training", "value": round(speed), "unit": "agent-steps/s", **setting}
    ]
    for phase in PHASES:
        share = sum(metrics[f"time/{phase}_seconds"] for metrics in logged) / sum(seconds)
        figures.append({"figure": f"share_{phase}", "value": round(share, 3), "unit": "1", **setting})
    return figures


if __name__ == "__main__":
    for figure in measure(sys.argv[1]):
        print(json.dumps(figure), flush=True)
