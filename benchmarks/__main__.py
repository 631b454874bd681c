"""`make bench`: each figure in a process of its own, one JSON line per figure."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAINED = ("arena/basic_2x4", "navigation/terrain_small")
METTA = (sys.executable, "-m", "metta_cli")
POLL_SECONDS = 0.01


def print_figure(name: str, value: float, unit: str, **setting: object) -> None:
    print(json.dumps({"figure": name, "value": value, "unit": unit, **setting}), flush=True)


def run_part(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], check=True)


def time_to_first_update() -> None:
    """From the command to the first line of metrics, which is written after the first update."""
    with tempfile.TemporaryDirectory() as directory:
        metrics = Path(directory) / "first" / "metrics.jsonl"
        command = [*METTA, "train", "env=navigation/simple", "hardware=cpu", "--run", "first"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--data-dir", directory, "--progress", "none"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while not (metrics.is_file() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(process.stderr.read().decode() if process.stderr else "metta train ended")
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        process.terminate()
        process.communicate()
    print_figure("time_to_first_update", round(seconds, 2), "s", environment="navigation/simple")


def main() -> None:
    run_part("benchmarks.slab")
    for environment in TRAINED:
        run_part("benchmarks.training", environment)
    for environment in TRAINED:
        run_part("benchmarks.evaluation", environment)
    run_part("benchmarks.opponents", "laser_tag")
    time_to_first_update()
    peak_kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print_figure("peak_memory_of_one_process", round(peak_kilobytes / 1024), "MiB")


if __name__ == "__main__":
    main()
