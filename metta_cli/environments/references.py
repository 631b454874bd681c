"""Every name in a game must name something.

MettaGrid drops a filter on an unknown tag, vibe or resource, so that the handler behind it always runs: a
typing mistake opens the door. Other unknown names change nothing, silently, or fail without saying where.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mettagrid.config.event_config import EventConfig
from mettagrid.config.filter import (
    ResourceFilter,
    SharedTagPrefixFilter,
    TagFilter,
    TagPrefixFilter,
    VibeFilter,
)
from mettagrid.config.game_value import InventoryValue, QueryInventoryValue, StatValue
from mettagrid.config.handler_config import AOEConfig
from mettagrid.config.mettagrid_config import (
    GameConfig,
    GridObjectConfig,
    InventoryConfig,
    MettaGridConfig,
    ResourceLimitsConfig,
    TerritoryConfig,
)
from mettagrid.config.mutation import (
    AddTagMutation,
    ChangeVibeMutation,
    ClearInventoryMutation,
    QueryInventoryMutation,
    RaycastSpawnMutation,
    RecomputeMaterializedQueryMutation,
    RemoveTagMutation,
    RemoveTagsWithPrefixMutation,
    ResourceDeltaMutation,
    ResourceTransferMutation,
    SpawnObjectMutation,
    StatsMutation,
)
from mettagrid.config.query import ClosureQuery, MaterializedQuery, Query
from mettagrid.config.raycast_query import RaycastQuery

from metta_cli.environments.handler_sites import agents_of, sections
from metta_cli.errors import suggestion

Problem = tuple[str, str]
"""What is wrong and where; what to do about it."""

# Where names stand: section, field, what its names are. A prefix must begin at least one name.
_REFERENCES: tuple[tuple[type, str, str], ...] = (
    (VibeFilter, "vibe", "vibe"),
    (ChangeVibeMutation, "vibe_name", "vibe"),
    (ResourceFilter, "resources", "resource"),
    (ResourceDeltaMutation, "deltas", "resource"),
    (ResourceTransferMutation, "resources", "resource"),
    (QueryInventoryMutation, "deltas", "resource"),
    (QueryInventoryMutation, "transfer_stats", "resource"),
    (AOEConfig, "presence_deltas", "resource"),
    (InventoryConfig, "initial", "resource"),
    (ResourceLimitsConfig, "resources", "resource"),
    (ResourceLimitsConfig, "modifiers", "resource"),
    (InventoryValue, "item", "resource"),
    (QueryInventoryValue, "item", "resource"),
    (ClearInventoryMutation, "limit_name", "limit of an agent"),
    (TagFilter, "tag", "tag"),
    (AddTagMutation, "tag", "tag"),
    (RemoveTagMutation, "tag", "tag"),
    (MaterializedQuery, "tag", "tag"),
    (Query, "source", "tag"),
    (ClosureQuery, "source", "tag"),
    (ClosureQuery, "candidates", "tag"),
    (RaycastQuery, "source", "tag"),
    (RaycastQuery, "directions", "direction"),
    (RaycastSpawnMutation, "directions", "direction"),
    (EventConfig, "target_query", "tag"),
    (EventConfig, "fallback", "event"),
    (TagPrefixFilter, "tag_prefix", "tag prefix"),
    (SharedTagPrefixFilter, "tag_prefix", "tag prefix"),
    (RemoveTagsWithPrefixMutation, "prefix", "tag prefix"),
    (TerritoryConfig, "tag_prefix", "tag prefix"),
    (GridObjectConfig, "on_tag_remove", "tag prefix"),
    (RecomputeMaterializedQueryMutation, "tag_prefix", "materialized tag prefix"),
    (SpawnObjectMutation, "object_type", "map name of an object"),
    (RaycastSpawnMutation, "object_type", "map name of an object"),
)
_RESOURCE_STATS = (".gained", ".lost", ".amount", ".deposited")


def unknown_names(config: MettaGridConfig) -> Iterator[Problem]:
    """Yield every name in the game that names nothing.

    Args:
        config: any configuration of MettaGrid.
    """
    game = config.game
    known = _known(game)
    written = {section.stat for _, section in _all(game) if isinstance(section, StatsMutation)}
    for agent in agents_of(game):
        written |= set(agent.initial_stats)
    for where, section in _all(game):
        for kind, field, name in _names(section):
            if not _is_known(kind, name, known[kind]):
                yield f"{where}.{field} names an unknown {kind} '{name}'", suggestion(name, known[kind])
        if isinstance(section, StatValue) and section.name not in written:
            resource = _resource_of(section.name)
            if resource is not None and resource not in known["resource"]:
                yield (
                    f"{where}.name: '{section.name}' counts an unknown resource '{resource}'",
                    suggestion(resource, known["resource"]),
                )


def _known(game: GameConfig) -> Mapping[str, set[str]]:
    """Return the names of each kind that there are."""
    tags = set(game.id_map().tag_names())
    materialized = {query.tag for query in game.materialize_queries}
    return {
        "resource": set(game.resource_names),
        "vibe": {vibe.name for vibe in game.actions.change_vibe.vibes},
        "tag": tags,
        "tag prefix": tags,
        "materialized tag prefix": materialized,
        "map name of an object": {thing.map_name for thing in game.objects.values()},
        "limit of an agent": {name for agent in agents_of(game) for name in agent.inventory.limits},
        "event": {*game.events, *(event.name for event in game.events.values())},
        "direction": {"north", "south", "west", "east"},
    }


def _all(game: GameConfig) -> Iterator[tuple[str, Any]]:
    """Yield every section of the game but the ones that MettaGrid does not read or checks itself."""
    skipped = {"map_builder", "render", "params", "reward_estimates", "talk"}
    skipped |= {"agent"} if game.agents else set()
    for name in type(game).model_fields:
        if name not in skipped:
            yield from sections(getattr(game, name), f"game.{name}")


def _names(section: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, field, name) of every name that a section refers to."""
    for owner, field, kind in _REFERENCES:
        if not isinstance(section, owner):
            continue
        if field == "source" and isinstance(section, MaterializedQuery):
            continue  # MettaGrid does not use it there
        for name in _as_names(getattr(section, field)):
            yield kind, field, name


def _as_names(value: Any) -> Iterable[str]:
    """Return the names in a field: one, the keys of a table, a list, or none where a query is nested."""
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, Mapping | list | tuple) else []


def _is_known(kind: str, name: str, known: set[str]) -> bool:
    if kind.endswith("prefix"):
        return any(candidate.startswith(name) for candidate in known)
    return name in known


def _resource_of(stat: str) -> str | None:
    """Return the resource whose automatic statistic this would be."""
    for ending in _RESOURCE_STATS:
        if stat.endswith(ending):
            return stat.removesuffix(ending)
    return None
