"""What the guard refuses, that it passes what is right, and that its reasons are true of MettaGrid."""

import pytest
from config_changes import (
    AGENTS,
    agent,
    drawn,
    event,
    expect_refusal,
    laser_tag,
    later,
    on_empty_cell,
    on_game_tick,
    on_move,
    on_use,
    put,
)
from mettagrid.config.filter import (
    TargetIsUsableFilter,
    TargetLocEmptyFilter,
    actorHas,
    anyOf,
    hasTag,
    isNot,
    targetHas,
)
from mettagrid.config.game_value import (
    InventoryValue,
    StatValue,
)
from mettagrid.config.handler_config import AllOf, FirstMatch, Handler
from mettagrid.config.mettagrid_config import (
    AgentConfig,
    GridObjectConfig,
    InventoryConfig,
    WallConfig,
)
from mettagrid.config.mutation import (
    AttackMutation,
    PushObjectMutation,
    RelocateMutation,
    SetGameValueMutation,
    SpawnObjectMutation,
    SwapMutation,
    logStat,
    logStatToGame,
    logTargetAgentStat,
    queryDelta,
    queryDeposit,
    removeTagPrefix,
    updateActor,
    updateTarget,
    withdraw,
)
from mettagrid.config.query import query
from mettagrid.config.vibes import Vibe

from metta_cli.environments.guard import check


@pytest.fixture
def config():
    return laser_tag()


