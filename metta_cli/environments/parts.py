"""The pieces that the games are built from: stations, rewards, freezing and lasers.

MettaGrid 0.26 has no converters, no attack action and no freezing. A station is an object with an
`on_use_handler`, a laser and the freezing it causes are handlers of the move action.
"""

from __future__ import annotations

from mettagrid.config.event_config import EventConfig, periodic
from mettagrid.config.filter import (
    AnyFilter,
    TargetLocEmptyFilter,
    actorHas,
    actorVibe,
    isA,
    isNot,
    maxDistance,
    sharedTagPrefix,
    targetHas,
    typeTag,
)
from mettagrid.config.game_value import StatValue, SumGameValue
from mettagrid.config.handler_config import Handler
from mettagrid.config.mettagrid_config import (
    ActionsConfig,
    AgentConfig,
    AgentReward,
    ChangeVibeActionConfig,
    GridObjectConfig,
    InventoryConfig,
    MoveActionConfig,
    NoopActionConfig,
    ResourceLimitsConfig,
)
from mettagrid.config.mutation import (
    AnyMutation,
    logActorAgentStat,
    logStatToGame,
    logTargetAgentStat,
    updateActor,
    updateTarget,
    withdraw,
)
from mettagrid.config.query import query
from mettagrid.config.vibes import Vibe

CARRY_LIMIT = 50
"""How much of one resource an agent carries where the game does not say otherwise."""
HEART_LIMIT = 255
"""Hearts an agent can hold; as many as one observation token can count."""
TEAM_NAMES = ("red", "blue", "green", "yellow", "purple", "orange")
"""Teams in the order of their ids; MettaGrid knows no seventh name."""
LASER_VIBE = "laser"
"""Who shows this vibe shoots where it would otherwise walk."""
VIBES = ("default", LASER_VIBE)
"""All vibes, in the order of their indices."""
SYMBOLS = {
    "wall": "\u2b1b",
    "block": "\U0001f4e6",
    "altar": "\u2764\ufe0f",
    "lasery": "\U0001f52b",
    "armory": "\U0001f537",
    "mine_red": "\U0001f53a",
    "generator_red": "\U0001f50b",
}
"""Object name -> character of the terminal rendering."""


def net_gain(resource: str, weight: float) -> AgentReward:
    """Pay `weight` per unit gained and take it back per unit lost.

    A reward on the inventory itself would pay the initial inventory out in the first step.
    """
    gained, lost = StatValue(name=f"{resource}.gained"), StatValue(name=f"{resource}.lost")
    return AgentReward(reward=SumGameValue(values=[gained, lost], weights=[weight, -weight]))


def inventory(default_limit: int, limits: dict[str, int], initial: dict[str, int]) -> InventoryConfig:
    """Return an inventory with one limit per resource named, and `default_limit` for all others."""
    return InventoryConfig(
        default_limit=default_limit,
        limits={name: ResourceLimitsConfig(base=limit, resources=[name]) for name, limit in limits.items()},
        initial={name: amount for name, amount in initial.items() if amount},
    )


def dispenser(name: str, resource: str, *, stock: int, capacity: int, map_name: str = "") -> GridObjectConfig:
    """Return a station that gives one unit of its stock to whoever walks into it.

    Args:
        name: type of the object.
        resource: what it gives.
        stock: units it holds at the start.
        capacity: units it can hold, which is where restocking stops.
        map_name: its name in the cells of the map, where that differs from `name`.
    """
    take = Handler(
        name=f"take_{resource}",
        filters=[targetHas({resource: 1})],
        mutations=[withdraw({resource: 1}), logActorAgentStat(f"{name}.used")],
    )
    held = inventory(0, {resource: capacity}, {resource: stock})
    return GridObjectConfig(name=name, map_name=map_name, inventory=held, on_use_handler=take)


def converter(name: str, inputs: dict[str, int], outputs: dict[str, int]) -> GridObjectConfig:
    """Return a station that turns `inputs` into `outputs` when someone who has them walks into it."""
    change = {resource: -amount for resource, amount in inputs.items()} | outputs
    convert = Handler(
        name=f"convert_{name}",
        filters=[actorHas(inputs)],
        mutations=[updateActor(change), logActorAgentStat(f"{name}.used")],
    )
    return GridObjectConfig(name=name, on_use_handler=convert)


