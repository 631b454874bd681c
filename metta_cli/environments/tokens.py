"""The most observation tokens that an agent can ever need.

One token too many and MettaGrid raises out of `step()`, again in every later step, so the room for them
must be enough for the worst case and not for the usual one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from mettagrid.config.game_value import InventoryValue
from mettagrid.config.handler_config import AOEConfig
from mettagrid.config.mettagrid_config import (
    AgentConfig,
    GameConfig,
    GridObjectConfig,
    InventoryConfig,
    MettaGridConfig,
    WallConfig,
)
from mettagrid.config.mutation import (
    AddTagMutation,
    ChangeVibeMutation,
    QueryInventoryMutation,
    RaycastSpawnMutation,
    ResourceDeltaMutation,
    ResourceTransferMutation,
    SetGameValueMutation,
    SetRelativeTargetMutation,
    SpawnObjectMutation,
    UseTargetMutation,
)

from metta_cli.environments.handler_sites import HandlerSite, Types, handler_sites, sections
from metta_cli.environments.map_objects import most_objects

_INVENTORY_MAX = 2**16 - 1
_GAME_VALUE_MAX = 2**32 - 1
_AGENT_TOKENS = 2  # agent:group, agent_id
_POSITION_TOKENS = 2  # at most one of east and west, one of north and south


def token_bound(config: MettaGridConfig) -> int:
    """Return an upper bound on the tokens that one agent sees at once.

    The worst window: all agents are in it, and the other cells hold the objects with the most tokens, as
    many of each as a map can have. Every object shows everything that it could ever hold.

    Args:
        config: any configuration of MettaGrid.

    Returns:
        The bound; `game.obs.num_tokens` of at least this never overflows.
    """
    game = config.game
    gains = _Gains(game)
    cells: list[tuple[int, float]] = [(gains.of_agent(agent), 1) for agent in _every_agent(game)]
    most = most_objects(game.map_builder)
    for thing in game.objects.values():
        count = math.inf if most is None else most.get(thing.map_name, 0)
        cells.append((gains.of_object(thing), math.inf if thing.map_name in gains.spawned else count))
    free = visible_cells(game.obs.width, game.obs.height)
    total = _global_tokens(game)
    for tokens, count in sorted(cells, reverse=True):
        taken = min(count, free)
        total += tokens * int(taken)
        free -= int(taken)
    return total


def visible_cells(width: int, height: int) -> int:
    """Return how many cells of a window an agent sees: MettaGrid cuts off the corners.

    What is left is an ellipse; of a square window from 5x5 on a circle, each of whose four tips is three
    cells wide. An agent in a window of 11x11 sees 89 of its 121 cells.

    Args:
        width: columns of the window, odd.
        height: rows of the window, odd.
    """
    down, right = height // 2, width // 2
    offsets = [(row, column) for row in range(-down, down + 1) for column in range(-right, right + 1)]
    inside = sum((row * right) ** 2 + (column * down) ** 2 <= (down * right) ** 2 for row, column in offsets)
    return inside + (8 if down == right > 1 else 0)


def _every_agent(game: GameConfig) -> list[AgentConfig]:
    return list(game.agents) or [game.agent] * game.num_agents


def _global_tokens(game: GameConfig) -> int:
    """Count the tokens without a place; a game value can take up to four bytes."""
    shown = game.obs.global_obs
    flags = (shown.episode_completion_pct, shown.last_action, shown.last_action_move, shown.last_reward)
    position = _POSITION_TOKENS if shown.local_position else 0
    values = len(shown.obs) * _digits(_GAME_VALUE_MAX, game.obs.token_value_base)
    return sum(map(bool, flags)) + position + values


def _digits(amount: int, base: int) -> int:
    """Count the tokens that write an amount, one per digit."""
    digits = 1
    while amount >= base:
        amount //= base
        digits += 1
    return digits


class _Gains:
    """What the mutations of a game can add to an object beyond what it starts with.

    Args:
        game: the game.
    """

    def __init__(self, game: GameConfig) -> None:
        self._base = game.obs.token_value_base
        self._resources = list(game.resource_names)
        self._tags = {query.tag for query in game.materialize_queries}
        self._everywhere: set[str] = set()
        self._by_type: dict[str, set[str]] = {}
        self._vibes_change = False
        self._agents_change_vibe = (
            game.actions.change_vibe.enabled and len(game.actions.change_vibe.vibes) > 1
        )
        self._redirected = False
        self.spawned: set[str] = set()
        for site in handler_sites(game):
            self._read(site)
        if self._redirected:  # then the types at a site say nothing about who is acted on
            self._everywhere.update(*self._by_type.values())

    def of_agent(self, agent: AgentConfig) -> int:
        """Count the tokens of an agent that holds some of everything."""
        vibe = self._agents_change_vibe or self._vibes_change or agent.vibe != 0
        held = sum(
            self._held(agent.inventory, name, agent.inventory.default_limit) for name in self._resources
        )
        return self._tag_tokens(agent) + vibe + held + _AGENT_TOKENS

    def of_object(self, thing: GridObjectConfig) -> int:
        """Count the tokens of an object that holds everything it has at the start or can be given."""
        own = InventoryConfig() if isinstance(thing, WallConfig) else thing.inventory
        listed = {name for limit in own.limits.values() for name in limit.resources}
        names = listed | set(own.initial) | self._everywhere | self._by_type.get(thing.name, set())
        # An object takes any amount of a resource that none of its limits names.
        held: int = sum(self._held(own, name, _INVENTORY_MAX) for name in names)
        return self._tag_tokens(thing) + (self._vibes_change or thing.vibe != 0) + held

    def _tag_tokens(self, thing: GridObjectConfig) -> int:
        return len({*thing.tags, f"type:{thing.name}"} | self._tags)

    def _held(self, inventory: InventoryConfig, name: str, default: int) -> int:
        """Count the tokens of one resource at the most that the inventory takes."""
        limits = (limit for limit in inventory.limits.values() if name in limit.resources)
        most = [max(limit.base, limit.max if limit.modifiers else 0) for limit in limits] or [default]
        amount = max(*most, inventory.initial.get(name, 0))
        return _digits(amount, self._base) if amount else 0

    def _read(self, site: HandlerSite) -> None:
        """Note what one handler can give to whom."""
        if isinstance(site.handler, AOEConfig):
            self._give(site.target, site.handler.presence_deltas)
        for _, mutation in sections(site.handler.mutations, ""):
            if isinstance(mutation, AddTagMutation):
                self._tags.add(mutation.tag)
            elif isinstance(mutation, ChangeVibeMutation):
                self._vibes_change = True
            elif isinstance(mutation, SpawnObjectMutation | RaycastSpawnMutation):
                self.spawned.add(mutation.object_type)
            elif isinstance(mutation, SetRelativeTargetMutation | UseTargetMutation):
                self._redirected = True
            for receiver, names in _given(mutation, site):
                self._give(receiver, names)

    def _give(self, receiver: Types, names: Iterable[str]) -> None:
        if receiver is None:
            self._everywhere.update(names)
            return
        for kind in receiver:
            self._by_type.setdefault(kind, set()).update(names)


def _given(mutation: object, site: HandlerSite) -> Iterator[tuple[Types, Iterable[str]]]:
    """Yield who can receive which resources from a mutation."""
    types: dict[str, Types] = {"actor": site.actor, "target": site.target}
    if isinstance(mutation, ResourceDeltaMutation):
        yield types[mutation.target.value], [name for name, delta in mutation.deltas.items() if delta > 0]
    elif isinstance(mutation, ResourceTransferMutation):
        yield types[mutation.to_target.value], mutation.resources
    elif isinstance(mutation, SetGameValueMutation) and isinstance(mutation.value, InventoryValue):
        yield types[mutation.target.value], [mutation.value.item]
    elif isinstance(mutation, QueryInventoryMutation):
        yield None, mutation.deltas
