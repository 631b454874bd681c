"""How many objects of each kind a map can have, as far as its generator says so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mettagrid.map_builder.ascii import AsciiMapBuilder
from mettagrid.map_builder.choice_ascii import ChoiceAsciiMapBuilder
from mettagrid.map_builder.random_map import RandomMapBuilder
from mettagrid.mapgen.mapgen import MapGen
from mettagrid.mapgen.scenes.mean_distance import MeanDistance
from mettagrid.mapgen.scenes.random import Random
from mettagrid.mapgen.scenes.room_grid import RoomGrid

Most = Mapping[str, float]
"""Cell name -> the most of it that a map can have; `inf` is unlimited, a name not in it never occurs."""


def most_objects(map_builder: Any) -> Most | None:
    """Return the most objects of each kind on a map, or None for a generator that is not known here.

    Args:
        map_builder: configuration of a MettaGrid map builder, or of a scene of `MapGen`.
    """
    if isinstance(map_builder, MapGen.Config):
        return _mapgen(map_builder)
    if isinstance(map_builder, RandomMapBuilder.Config):
        return {**map_builder.objects, map_builder.border_object: math.inf}
    if isinstance(map_builder, AsciiMapBuilder.Config):
        return _drawn([map_builder.map_data], map_builder.char_to_map_name)
    if isinstance(map_builder, ChoiceAsciiMapBuilder.Config):
        return _drawn(map_builder.map_options, map_builder.char_to_map_name)
    return _scene(map_builder)


def _mapgen(config: Any) -> Most | None:
    """Count every instance, and any number of walls around and between them."""
    inner = most_objects(config.instance)
    if inner is None or config.instance_object_remap:
        return None
    instances = math.inf if config.num_agents else config.instances or 1
    every = {name: instances * most for name, most in inner.items() if most}
    return {**every, "wall": math.inf, config.instance_border_object: math.inf}


def _scene(config: Any) -> Most | None:
    """Count what a scene draws itself and what its children draw."""
    if isinstance(config, Random.Config | MeanDistance.Config):
        most: dict[str, float] = dict(config.objects)
    elif isinstance(config, RoomGrid.Config):
        most = {config.border_object: math.inf}
    else:
        return None
    for child in config.children:
        inner = most_objects(child.scene)
        if inner is None:
            return None
        areas = math.inf if child.limit is None else child.limit
        for name, count in inner.items():
            most[name] = most.get(name, 0) + (areas * count if count else 0)
    return most


def _drawn(maps: list[list[list[str]]], names: Mapping[str, str]) -> Most:
    """Count the cells of maps that are written out, and take the fullest one for each name."""
    most: Counter[str] = Counter()
    for rows in maps:
        most |= Counter(names.get(cell, cell) for row in rows for cell in row)
    return dict(most)
