"""Replay files read again, metta's pages and MettaGrid's own files alike, to be shown in another form."""

from __future__ import annotations

import json
import re
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from metta_cli.artifacts.atomic import write_file
from metta_cli.errors import IncompatibleError, NotFoundError, UsageError
from metta_cli.evaluation.animation import animate
from metta_cli.evaluation.mettascope import SUFFIX
from metta_cli.evaluation.replay import FORMAT_VERSION, WALL, replay_page, runs_of_walls

MAX_BYTES = 1 << 29
VERSION = 4
VIBE = "change_vibe_"
INLINED = re.compile(r"^const replay = (\{.*\});$", re.MULTILINE)


def convert_replay(source: Path, form: str, destination: Path | None) -> Path:
    """Write a replay in another form.

    Args:
        source: a page of metta's (`.html`) or a file of MettaGrid's (`.json.z`).
        form: `html` or `gif`.
        destination: the new file; None is beside the source, under its name with the other suffix.

    Returns:
        The new file.

    Raises:
        NotFoundError: if there is no such file.
        IncompatibleError: if it is not a replay that metta can show.
        UsageError: if it would replace the source, or a file that `destination` does not name.
        StorageError: if the new file cannot be written.
    """
    data = read_replay(source)
    name = source.name.removesuffix(SUFFIX).removesuffix(".html")
    target = source.with_name(f"{name}.{form}") if destination is None else destination
    if target.resolve() == source.resolve():
        raise UsageError(
            f"the replay {source} would replace itself", "name another file with -o, or another form"
        )
    if destination is None and target.exists():  # the evaluation's own page knows more than MettaGrid's file
        raise UsageError(f"{target} is there already", "open that one, or name another file with -o")
    write_file(target, animate(data) if form == "gif" else replay_page(data))
    return target


def read_replay(path: Path) -> dict[str, Any]:
    """Return the episode in a replay file, in the form of `replay.replay_data`.

    MettaGrid's file does not have the start: what the first action led to stands for it.

    Args:
        path: a page of metta's (`.html`) or a file of MettaGrid's (`.json.z`).

    Raises:
        NotFoundError: if there is no such file.
        IncompatibleError: if it is not a replay that metta can show.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no replay file {path}", "`metta eval ... --save-replays` writes some")
    content = path.read_bytes()
    try:
        if path.name.endswith(SUFFIX):
            return _from_mettagrid(json.loads(_decompress(content)), path)
        page: dict[str, Any] = json.loads(INLINED.findall(content.decode())[0])
        if page["format"] != FORMAT_VERSION:
            raise ValueError(f"format {page['format']}")
        return page
    except (zlib.error, ValueError, KeyError, IndexError, TypeError) as error:
        raise IncompatibleError(
            f"{path} is not a replay: {type(error).__name__}: {error}",
            f"give a page of metta's (.html) or a file of MettaGrid's, version {VERSION} ({SUFFIX})",
        ) from error


def _decompress(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(content, MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"it is cut off, or larger than {MAX_BYTES >> 20} MiB")
    return data


def _from_mettagrid(replay: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if replay["version"] != VERSION:
        raise ValueError(f"version {replay['version']}")
    if any(_changes(thing["alive"]) != [[0, True]] for thing in replay["objects"]):
        raise ValueError("things come or go in it, which metta does not show")
    agents = sorted(
        (thing for thing in replay["objects"] if thing.get("is_agent")), key=itemgetter("agent_id")
    )
    width, height = replay["map_size"]
    num_steps = replay["max_steps"] - 1
    rewards = replay["infos"]["episode_rewards"]
    walls = [thing["location"] for thing in replay["objects"] if thing["type_name"] == WALL]
    others = [
        thing for thing in replay["objects"] if thing["type_name"] != WALL and not thing.get("is_agent")
    ]
    actions = [_changes(agent["action_id"]) for agent in agents]
    return {
        "format": FORMAT_VERSION,
        "simulation": path.name,
        "policy": "unknown",
        "environment": replay["mg_config"].get("label", "unknown"),
        "episode": 0,
        "map_seed": replay["mg_config"]["game"]["map_builder"].get("seed"),
        "simulation_seed": replay["infos"]["attributes"]["seed"],
        "score": sum(rewards) / len(rewards),
        "num_steps": num_steps,
        "action_names": replay["action_names"],
        "vibe_names": [name.removeprefix(VIBE) for name in replay["action_names"] if name.startswith(VIBE)],
        "resource_names": replay["item_names"],
        "height": height,
        "width": width,
        "walls": runs_of_walls((row, column) for column, row in walls),
        "things": [_thing(thing) for thing in [*others, *agents]],
        "actions": [[_value(each, step) for each in actions] for step in range(1, num_steps + 1)],
        "returns": [_changes(agent["total_reward"]) for agent in agents],
    }


def _thing(thing: Mapping[str, Any]) -> dict[str, Any]:
    places, inventories = (_changes(thing[name], of_lists=True) for name in ("location", "inventory"))
    vibes = _changes(thing.get("vibe_id", 0))
    frames = []
    for step in sorted({change[0] for change in [*places, *vibes, *inventories]}):
        column, row = _value(places, step)
        inventory = {str(resource): amount for resource, amount in _value(inventories, step)}
        frames.append([step, row, column, _value(vibes, step), inventory])
    return {
        "type": thing["type_name"],
        "agent": thing.get("agent_id", -1),
        "team": thing.get("group_id", -1),
        "team_name": f"team {thing.get('group_id', -1)}",
        "frames": frames,
    }


def _changes(value: Any, *, of_lists: bool = False) -> list[Any]:
    """Return a value as `[[step, value], ...]`; MettaGrid writes one that never changed as it is."""
    is_changing = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    if is_changing and of_lists:  # a single inventory is [[resource, amount], ...]
        is_changing = isinstance(value[0][1], list)
    return value if is_changing else [[0, value]]


def _value(changes: list[Any], step: int) -> Any:
    return changes[bisect_right(changes, step, key=itemgetter(0)) - 1][1]
