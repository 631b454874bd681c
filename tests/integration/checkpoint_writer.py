"""Saves checkpoints and is killed at it, many times; run by `test_checkpoint_faults.py`.

    python checkpoint_writer.py CHECKPOINTS_DIR NUM_KILLS

torch is imported once; every writer is a fork that saves epoch after epoch, reports each one only when
`save_checkpoint` has returned, and is killed after a random time. After each kill the newest checkpoint
must verify and be at least the last reported one. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from metta_cli.artifacts.checkpoints import latest_valid_checkpoint, prune_checkpoints, save_checkpoint
from metta_cli.testing.loaders import example_checkpoint

NUM_WEIGHTS = 1_000_000


def write_for_ever(directory: Path, first_epoch: int, acknowledged: int) -> None:
    epoch = first_epoch
    while True:
        weights = {"w": torch.full((NUM_WEIGHTS,), float(epoch))}
        state = {"optimizer": {0: torch.full((NUM_WEIGHTS // 2,), float(epoch))}}
        save_checkpoint(directory, example_checkpoint(epoch=epoch).manifest, weights, state)
        os.pwrite(acknowledged, f"{epoch:012d}".encode(), 0)
        prune_checkpoints(directory, keep=2)
        epoch += 1


def kill_one_writer(directory: Path, first_epoch: int) -> tuple[int, bool]:
    """Return the last epoch that a writer reported before it was killed, and whether it left a part."""
    acknowledged = os.memfd_create("acknowledged")
    os.pwrite(acknowledged, b"%012d" % 0, 0)
    writer = os.fork()
    if writer == 0:
        try:
            write_for_ever(directory, first_epoch, acknowledged)
        finally:
            os._exit(1)
    time.sleep(random.uniform(0.02, 0.25))
    os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the writer failed by itself"
    epoch = int(os.pread(acknowledged, 12, 0))
    os.close(acknowledged)
    return epoch, any(directory.glob(".tmp-*"))


def main(directory: Path, num_kills: int) -> dict[str, int]:
    torch.set_num_threads(1)
    random.seed(num_kills)
    counts = {"kills": num_kills, "lost": 0, "wrong": 0, "skipped": 0, "parts_left": 0, "saved": 0}
    newest = 0
    for _ in range(num_kills):
        acknowledged, left_part = kill_one_writer(directory, newest + 1)
        checkpoint, skipped = latest_valid_checkpoint(directory)
        found = checkpoint.manifest.epoch if checkpoint else 0
        counts["lost"] += found < max(acknowledged, newest)
        counts["skipped"] += len(skipped)
        counts["parts_left"] += left_part
        if checkpoint:
            state = checkpoint.trainer_state["optimizer"][0]
            same = bool((checkpoint.weights["w"] == found).all()) and bool((state == found).all())
            counts["wrong"] += not same
        newest = counts["saved"] = found
    return counts


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
