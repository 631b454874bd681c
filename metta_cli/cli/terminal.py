"""An episode played in the terminal, picture by picture, where there is one."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from metta_cli.cli.output import note

STEPS_PER_SECOND = 8
MAX_SECONDS = 20.0
MAX_PICTURES_PER_SECOND = 25
HOME, TO_END_OF_LINE, TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
OTHER_SCREEN, OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
LINES_BELOW = 2  # the line that says which step it is, and the one that the cursor stands in


def is_terminal(stream: TextIO) -> bool:
    """Return whether pictures can be drawn over one another there."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def replay_player() -> Callable[[Mapping[str, Any]], None]:
    """Return what plays recorded episodes on stderr; stdout belongs to data.

    Without a terminal it says once that there is none, and how to see them all the same.
    """
    is_told = False

    def play_on_stderr(data: Mapping[str, Any]) -> None:
        nonlocal is_told
        if is_terminal(sys.stderr):
            play(data, sys.stderr)
        elif not is_told:
            is_told = True
            note("sim.render plays in a terminal, and this is none; `metta replay` shows what was recorded")

    return play_on_stderr


def play(data: Mapping[str, Any], stream: TextIO, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Play an episode on a screen of its own, and leave its last picture behind.

    A map that is larger than the terminal is shown around its first agent; a long episode is sped up.

    Args:
        data: from `replay.replay_data`.
        stream: a terminal.
        sleep: waits for so many seconds.
    """
    from metta_cli.evaluation.characters import draw_text

    def picture(step: int) -> str:
        columns, lines = shutil.get_terminal_size()
        return draw_text(data, step, window=(max(1, lines - LINES_BELOW), columns))

    steps, seconds = pace(data["num_steps"])
    try:
        stream.write(OTHER_SCREEN)
        for step in steps:
            lines = picture(step).split("\n")
            stream.write(HOME + "".join(f"{line}{TO_END_OF_LINE}\n" for line in lines) + TO_END_OF_SCREEN)
            stream.flush()
            sleep(seconds)
    finally:
        stream.write(OWN_SCREEN)
        stream.flush()
    note(f"{data['simulation']}, episode {data['episode']}, policy {data['policy']}")
    note(picture(data["num_steps"]))


def pace(num_steps: int) -> tuple[list[int], float]:
    """Return the steps that are shown, the first and the last among them, and for how many seconds each."""
    duration = min(MAX_SECONDS, (num_steps + 1) / STEPS_PER_SECOND)
    num_pictures = min(num_steps + 1, int(duration * MAX_PICTURES_PER_SECOND))
    steps = [round(index * num_steps / max(1, num_pictures - 1)) for index in range(num_pictures)]
    return steps, duration / num_pictures
