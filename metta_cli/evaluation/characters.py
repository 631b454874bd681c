"""A recorded episode as text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metta_cli.evaluation.animation import entry_at

AGENTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def draw_text(data: Mapping[str, Any], step: int, window: tuple[int, int] | None = None) -> str:
    """Return a step as text, a character for each cell and a line of what it shows below.

    `#` is a wall, `.` the floor, agents are 0 to 9 and then A to Z (those after them start again), other
    things the first letter of their kind in lower case.

    Args:
        data: from `replay.replay_data`.
        step: from 0, the start.
        window: rows and columns to show of a map that is larger, with the first agent as near to their
            middle as can be; None shows all.
    """
    cells = [["."] * data["width"] for _ in range(data["height"])]
    for row, column, length in data["walls"]:
        cells[row][column : column + length] = "#" * length
    centre = (data["height"] // 2, data["width"] // 2)
    for thing in data["things"]:
        _, row, column, *_ = entry_at(thing["frames"], step)
        agent = thing["agent"]
        cells[row][column] = AGENTS[agent % len(AGENTS)] if agent >= 0 else thing["type"][0].lower()
        if agent == 0:
            centre = (row, column)
    rows, columns = window or (data["height"], data["width"])
    top, left = _start(centre[0], rows, data["height"]), _start(centre[1], columns, data["width"])
    returns = [entry_at(entries, step)[1] for entries in data["returns"]]
    summary = f"step {step} / {data['num_steps']}, mean return {sum(returns) / len(returns):.3f}"
    shown = ["".join(line[left : left + columns]) for line in cells[top : top + rows]]
    return "\n".join([*shown, summary if window is None else summary[:columns]])


def _start(centre: int, size: int, length: int) -> int:
    """Return where a window of a size begins that has a place in its middle and lies inside."""
    return max(0, min(centre - size // 2, length - size))
