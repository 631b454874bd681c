"""Names in a game that name nothing."""

import pytest
from config_changes import (
    AGENTS,
    agent,
    event,
    expect_refusal,
    laser_tag,
    later,
    limits,
    on_empty_cell,
    on_move,
    on_use,
    put,
    reward,
)
from mettagrid.config.filter import (
    TagFilter,
    actorHas,
    actorVibe,
    anyOf,
    hasTagPrefix,
    isNear,
    isNot,
    sharedTagPrefix,
    targetHas,
)
from mettagrid.config.game_value import (
    InventoryValue,
    QueryInventoryValue,
    StatValue,
    SumGameValue,
)
from mettagrid.config.handler_config import AOEConfig, Handler
from mettagrid.config.mettagrid_config import (
    InventoryConfig,
)
from mettagrid.config.mutation import (
    ClearInventoryMutation,
    RaycastSpawnMutation,
    SpawnObjectMutation,
    addTag,
    changeTargetVibe,
    logStatToGame,
    queryDelta,
    recomputeMaterializedQuery,
    removeTagPrefix,
    updateActor,
    withdraw,
)
from mettagrid.config.query import closureQuery, materializedQuery, query
from mettagrid.config.raycast_query import RaycastQuery
from mettagrid.config.territory_config import TerritoryConfig

from metta_cli.environments.guard import check
from metta_cli.errors import ConfigError


@pytest.fixture
def config():
    return laser_tag()