# What is refused, a part of the message, and the nearest thing that is not refused.
RULES = {
    "even window": (put("obs.width", 10), "game.obs.width is 10", put("obs.width", 9)),
    "even height": (put("obs.height", 8), "game.obs.height is 8", put("obs.height", 7)),
    "window too large": (put("obs.width", 17), "game.obs.width is 17", put("obs.width", 15)),
    "no window": (put("obs.height", 0), "game.obs.height is 0", put("obs.height", 1)),
    "negative window": (put("obs.height", -1), "game.obs.height is -1", put("obs.height", 3)),
    "token base 1": (
        put("obs.token_value_base", 1),
        "token_value_base is 1",
        put("obs.token_value_base", 16),
    ),
    "token base 300": (put("obs.token_value_base", 300), "is 300", put("obs.token_value_base", 255)),
    "token dim": (put("obs.token_dim", 4), "token_dim is 4", put("obs.token_dim", 3)),
    "no noop": (put("actions.noop.enabled", False), "game.actions.noop is disabled", put("max_steps", 7)),
    "no move": (put("actions.move.enabled", False), "game.actions.move is disabled", put("max_steps", 7)),
    "no directions": (
        put("actions.move.allowed_directions", []),
        "allowed_directions is empty",
        put("actions.move.allowed_directions", ["east", "northwest"]),
    ),
    "a direction twice": (
        put("actions.move.allowed_directions", ["east", "east"]),
        "'east' occurs 2 times",
        put("actions.move.allowed_directions", ["east"]),
    ),
    "attack action": (put("actions.attack.enabled", True), "MettaGrid never attacks", put("max_steps", 7)),
    "price of an action": (
        put("actions.move.consumed_resources", {"laser": 1}),
        "game.actions.move has consumed_resources",
        put("actions.move.consumed_resources", {}),
    ),
    "requirement of an action": (
        put("actions.noop.required_resources", {"laser": 1}),
        "game.actions.noop has consumed_resources or required_resources",
        put("actions.noop.required_resources", {}),
    ),
    "a vibe twice": (
        put("actions.change_vibe.vibes", [Vibe("x", "laser"), Vibe("y", "laser")]),
        "'laser' occurs 2 times",
        put("actions.change_vibe.vibes", [Vibe("x", "laser"), Vibe("y", "other")]),
    ),
    "a move handler as a table": (
        lambda config: config.game.actions.move.handlers.append({"name": "x"}),
        "game.actions.move.handlers[4] is a dict",
        lambda config: config.game.actions.move.handlers.append(Handler(name="x")),
    ),
    "a composite move handler": (
        lambda config: config.game.actions.move.handlers.append(FirstMatch()),
        "is a FirstMatch",
        lambda config: config.game.actions.move.handlers.append(Handler()),
    ),
    "a move handler's name twice": (
        lambda config: config.game.actions.move.handlers.append(Handler(name="attack_hit")),
        "'attack_hit' occurs 2 times",
        lambda config: config.game.actions.move.handlers.append(Handler(name="attack_hits")),
    ),
    "a resource twice": (
        lambda config: config.game.resource_names.append("heart"),
        "'heart' occurs 2 times",
        lambda config: config.game.resource_names.append("hearts"),
    ),
    "a map name twice": (
        put("objects.new", GridObjectConfig(name="new", map_name="altar")),
        "game.objects: map_name: 'altar' occurs 2 times",
        put("objects.new", GridObjectConfig(name="new")),
    ),
    "a long name": (
        put("objects.new", GridObjectConfig(name="n" * 21)),
        "longer than 20 characters",
        put("objects.new", GridObjectConfig(name="n" * 21, map_name="n" * 20)),
    ),
    "a vibe that is not there": (
        put("objects.altar.vibe", 2),
        "game.objects.altar.vibe is 2, but there are 2 vibes",
        put("objects.altar.vibe", 1),
    ),
    "an agent's vibe that is not there": (agent(vibe=9), "game.agents[0].vibe is 9", agent(vibe=1)),
    "too many resources": (
        put("resource_names", ["heart", "laser", "armor", "frozen", *map(str, range(119))]),
        "123 resources make 258 observation features",
        put("resource_names", ["heart", "laser", "armor", "frozen", *map(str, range(118))]),
    ),
    "agents that are not listed": (
        put("num_agents", 9),
        "game.agents lists 8 agents, but game.num_agents is 9",
        put("num_agents", 8),
    ),
    "an endless episode": (put("max_steps", 0), "the episode never ends", put("max_steps", 1)),
    "handlers of an object": (
        put("objects.altar.handlers", {"use": Handler()}),
        "game.objects.altar.handlers: MettaGrid ignores it",
        put("objects.altar.on_use_handler", Handler()),
    ),
    "inventory of a wall": (
        put("objects.wall", WallConfig(inventory=InventoryConfig(initial={"laser": 1}))),
        "game.objects.wall.inventory: a WallConfig has none",
        put("objects.wall", GridObjectConfig(name="wall", inventory=InventoryConfig(initial={"laser": 1}))),
    ),
    "attack mutation": (
        later(on_use, mutations=[AttackMutation()]),
        "game.objects.altar.on_use_handler.mutations[0]: MettaGrid drops AttackMutation",
        later(on_use, mutations=[withdraw({"heart": 1})]),
    ),
    "goal tokens": (
        put("obs.global_obs.goal_obs", True),
        "goal_obs",
        put("obs.global_obs.last_reward", True),
    ),
    "an event that never comes": (
        later(event, timesteps=[]),
        "game.events.new.timesteps is empty",
        later(event, timesteps=[1]),
    ),
    "an agent for all beside a list": (
        put("agent", AgentConfig(vibe=1)),
        "game.agent is ignored",
        put("agent", AgentConfig()),
    ),
    "an end by statistics": (
        put("end_episode_on_game_stats", {"attack.hit": 1.0}),
        "end_episode_on_game_stats",
        put("end_episode_on_game_stats", {}),
    ),
    "talk": (put("talk.enabled", True), "game.talk.enabled", put("talk.enabled", False)),
    "area mask": (put("obs.aoe_mask", True), "game.obs.aoe_mask", put("obs.aoe_mask", False)),
    "territory tokens": (put("obs.territory", True), "game.obs.territory", put("obs.territory", False)),
    "last_action_move": (
        put("obs.global_obs.last_action_move", True),
        "last_action_move",
        put("obs.global_obs.last_action", False),
    ),
    "few tokens": (put("obs.num_tokens", 171), "can see up to 172 tokens", put("obs.num_tokens", 172)),
    # Nothing to act on.
    "target of an empty cell": (
        later(on_empty_cell, mutations=[updateTarget({"laser": 1})]),
        "handlers[4].mutations[0]: ResourceDeltaMutation acts on target, but there is no target",
        later(on_empty_cell, mutations=[updateActor({"laser": 1})]),
    ),
    "transfer from an empty cell": (
        later(on_empty_cell, mutations=[withdraw({"laser": 1})]),
        "ResourceTransferMutation acts on target",
        later(on_empty_cell, mutations=[RelocateMutation()]),
    ),
    "tags of an empty cell": (
        later(on_empty_cell, mutations=[removeTagPrefix("team:")]),
        "RemoveTagsWithPrefixMutation acts on target",
        later(on_empty_cell, mutations=[SpawnObjectMutation(object_type="block")]),
    ),
    "swap with an empty cell": (
        later(on_empty_cell, mutations=[SwapMutation()]),
        "SwapMutation acts on target",
        later(on_move, mutations=[SwapMutation()]),
    ),
    "statistic of an empty cell": (
        later(on_empty_cell, mutations=[logTargetAgentStat("walked")]),
        "StatsMutation acts on target",
        later(on_empty_cell, mutations=[logStatToGame("walked")]),
    ),
    "filter on an empty cell": (
        later(on_empty_cell, isNot(targetHas({"laser": 1}))),
        "handlers[4].filters[1]: NotFilter acts on target",
        later(on_empty_cell, isNot(actorHas({"laser": 1}))),
    ),
    "empty cell inside a not": (
        later(on_move, isNot(TargetLocEmptyFilter())),
        "handlers[4].filters[0].inner: TargetLocEmptyFilter works only directly",
        later(on_move, TargetLocEmptyFilter()),
    ),
    "empty cell in an object's handler": (
        later(on_use, TargetLocEmptyFilter()),
        "game.objects.altar.on_use_handler.filters[0]: TargetLocEmptyFilter works only",
        later(on_use),
    ),
    "usable inside an or": (
        later(on_move, anyOf([TargetIsUsableFilter()])),
        "TargetIsUsableFilter works only directly",
        later(on_move, TargetIsUsableFilter()),
    ),
    "actor of the game's tick": (
        later(on_game_tick, mutations=[updateActor({"laser": 1})]),
        "game.on_tick.mutations[0]: ResourceDeltaMutation acts on actor, but there is neither",
        later(on_game_tick, mutations=[queryDelta(query(AGENTS), {"laser": 1})]),
    ),
    "actor as source in the game's tick": (
        later(on_game_tick, mutations=[queryDeposit(query("type:altar"), {"heart": 1})]),
        "QueryInventoryMutation acts on actor",
        later(on_game_tick, mutations=[queryDelta(query("type:altar"), {"heart": 1})]),
    ),
    "filter in the game's tick": (
        later(on_game_tick, actorHas({"laser": 1})),
        "game.on_tick.filters[0]: ResourceFilter acts on actor",
        later(on_game_tick, mutations=[logStatToGame("ticks")]),
    ),
    "agent's value in the game's tick": (
        later(on_game_tick, mutations=[logStat("lasers", source=InventoryValue(item="laser"))]),
        "StatsMutation acts on target",
        later(on_game_tick, mutations=[logStat("lasers", source=StatValue(name="attack.hit", scope="game"))]),
    ),
    "agent's value set in the game's tick": (
        later(on_game_tick, mutations=[SetGameValueMutation(value=InventoryValue(item="laser"), delta=1)]),
        "SetGameValueMutation acts on actor",
        later(
            on_game_tick, mutations=[SetGameValueMutation(value=StatValue(name="n", scope="game"), delta=1)]
        ),
    ),
    "push in a nested tick": (
        put(
            "on_tick",
            AllOf(handlers=[Handler(), FirstMatch(handlers=[Handler(mutations=[PushObjectMutation()])])]),
        ),
        "game.on_tick.handlers[1].handlers[0].mutations[0]: PushObjectMutation acts on actor and target",
        put("on_tick", AllOf(handlers=[Handler(), FirstMatch(handlers=[Handler()])])),
    ),
    "spawn in the game's tick": (
        later(on_game_tick, mutations=[SpawnObjectMutation(object_type="block")]),
        "SpawnObjectMutation acts on a place",
        later(on_game_tick),
    ),
    # What only MettaGrid's converter finds.
    "agents of a team with different tags": (
        lambda config: setattr(config.game.agents[0], "tags", ["team:red", "type:wall"]),
        "MettaGrid refuses it: ValueError: All agents in team 0 must have identical tags",
        lambda config: None,
    ),
    "too many tags": (
        put("tags", [f"tag:{number}" for number in range(256)]),
        "MettaGrid refuses it: ValueError: Too many unique tags",
        put("tags", [f"tag:{number}" for number in range(240)]),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_bad_configuration_is_refused_and_a_good_one_passes(rule):
    expect_refusal(*RULES[rule])


def test_checking_leaves_the_configuration_alone(config):
    before = config.model_dump()
    check(config, "my/game")
    assert config.model_dump() == before


# The reasons are true: should a new MettaGrid mend one of these, its rule can go.


def test_a_filter_on_an_unknown_tag_lets_everybody_through(config, start_episode):
    grid = start_episode(drawn(config, "@_"))
    on_use(config, hasTag("team:rde"), mutations=[updateActor({"laser": 2})])
    grid = start_episode(config)
    grid.actions()[:] = 4
    grid.step()
    assert grid.get_agent_stat(0, "laser.gained") == 2


def test_of_two_move_handlers_with_one_name_only_the_last_acts(config, start_episode):
    drawn(config, "#@_")
    take = [
        Handler(name="same", mutations=[updateActor({"laser": 2})]),
        Handler(name="same", mutations=[updateActor({"armor": 3})]),
    ]
    config.game.actions.move.handlers = take
    grid = start_episode(config)
    grid.actions()[:] = 4
    grid.step()
    assert not grid.get_agent_stat(0, "laser.gained")
    assert grid.get_agent_stat(0, "armor.gained") == 3


def test_a_move_costs_nothing(config, start_episode):
    drawn(config, "@...")
    config.game.actions.move.consumed_resources = {"heart": 1}
    grid = start_episode(config)
    grid.actions()[:] = 4
    grid.step()
    assert grid.get_agent_stat(0, "heart.amount") == 1
    assert grid.get_agent_stat(0, "action.move.success") == 1
