"""Where a game has handlers, and what they act on.

A handler is a list of filters and of mutations. Both speak of an *actor* and of a *target*; what these
are depends on where the handler stands, and in some places they do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mettagrid.config.filter import (
    GameValueFilter,
    MaxDistanceFilter,
    NotFilter,
    OrFilter,
    SharedTagPrefixFilter,
    TagFilter,
    TargetIsUsableFilter,
)
from mettagrid.config.game_value import InventoryValue, Scope, StatValue
from mettagrid.config.handler_config import AllOf, FirstMatch, Handler
from mettagrid.config.mettagrid_config import AgentConfig, GameConfig, GridObjectConfig
from mettagrid.config.mutation import (
    PushObjectMutation,
    QueryInventoryMutation,
    RaycastSpawnMutation,
    RelocateMutation,
    ResourceTransferMutation,
    SetGameValueMutation,
    SetRelativeTargetMutation,
    StatsMutation,
    StatsTarget,
    SwapMutation,
    UseTargetMutation,
)
from mettagrid.config.query import Query
from pydantic import BaseModel

Entity = Literal["actor", "target"]
Types = frozenset[str] | None
"""Names of object types; None where it can be any."""
Kind = Literal[
    "move", "use", "after_use", "agent_tick", "game_tick", "event", "area", "territory", "tag_remove"
]

_BOTH: frozenset[Entity] = frozenset({"actor", "target"})
_ACTOR: frozenset[Entity] = frozenset({"actor"})
_TARGET: frozenset[Entity] = frozenset({"target"})
_TYPE_TAG = "type:"


@dataclass(frozen=True)
class HandlerSite:
    """One handler of a game.

    Attributes:
        where: its place, as `game.objects.altar.on_use_handler`.
        kind: when MettaGrid runs it.
        handler: the filters and mutations.
        actor: types that the actor can have.
        target: types that the target can have.
    """

    where: str
    kind: Kind
    handler: Handler
    actor: Types
    target: Types


def agents_of(game: GameConfig) -> list[AgentConfig]:
    """Return the agents that are listed, or the one that stands for all."""
    return list(game.agents) or [game.agent]


def handler_sites(game: GameConfig) -> Iterator[HandlerSite]:
    """Yield every handler of the game that MettaGrid runs."""
    agents = frozenset(agent.name for agent in agents_of(game))
    for index, handler in enumerate(game.actions.move.handlers):
        if isinstance(handler, Handler):
            yield _site(f"game.actions.move.handlers[{index}]", "move", handler, agents, None)
    for key, thing in game.objects.items():
        yield from _of_object(f"game.objects.{key}", thing, agents)
    for where, agent in _agents_with_place(game):
        yield from _of_object(where, agent, agents)
        own = frozenset({agent.name})
        yield from _nested(f"{where}.on_tick", "agent_tick", agent.on_tick, own, own)
        yield from _nested(
            f"{where}.on_after_use_handler", "after_use", agent.on_after_use_handler, own, None
        )
    for key, event in game.events.items():
        found = _types_of_query(event.target_query)
        yield _site(f"game.events.{key}", "event", event, found, found)
    for key, territory in game.territories.items():
        for moment in ("on_enter", "on_exit", "presence"):
            for name, handler in getattr(territory, moment).items():
                yield _site(f"game.territories.{key}.{moment}.{name}", "territory", handler, None, None)
    yield from _nested("game.on_tick", "game_tick", game.on_tick, None, None)


def entities(part: BaseModel) -> frozenset[Entity]:
    """Return whether a filter or a mutation needs an actor, a target, both or neither."""
    if isinstance(part, NotFilter):
        return entities(part.inner)
    if isinstance(part, OrFilter):
        return frozenset().union(*(entities(inner) for inner in part.inner))
    if isinstance(part, MaxDistanceFilter):
        return _TARGET if part.query is not None else _BOTH
    if isinstance(part, SharedTagPrefixFilter | SwapMutation | UseTargetMutation | PushObjectMutation):
        return _BOTH
    if isinstance(part, TargetIsUsableFilter | RaycastSpawnMutation):
        return _TARGET
    if isinstance(part, RelocateMutation | SetRelativeTargetMutation):
        return _ACTOR
    if isinstance(part, ResourceTransferMutation):
        return _entity(part.from_target) | _entity(part.to_target)
    if isinstance(part, QueryInventoryMutation):
        return frozenset() if part.source is None else _entity(part.source)
    if isinstance(part, StatsMutation):
        needed = part.target == StatsTarget.AGENT or _reads_agent(part.source)
        return _entity(part.entity) if needed else frozenset()
    if isinstance(part, SetGameValueMutation):
        needed = _reads_agent(part.value) or _reads_agent(part.source)
        return _entity(part.target) if needed else frozenset()
    if isinstance(part, GameValueFilter):
        needed = _reads_agent(part.value) or _reads_agent(part.min)
        return _entity(part.target) if needed else frozenset()
    target = getattr(part, "target", None)
    return frozenset() if target is None else _entity(target)


def sections(part: Any, where: str) -> Iterator[tuple[str, BaseModel]]:
    """Yield every pydantic section in `part`, itself included, with its place; outermost first."""
    if isinstance(part, BaseModel):
        yield where, part
        for name in type(part).model_fields:
            yield from sections(getattr(part, name), f"{where}.{name}")
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from sections(value, f"{where}.{key}")
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from sections(value, f"{where}[{index}]")


def _agents_with_place(game: GameConfig) -> list[tuple[str, AgentConfig]]:
    if not game.agents:
        return [("game.agent", game.agent)]
    return [(f"game.agents[{index}]", agent) for index, agent in enumerate(game.agents)]


def _of_object(where: str, thing: GridObjectConfig, agents: frozenset[str]) -> Iterator[HandlerSite]:
    """Yield the handlers that agents and other objects have in common."""
    own = frozenset({thing.name})
    yield from _nested(f"{where}.on_use_handler", "use", thing.on_use_handler, agents, own)
    for name, area in thing.aoes.items():
        yield _site(f"{where}.aoes.{name}", "area", area, own, None)
    for prefix, handler in thing.on_tag_remove.items():
        yield _site(f"{where}.on_tag_remove.{prefix}", "tag_remove", handler, None, None)


def _nested(where: str, kind: Kind, handler: Any, actor: Types, target: Types) -> Iterator[HandlerSite]:
    """Yield a handler, or every handler of a composite one."""
    if isinstance(handler, FirstMatch | AllOf):
        for index, inner in enumerate(handler.handlers):
            yield from _nested(f"{where}.handlers[{index}]", kind, inner, actor, target)
    elif handler is not None:
        yield _site(where, kind, handler, actor, target)


def _site(where: str, kind: Kind, handler: Handler, actor: Types, target: Types) -> HandlerSite:
    """Return the site, with the types narrowed by `type:NAME` filters of the handler itself."""
    found: dict[str, Types] = {"actor": actor, "target": target}
    for condition in handler.filters:
        if isinstance(condition, TagFilter) and condition.tag.startswith(_TYPE_TAG):
            found[condition.target.value] = frozenset({condition.tag.removeprefix(_TYPE_TAG)})
    return HandlerSite(where, kind, handler, found["actor"], found["target"])


def _types_of_query(found: Any) -> Types:
    source = found.source if type(found) is Query else found
    if isinstance(source, str) and source.startswith(_TYPE_TAG):
        return frozenset({source.removeprefix(_TYPE_TAG)})
    return None


def _entity(reference: Any) -> frozenset[Entity]:
    return _ACTOR if reference.value == "actor" else _TARGET


def _reads_agent(value: Any) -> bool:
    """Whether a game value is one of an agent, which then must exist."""
    own = (
        inner
        for _, inner in sections(value, "")
        if isinstance(inner, InventoryValue | StatValue) and inner.scope == Scope.AGENT
    )
    return any(own)