# What is refused, a part of the message, and the nearest thing that is not refused.
RULES = {
    "vibe in a filter": (
        later(on_move, actorVibe("lasre")),
        "handlers[4].filters[0].vibe names an unknown vibe 'lasre'",
        later(on_move, actorVibe("laser")),
    ),
    "vibe in a mutation": (
        later(on_use, mutations=[changeTargetVibe("lasre")]),
        "unknown vibe 'lasre'",
        later(on_use, mutations=[changeTargetVibe("laser")]),
    ),
    "resource in a filter": (
        later(on_use, actorHas({"hart": 1})),
        "game.objects.altar.on_use_handler.filters[0].resources names an unknown resource 'hart'",
        later(on_use, actorHas({"heart": 1})),
    ),
    "resource deep in filters": (
        later(on_use, isNot(anyOf([targetHas({"hart": 1})]))),
        "filters[0].inner.inner[0].resources names an unknown resource 'hart'",
        later(on_use, isNot(anyOf([targetHas({"heart": 1})]))),
    ),
    "resource in a delta": (
        later(on_use, mutations=[updateActor({"hart": 1})]),
        "unknown resource 'hart'",
        later(on_use, mutations=[updateActor({"heart": 1})]),
    ),
    "resource in a transfer": (
        later(on_use, mutations=[withdraw({"hart": 1})]),
        "unknown resource 'hart'",
        later(on_use, mutations=[withdraw({"heart": 1})]),
    ),
    "resource in a query's delta": (
        later(on_use, mutations=[queryDelta(query(AGENTS), {"hart": 1})]),
        "unknown resource 'hart'",
        later(on_use, mutations=[queryDelta(query(AGENTS), {"heart": 1})]),
    ),
    "resource in an area": (
        put("objects.altar.aoes", {"near": AOEConfig(presence_deltas={"hart": 1})}),
        "game.objects.altar.aoes.near.presence_deltas names an unknown resource 'hart'",
        put("objects.altar.aoes", {"near": AOEConfig(presence_deltas={"heart": 1})}),
    ),
    "resource at the start": (
        put("objects.altar.inventory", InventoryConfig(initial={"hart": 1})),
        "game.objects.altar.inventory.initial names an unknown resource 'hart'",
        put("objects.altar.inventory", InventoryConfig(initial={"heart": 1})),
    ),
    "resource in a limit": (
        put("objects.altar.inventory", InventoryConfig(limits=limits(resources=["lasr"]))),
        "unknown resource 'lasr'",
        put("objects.altar.inventory", InventoryConfig(limits=limits())),
    ),
    "resource in a limit's modifier": (
        agent(inventory=InventoryConfig(limits=limits(modifiers={"amor": 1}))),
        "unknown resource 'amor'",
        agent(inventory=InventoryConfig(limits=limits(modifiers={"armor": 1}))),
    ),
    "resource in a reward": (
        reward(SumGameValue(values=[InventoryValue(item="hart")])),
        "game.agents[0].rewards.new.reward.values[0].item names an unknown resource 'hart'",
        reward(SumGameValue(values=[InventoryValue(item="heart")])),
    ),
    "resource of a query in a reward": (
        reward(QueryInventoryValue(query=query(AGENTS), item="hart")),
        "unknown resource 'hart'",
        reward(QueryInventoryValue(query=query(AGENTS), item="heart")),
    ),
    "statistic of an unknown resource": (
        reward(StatValue(name="hart.gained")),
        "'hart.gained' counts an unknown resource 'hart'",
        reward(StatValue(name="heart.gained")),
    ),
    "limit group": (
        later(on_use, mutations=[ClearInventoryMutation(target="actor", limit_name="gear")]),
        "unknown limit of an agent 'gear'",
        later(on_use, mutations=[ClearInventoryMutation(target="actor", limit_name="heart")]),
    ),
    "tag in a filter": (
        later(on_use, TagFilter(target="actor", tag="team:rde")),
        "unknown tag 'team:rde'",
        later(on_use, TagFilter(target="actor", tag="team:red")),
    ),
    "tag in a mutation": (
        later(on_use, mutations=[addTag("shiny")]),
        "unknown tag 'shiny'",
        later(on_use, mutations=[addTag("team:red")]),
    ),
    "tag in a query": (
        later(event, target_query=query("type:agnt")),
        "game.events.new.target_query.source names an unknown tag 'type:agnt'",
        later(event, target_query=query(AGENTS)),
    ),
    "tag instead of a query": (
        later(event, target_query="type:agnt"),
        "game.events.new.target_query names an unknown tag 'type:agnt'",
        later(event, target_query=AGENTS),
    ),
    "tag in a filter's query": (
        later(on_use, isNear(query("type:altr"), 2)),
        "unknown tag 'type:altr'",
        later(on_use, isNear(query("type:altar"), 2)),
    ),
    "tag in a closure": (
        later(event, target_query=closureQuery("type:altar", "type:bock")),
        "target_query.candidates names an unknown tag 'type:bock'",
        later(event, target_query=closureQuery("type:altar", "type:block")),
    ),
    "direction of a ray": (
        later(event, target_query=RaycastQuery(source="type:altar", directions=["up"])),
        "unknown direction 'up'",
        later(event, target_query=RaycastQuery(source="type:altar", directions=["north"])),
    ),
    "tag prefix in a filter": (
        later(on_use, hasTagPrefix("clan:")),
        "unknown tag prefix 'clan:'",
        later(on_use, hasTagPrefix("team:")),
    ),
    "shared tag prefix": (
        later(on_move, sharedTagPrefix("clan:")),
        "unknown tag prefix 'clan:'",
        later(on_move, sharedTagPrefix("team:")),
    ),
    "tag prefix in a mutation": (
        later(on_use, mutations=[removeTagPrefix("clan:")]),
        "unknown tag prefix 'clan:'",
        later(on_use, mutations=[removeTagPrefix("team:")]),
    ),
    "tag prefix of a territory": (
        put("territories.land", TerritoryConfig(tag_prefix="clan:")),
        "game.territories.land.tag_prefix",
        put("territories.land", TerritoryConfig(tag_prefix="team:")),
    ),
    "tag prefix of a removal": (
        agent(on_tag_remove={"clan:": Handler()}),
        "game.agents[0].on_tag_remove names an unknown tag prefix 'clan:'",
        agent(on_tag_remove={"team:": Handler()}),
    ),
    "materialized query that is not there": (
        later(on_use, mutations=[recomputeMaterializedQuery("team:")]),
        "unknown materialized tag prefix 'team:'",
        lambda config: (
            put("materialize_queries", [materializedQuery("net:", query(AGENTS))])(config),
            on_use(config, mutations=[recomputeMaterializedQuery("net:")]),
        ),
    ),
    "object to spawn": (
        later(on_empty_cell, mutations=[SpawnObjectMutation(object_type="blok")]),
        "unknown map name of an object 'blok'",
        later(on_empty_cell, mutations=[SpawnObjectMutation(object_type="block")]),
    ),
    "object to spawn on rays": (
        later(on_use, mutations=[RaycastSpawnMutation(object_type="agent.red")]),
        "unknown map name of an object 'agent.red'",
        later(on_use, mutations=[RaycastSpawnMutation(object_type="block")]),
    ),
    "event to fall back on": (
        later(event, fallback="old"),
        "unknown event 'old'",
        later(event, fallback="restock_lasery"),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_name_that_names_nothing_is_refused_and_a_good_one_passes(rule):
    expect_refusal(*RULES[rule])


def test_a_misspelt_name_is_answered_with_the_nearest_one(config):
    on_use(config, TagFilter(target="actor", tag="team:rde"))
    with pytest.raises(ConfigError) as caught:
        check(config, "my/game")
    assert caught.value.cure == "did you mean 'team:red' or 'team:blue'?"


def test_a_statistic_that_a_handler_writes_may_end_like_one_of_a_resource(config):
    on_use(config, mutations=[logStatToGame("ground.gained")])
    reward(StatValue(name="ground.gained", scope="game"))(config)
    check(config, "my/game")
