"""What one process of `test_distributed.py` does; the first writes what it found to a file."""

import json
import os
import sys
from pathlib import Path

import torch

from metta_cli.config.catalogue import find_environment
from metta_cli.config.trainer import TrainerConfig
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import MettaError
from metta_cli.policies.registry import create_policy
from metta_cli.training.distributed import join_world, leave_world
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.trainer import Trainer


def agree(world):
    """Use every way of agreeing with values that differ by rank."""
    layer = torch.nn.Linear(2, 1)
    layer.weight.grad = torch.tensor([[1.0, 2.0]]) * (world.rank + 1)
    layer.bias.grad = torch.tensor([-1.0 + world.rank])
    world.average_gradients(layer.parameters())
    return {
        "total": world.total(torch.tensor([1.0, 10.0 * world.rank])).tolist(),
        "mean": world.mean(torch.tensor(float(world.rank))).item(),
        "any": [world.any(world.rank == 1), world.any(False)],
        "gathered": world.gather({"rank": world.rank}),
        "gradients": [layer.weight.grad.tolist(), layer.bias.grad.tolist()],
    }


def lose_one(world):
    """The second process ends without a word; the first waits for it."""
    if world.rank == 1:
        os._exit(0)
    try:
        world.wait_for_all()
    except MettaError as error:
        return {"message": error.message}
    return {"message": None}


CONFIG = TrainerConfig(
    total_timesteps=10**9,
    batch_size=1024,
    minibatch_size=1024,
    bptt_horizon=32,
    update_epochs=3,
    sampling="sequential",
    optimizer={"learning_rate": 1e-3, "eps": 1e-8},
    ppo={"max_grad_norm": 0.1, "vf_clip_coef": 0.05},
)


def train(world):
    """Act and learn for one epoch; return the weights and what was measured."""
    config = CONFIG.model_copy(
        update={
            "batch_size": CONFIG.batch_size // world.size,
            "minibatch_size": CONFIG.minibatch_size // world.size,
        }
    )
    torch.manual_seed(0)
    with VectorEnvironment(
        find_environment("navigation/simple"),
        num_environments=8 // world.size,
        seed=3,
        stagger_episodes=True,
        shard=(world.rank, world.size),
    ) as environment:
        policy = create_policy("fast", environment.interface, {})
        trainer = Trainer(
            config,
            environment=environment,
            policy=policy,
            optimizer=create_optimizer(config, policy),
            device=torch.device("cpu"),
        )
        experience, acted = trainer.collect()
        learned = trainer.update(experience)
    return {
        "agent_steps": trainer.state.agent_steps,
        "metrics": {name: value for name, value in (acted | learned).items() if "seconds" not in name},
        "weights": {name: part.flatten().tolist() for name, part in policy.state_dict().items()},
        "same_weights": len({json.dumps(each) for each in world.gather(checksum(policy))}) == 1,
    }


def checksum(policy):
    return [float(part.double().sum()) for part in policy.state_dict().values()]


if __name__ == "__main__":
    task, result = sys.argv[1:]
    world = join_world(torch.device("cpu"))
    found = {"agree": agree, "lose_one": lose_one, "train": train}[task](world)
    if world.is_first:
        Path(result).write_text(json.dumps(found))
    leave_world()
