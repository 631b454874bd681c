"""What one process of `test_distributed.py` does; the first writes what it found to a file."""

import json
import os
import sys
from pathlib import Path

import torch

from metta_cli.errors import MettaError
from metta_cli.training.distributed import join_world, leave_world


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


if __name__ == "__main__":
    task, result = sys.argv[1:]
    world = join_world(torch.device("cpu"))
    found = {"agree": agree, "lose_one": lose_one}[task](world)
    if world.is_first:
        Path(result).write_text(json.dumps(found))
    leave_world()
