"""A recorded episode as text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metta_cli.evaluation.animation import entry_at

AGENTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def draw_text(data: Mapping[str, Any], step: int) -> str:
    """Return a step as text, a character for each cell and a line of what it shows below.

    `#` is a wall, `.` the floor, agents are 0 to 9 and then A to Z (those after them start again), other
    things the first letter of their kind in lower case.

    Args:
        data: from `replay.replay_data`.
        step: from 0, the start.
    """
    cells = [["."] * data["width"] for _ in range(data["height"])]
    for row, column, length in data["walls"]:
        cells[row][column : column + length] = "#" * length
    for thing in data["things"]:
        _, row, column, *_ = entry_at(thing["frames"], step)
        agent = thing["agent"]
        cells[row][column] = AGENTS[agent % len(AGENTS)] if agent >= 0 else thing["type"][0].lower()
    returns = [entry_at(entries, step)[1] for entries in data["returns"]]
    summary = f"step {step} / {data['num_steps']}, mean return {sum(returns) / len(returns):.3f}"
    return "\n".join([*("".join(line) for line in cells), summary])