def restock(station: str, resource: str, *, every_steps: int, max_steps: int) -> dict[str, EventConfig]:
    """Return the event that adds one unit to every such station, or none if it would never come.

    Args:
        station: type of the objects.
        resource: what they get.
        every_steps: steps between two units; 0 is never.
        max_steps: length of an episode.
    """
    steps = periodic(every_steps, every_steps, max_steps) if every_steps else []
    event = EventConfig(
        name=f"restock_{station}",
        target_query=query(typeTag(station)),
        timesteps=steps,
        mutations=[updateTarget({resource: 1})],
    )
    return {event.name: event} if steps else {}


def walking() -> ActionsConfig:
    """Return the actions of a peaceful game: noop and four moves; moving into an object uses it."""
    return ActionsConfig(
        noop=NoopActionConfig(),
        move=MoveActionConfig(),
        change_vibe=ChangeVibeActionConfig(enabled=False, vibes=_vibes()),
    )


def walking_and_shooting(laser_range: int, freeze_steps: int, loot: list[str]) -> ActionsConfig:
    """Return noop, four moves and the vibe that turns a move into a shot.

    Handlers of a move are tried in order before MettaGrid's own (walk, use). The radius of a
    `maxDistance` filter is also how far the line in the move's direction is searched, and the first
    object on that line is the target: walls and team mates stop a laser.

    Args:
        laser_range: cells that a shot reaches.
        freeze_steps: how long the victim stands still; it cannot be shot again while it does.
        loot: resources of the victim that go to the shooter. A block costs the shooter the laser
            and the target one armor, and nothing else happens.
    """
    aim = [
        actorVibe(LASER_VIBE),
        actorHas({"laser": 1}),
        isA("agent"),
        isNot(sharedTagPrefix("team:")),
        isNot(targetHas({"frozen": 1})),
        maxDistance(laser_range),
    ]
    armored = targetHas({"armor": 1})
    handlers = [
        # MettaGrid offers an empty cell only to a handler that asks for one, hence two of them.
        Handler(name="frozen_before_empty", filters=[_frozen(), TargetLocEmptyFilter()]),
        Handler(name="frozen_before_object", filters=[_frozen()]),
        Handler(name="attack_blocked", filters=[*aim, armored], mutations=_blocked()),
        Handler(name="attack_hit", filters=[*aim, isNot(armored)], mutations=_hit(freeze_steps, loot)),
    ]
    return ActionsConfig(
        noop=NoopActionConfig(),
        move=MoveActionConfig(handlers=handlers),
        change_vibe=ChangeVibeActionConfig(vibes=_vibes()),
    )


def team_agents(
    teams: int, agents_per_team: int, held: InventoryConfig, rewards: dict[str, AgentReward], *, combat: bool
) -> list[AgentConfig]:
    """Return the agents of every team, tagged `team:NAME`; in combat each thaws by one step per step."""
    thaw = Handler(name="thaw", filters=[_frozen()], mutations=[updateActor({"frozen": -1})])
    return [
        AgentConfig(
            team_id=team,
            tags=[f"team:{TEAM_NAMES[team]}"],
            inventory=held,
            rewards=rewards,
            on_tick=thaw if combat else None,
        )
        for team in range(teams)
        for _ in range(agents_per_team)
    ]


def _vibes() -> list[Vibe]:
    return [Vibe(symbol, name) for symbol, name in zip("\U0001f610\U0001f52b", VIBES, strict=True)]


def _frozen() -> AnyFilter:
    return actorHas({"frozen": 1})


def _blocked() -> list[AnyMutation]:
    return [
        updateActor({"laser": -1}),
        updateTarget({"armor": -1}),
        logActorAgentStat("attack.blocked"),
        logTargetAgentStat("attack.defended"),
        logStatToGame("attack.blocked"),
    ]


def _hit(freeze_steps: int, loot: list[str]) -> list[AnyMutation]:
    return [
        updateActor({"laser": -1}),
        updateTarget({"frozen": freeze_steps}),
        withdraw(dict.fromkeys(loot, -1)),  # -1 is all of it
        logActorAgentStat("attack.hit"),
        logTargetAgentStat("attack.hit_by"),
        logStatToGame("attack.hit"),
    ]
