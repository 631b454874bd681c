"""The guard in front of MettaGrid: a bad configuration is an error message here.

MettaGrid 0.26 checks little. An even window corrupts the heap, a handler that acts on an empty cell is a
segmentation fault, a filter on a misspelt tag lets everybody through, and whole sections of the configuration
are read by nothing. Everything of that kind is refused here before the simulator sees it.

Two settings that are on by default and never write anything, `last_reward` and `protocol_details_obs`, pass:
nobody asked for them. What cannot be known before the game runs passes too, above all the values of
`global_obs.obs` (outside 0 to 65535 they run into the features behind them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from mettagrid.config.filter import NotFilter, OrFilter, TargetIsUsableFilter, TargetLocEmptyFilter
from mettagrid.config.handler_config import Handler
from mettagrid.config.mettagrid_c_config import convert_to_cpp_game_config
from mettagrid.config.mettagrid_config import AgentConfig, GameConfig, MettaGridConfig, WallConfig
from mettagrid.config.mutation import AttackMutation, SpawnObjectMutation
from pydantic import BaseModel

from metta_cli.environments.handler_sites import HandlerSite, agents_of, entities, handler_sites, sections
from metta_cli.environments.references import Problem, unknown_names
from metta_cli.environments.tokens import token_bound
from metta_cli.errors import ConfigError

__all__ = ["check", "token_bound"]

_MAX_WINDOW = 15
_MAX_NAME = 20
_MAX_FEATURES = 256
_MAX_AGENTS = 256
_TOKEN_BASES = range(2, 257)


def check(config: MettaGridConfig, name: str) -> None:
    """Refuse a configuration that MettaGrid would crash on or silently not follow.

    The configuration is not changed. The guard sees no maps: whether they have a place for every agent
    shows when one is made.

    Args:
        config: any configuration of MettaGrid.
        name: what to call the environment in the message.

    Raises:
        ConfigError: at the first problem; the message says what and where, the cure what to do.
    """
    for rule in _RULES:
        for problem, cure in rule(config):
            raise ConfigError(f"environment '{name}': {problem}", cure)


def _window(config: MettaGridConfig) -> Iterator[Problem]:
    obs = config.game.obs
    for side in ("width", "height"):
        cells = getattr(obs, side)
        if cells % 2 == 0 or not 1 <= cells <= _MAX_WINDOW:
            yield (
                f"game.obs.{side} is {cells}; MettaGrid writes outside its memory for even sizes",
                f"use an odd number from 1 to {_MAX_WINDOW}",
            )
    if obs.token_value_base not in _TOKEN_BASES:
        yield f"game.obs.token_value_base is {obs.token_value_base}", "use 256, or at least 2"
    if obs.token_dim != 3:
        yield f"game.obs.token_dim is {obs.token_dim}, but a token always has 3 bytes", "leave it at 3"


def _actions(config: MettaGridConfig) -> Iterator[Problem]:
    actions = config.game.actions
    for verb in ("noop", "move"):
        action = getattr(actions, verb)
        if not action.enabled:
            yield f"game.actions.{verb} is disabled, which shifts the index of every action", "enable it"
    if not actions.move.allowed_directions:
        yield "game.actions.move.allowed_directions is empty", "list at least one direction"
    if actions.attack.enabled:
        yield (
            "game.actions.attack is enabled, but MettaGrid never attacks",
            "write the attack as handlers of game.actions.move, as the builder 'laser_tag' does",
        )
    for verb in ("noop", "move", "attack", "change_vibe"):
        action = getattr(actions, verb)
        if action.consumed_resources or action.required_resources:
            yield (
                f"game.actions.{verb} has consumed_resources or required_resources, which MettaGrid ignores",
                "take the price in a handler of game.actions.move",
            )
    yield from _repeated("game.actions.change_vibe.vibes", (vibe.name for vibe in actions.change_vibe.vibes))
    yield from _repeated("game.actions.move.allowed_directions", actions.move.allowed_directions)


def _move_handlers(config: MettaGridConfig) -> Iterator[Problem]:
    names = []
    for index, handler in enumerate(config.game.actions.move.handlers):
        where = f"game.actions.move.handlers[{index}]"
        if not isinstance(handler, Handler):
            yield (
                f"{where} is a {type(handler).__name__}, but MettaGrid takes only Handler there",
                "make it with Handler.model_validate(...); list alternatives one after the other",
            )
            return
        names.append(handler.name or f"move_handler_{index}")
    yield from _repeated("game.actions.move.handlers", names)


def _names(config: MettaGridConfig) -> Iterator[Problem]:
    game = config.game
    yield from _repeated("game.resource_names", game.resource_names)
    yield from _repeated("game.objects: map_name", (thing.map_name for thing in game.objects.values()))
    for key, thing in game.objects.items():
        if len(thing.map_name) > _MAX_NAME:
            yield (
                f"game.objects.{key}: map_name '{thing.map_name}' is longer than {_MAX_NAME} characters, "
                "where maps cut it off",
                "give the object a shorter map_name",
            )
    vibes = len(game.actions.change_vibe.vibes)
    for where, thing in _things(game):
        if thing.vibe and thing.vibe >= vibes:
            yield (
                f"{where}.vibe is {thing.vibe}, but there are {vibes} vibes",
                f"use 0 to {max(vibes - 1, 0)}",
            )


def _sizes(config: MettaGridConfig) -> Iterator[Problem]:
    game = config.game
    features = len(game.id_map().features())
    if features > _MAX_FEATURES:
        yield (
            f"game.resource_names: {len(game.resource_names)} resources make {features} observation "
            f"features, and MettaGrid numbers at most {_MAX_FEATURES}",
            "use fewer resources, or set game.protocol_details_obs to false",
        )
    if game.num_agents > _MAX_AGENTS:
        yield f"game.num_agents is {game.num_agents}; agent ids are one byte", f"use at most {_MAX_AGENTS}"
    if game.agents and len(game.agents) != game.num_agents:
        yield (
            f"game.agents lists {len(game.agents)} agents, but game.num_agents is {game.num_agents}",
            "make the two agree",
        )
    if game.max_steps == 0:
        yield "game.max_steps is 0: the episode never ends", "set the length of an episode"


def _dead(config: MettaGridConfig) -> Iterator[Problem]:
    """Find settings that MettaGrid reads nowhere."""
    game = config.game
    for where, thing in _things(game):
        if thing.handlers:
            yield f"{where}.handlers: MettaGrid ignores it", f"use {where}.on_use_handler"
        if isinstance(thing, WallConfig) and (thing.inventory.initial or thing.inventory.limits):
            yield f"{where}.inventory: a WallConfig has none", "make the object a GridObjectConfig"
    if game.obs.global_obs.goal_obs:
        yield "game.obs.global_obs.goal_obs: MettaGrid never writes goal tokens", "set it to false"
    for name, event in game.events.items():
        if not event.timesteps:
            yield (
                f"game.events.{name}.timesteps is empty: the event never comes",
                "list its steps, or remove it",
            )
    if game.agents and game.agent != AgentConfig() and game.agent not in game.agents:
        yield "game.agent is ignored where game.agents lists every agent", "change game.agents"
    if game.end_episode_on_game_stats:
        yield "game.end_episode_on_game_stats: only MettaGrid's own Simulation reads it", "remove it"
    if game.talk.enabled:
        yield "game.talk.enabled: only MettaGrid's own Simulation lets agents talk", "set it to false"


def _process_wide(config: MettaGridConfig) -> Iterator[Problem]:
    """Find observations whose feature id another environment in the same process would change."""
    obs = config.game.obs
    settings = {
        "game.obs.aoe_mask": obs.aoe_mask,
        "game.obs.territory": obs.territory,
        "game.obs.global_obs.last_action_move": obs.global_obs.last_action_move,
    }
    for where, enabled in settings.items():
        if enabled:
            yield (
                f"{where}: MettaGrid keeps its feature id per process, and the next environment changes it",
                "set it to false",
            )


def _sites(config: MettaGridConfig) -> Iterator[Problem]:
    """Find mutations that do nothing, and filters and mutations that have nothing to act on."""
    for site in handler_sites(config.game):
        for index, mutation in enumerate(site.handler.mutations):
            if isinstance(mutation, AttackMutation):
                yield (
                    f"{site.where}.mutations[{index}]: MettaGrid drops AttackMutation",
                    "use other mutations",
                )
        for index, condition in enumerate(site.handler.filters):
            yield from _misplaced(site, f"{site.where}.filters[{index}]", condition)
        if site.kind == "game_tick":
            yield from _without(
                site, {"actor", "target"}, "there is neither actor nor target in game.on_tick"
            )
        elif site.kind == "move" and _asks_for_empty_cell(site.handler):
            yield from _without(
                site, {"target"}, "there is no target in an empty cell (TargetLocEmptyFilter)"
            )


def _asks_for_empty_cell(handler: Handler) -> bool:
    return any(isinstance(condition, TargetLocEmptyFilter) for condition in handler.filters)


def _misplaced(site: HandlerSite, where: str, condition: object) -> Iterator[Problem]:
    """Find the two filters that work only at the top of a move handler."""
    if site.kind == "move" and not isinstance(condition, NotFilter | OrFilter):
        return
    for place, section in sections(condition, where):
        if isinstance(section, TargetLocEmptyFilter | TargetIsUsableFilter):
            yield (
                f"{place}: {type(section).__name__} works only directly in the filters of a move handler",
                "remove it, or put it into a handler of game.actions.move of its own",
            )


def _without(site: HandlerSite, missing: set[str], reason: str) -> Iterator[Problem]:
    """Find what a handler does with entities that it does not have."""
    lists: tuple[tuple[str, Iterable[BaseModel]], ...] = (
        ("filters", site.handler.filters),
        ("mutations", site.handler.mutations),
    )
    for field, parts in lists:
        for index, part in enumerate(parts):
            touched = missing & entities(part)
            nowhere = site.kind == "game_tick" and isinstance(part, SpawnObjectMutation)
            if touched or nowhere:
                yield (
                    f"{site.where}.{field}[{index}]: {type(part).__name__} acts on "
                    f"{' and '.join(sorted(touched)) or 'a place'}, but {reason}",
                    "use a query, or move it into a handler that has one",
                )


def _tokens(config: MettaGridConfig) -> Iterator[Problem]:
    bound = token_bound(config)
    if config.game.obs.num_tokens < bound:
        yield (
            f"game.obs.num_tokens is {config.game.obs.num_tokens}, but an agent can see up to {bound} "
            "tokens, and MettaGrid stops the simulation at the first one too many",
            f"use at least {bound}, or a smaller window",
        )


def _conversion(config: MettaGridConfig) -> Iterator[Problem]:
    """Let MettaGrid's converter have its say on a copy: it writes into what it is given."""
    try:
        convert_to_cpp_game_config(config.game.model_copy(deep=True))
    except (
        AssertionError,
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        first_line = str(error).partition("\n")[0][:300]
        yield f"MettaGrid refuses it: {type(error).__name__}: {first_line}", "correct that part of the game"


def _things(game: GameConfig) -> Iterator[tuple[str, WallConfig | AgentConfig]]:
    """Yield every object and agent with its place."""
    for key, thing in game.objects.items():
        yield f"game.objects.{key}", thing
    for index, agent in enumerate(agents_of(game)):
        yield f"game.agents[{index}]" if game.agents else "game.agent", agent


def _repeated(where: str, names: Iterable[str]) -> Iterator[Problem]:
    for name, times in Counter(names).items():
        if times > 1:
            yield (
                f"{where}: '{name}' occurs {times} times, and only the last one counts",
                "give each its own name",
            )


_RULES = (
    _window,
    _actions,
    _move_handlers,
    _names,
    unknown_names,
    _sizes,
    _dead,
    _process_wide,
    _sites,
    _tokens,
    _conversion,
)
