"""A recorded episode as an animated GIF, for a chat, a report or a README."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Mapping
from itertools import chain
from math import ceil
from operator import itemgetter
from typing import Any

from PIL import Image, ImageDraw

MAX_FRAMES = 300
FRAME_MS = 80
LAST_FRAME_MS = 1500
FOOTER_PIXELS = 16
FROZEN = "frozen"

FLOOR, WALL, INK, VIBE, ICE = range(5)  # indices into COLOURS
PLAIN_COLOURS = ("#ebe8e1", "#7d7a75", "#22252b", "#f2c230", "#bee1ff")
TEAM_COLOURS = ("#d1495b", "#2f6fde", "#2e9e6b", "#c98a12", "#8a5fd0", "#d0702f")
THING_COLOURS = ("#c2478f", "#6a7f2c", "#7a5aa8", "#a8702a", "#2f8a80", "#9a4f6b", "#b5462f", "#3f7f97")
FIRST_TEAM = len(PLAIN_COLOURS)
FIRST_THING = FIRST_TEAM + len(TEAM_COLOURS)
COLOURS = (*PLAIN_COLOURS, *TEAM_COLOURS, *THING_COLOURS)


def animate(data: Mapping[str, Any]) -> bytes:
    """Return the GIF that shows an episode.

    Walls are grey, agents are discs in the colour of their team (pale while frozen, with a yellow ring
    while they show a vibe), other things are squares, a colour for each kind, hollow while what they held
    is gone.

    Args:
        data: from `replay.replay_data`.
    """
    painter = _Painter(data)
    first, *others = (painter.frame(step) for step in shown_steps(data["num_steps"]))
    file = io.BytesIO()
    durations = [FRAME_MS] * len(others) + [LAST_FRAME_MS]
    first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return file.getvalue()


def shown_steps(num_steps: int) -> list[int]:
    """Return the steps that have a frame: from 0, evenly, at most `MAX_FRAMES` and always the last one."""
    stride = max(1, ceil(num_steps / (MAX_FRAMES - 1)))
    return [*range(0, num_steps, stride), num_steps]


def cell_pixels(data: Mapping[str, Any]) -> int:
    """Return the edge of a drawn cell: a map of any size comes out at a similar size of picture."""
    height, width = int(data["height"]), int(data["width"])
    return max(4, min(24, 480 // max(height, width)))


class _Painter:
    """Draws the steps of one episode."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._cell = cell_pixels(data)
        kinds = sorted({thing["type"] for thing in data["things"] if thing["agent"] < 0})
        self._colours = {kind: FIRST_THING + i % len(THING_COLOURS) for i, kind in enumerate(kinds)}
        resources = data["resource_names"]
        self._frozen = str(resources.index(FROZEN)) if FROZEN in resources else None
        self._background = self._draw_background()

    def frame(self, step: int) -> Image.Image:
        """Return the picture of a step, with its number below."""
        image = self._background.copy()
        pen = ImageDraw.Draw(image)
        pen.fontmode = "1"  # the palette has no shades to smooth letters with
        for thing in self._data["things"]:
            _, row, column, vibe, inventory = entry_at(thing["frames"], step)
            if thing["agent"] < 0:
                held_before = any(entry[4] for entry in thing["frames"])
                self._draw_thing(pen, row, column, thing["type"], held_before and not inventory)
            else:
                is_frozen = self._frozen in inventory
                self._draw_agent(pen, row, column, thing["team"], vibe > 0, is_frozen)
        text = f"step {step} / {self._data['num_steps']}"
        pen.text((3, image.height - FOOTER_PIXELS), text, fill=INK, font_size=12)
        return image

    def _draw_background(self) -> Image.Image:
        size = (self._data["width"] * self._cell, self._data["height"] * self._cell + FOOTER_PIXELS)
        image = Image.new("P", size, FLOOR)
        channels = (bytes.fromhex(colour[1:]) for colour in COLOURS)
        image.putpalette(list(chain.from_iterable(channels)))
        pen = ImageDraw.Draw(image)
        for row, column, length in self._data["walls"]:
            left, top, _, bottom = self._box(row, column)
            pen.rectangle((left, top, left + length * self._cell - 1, bottom), fill=WALL)
        return image

    def _box(self, row: int, column: int, gap: int = 0) -> tuple[int, int, int, int]:
        """Return a cell as left, top, right and bottom pixel, the edge left free."""
        left, top = column * self._cell, row * self._cell
        return left + gap, top + gap, left + self._cell - 1 - gap, top + self._cell - 1 - gap

    def _draw_thing(self, pen: ImageDraw.ImageDraw, row: int, column: int, kind: str, is_empty: bool) -> None:
        colour = self._colours[kind]
        box = self._box(row, column, gap=self._cell // 10)
        pen.rectangle(box, fill=FLOOR if is_empty else colour, outline=colour, width=max(1, self._cell // 10))

    def _draw_agent(
        self, pen: ImageDraw.ImageDraw, row: int, column: int, team: int, has_vibe: bool, is_frozen: bool
    ) -> None:
        colour = FIRST_TEAM + max(0, team) % len(TEAM_COLOURS)
        gap = self._cell // 12 if self._cell >= 10 else self._cell // 2 - 5  # to be found on a large map
        ring = VIBE if has_vibe else colour
        width = max(1, self._cell // 8)
        pen.ellipse(
            self._box(row, column, gap),
            fill=ICE if is_frozen else colour,
            outline=ring,
            width=width,
        )


def entry_at(entries: list[list[Any]], step: int) -> list[Any]:
    """Return the last entry that is not after a step; entries begin with their step, in order."""
    return entries[bisect_right(entries, step, key=itemgetter(0)) - 1]
