"""The scripted baseline: plays every shipped game by looking at the true map.

It sees everything, stations and agents anywhere, and so says what a score is worth: a policy that sees 11x11
cells can hardly do better. Agents share what they know and do not go for the same heart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from metta_cli.environments.laser_tag import LaserTag
from metta_cli.environments.parts import LASER_VIBE, VIBES
from metta_cli.environments.scene import Scene, SceneReader, Thing
from metta_cli.errors import UnknownNameError

Plan = Callable[[Scene], Iterable[tuple[Thing, str]]]
"""Scene -> (agent, name of its action) for some or all of its agents; the others do nothing."""

_HEART_BATTERIES = 3
_SUPPLIES = {"laser": "lasery", "armor": "armory"}
_LASER_RANGE: int = LaserTag.model_fields["laser_range"].default


class ScriptedPlayer:
    """Proposes an action for every agent of one episode from the state of the simulator.

    The proposals are a function of that state alone: others may play some or all of the agents, and the
    player may be asked as often as one likes.

    Args:
        c_env: MettaGrid's simulator object at the start of the episode.
        action_names: flat action index -> name.
        builder_name: which game it is, as in `EnvironmentSpec.builder`.

    Raises:
        UnknownNameError: if there is no plan for that game.
    """

    def __init__(self, c_env: Any, action_names: Sequence[str], builder_name: str) -> None:
        if builder_name not in _PLANS:
            raise UnknownNameError("builder with a scripted player", builder_name, _PLANS)
        self._plan = _PLANS[builder_name]
        self._reader = SceneReader(c_env)
        self._index = {name: index for index, name in enumerate(action_names)}

    def actions(self) -> np.ndarray:
        """Return the proposed actions, int32 `[A]` flat, for the agents in the order of their ids."""
        scene = self._reader.read()
        chosen = np.full(len(scene.agents), self._index["noop"], dtype=np.int32)
        for agent, action in self._plan(scene):
            chosen[agent.agent_id] = self._index[action]
        return chosen


def _collect(scene: Scene) -> Iterable[tuple[Thing, str]]:
    """Go to altars that have a heart; stand still when there are none left."""
    goals = scene.assign(scene.agents, scene.of_type("altar"), "heart")
    for agent in scene.agents:
        if agent.agent_id in goals:
            yield agent, scene.walk(agent, goals[agent.agent_id])


def _produce(scene: Scene) -> Iterable[tuple[Thing, str]]:
    """Mine three ore, make batteries of them, trade them for a heart; never fight.

    Hearts are all that is rewarded and the mines are the limit. A laser costs as much as a heart, so it is
    not worth having as long as nobody else shoots.
    """
    goods = {agent.agent_id: agent.amount("ore_red") + agent.amount("battery_red") for agent in scene.agents}
    miners = [agent for agent in scene.agents if goods[agent.agent_id] < _HEART_BATTERIES]
    mines = scene.assign(miners, scene.of_type("mine_red"), "ore_red")
    for agent in scene.agents:
        goal: Thing | None
        if agent.amount("battery_red") >= _HEART_BATTERIES:
            goal = scene.nearest(agent, scene.of_type("altar"))
        elif agent.agent_id in mines:
            goal = mines[agent.agent_id]
        elif agent.amount("ore_red"):
            goal = scene.nearest(agent, scene.of_type("generator_red"))
        else:
            goal = scene.nearest(agent, scene.of_type("mine_red"))
        yield agent, scene.walk(agent, goal) if goal else scene.wander(agent)


def _fight(scene: Scene) -> Iterable[tuple[Thing, str]]:
    """Shoot whoever can be shot; else fetch a laser and armor; else hunt the nearest enemy."""
    idle: list[Thing] = []
    targets: set[int] = set()
    for agent in scene.agents:
        if agent.vibe != VIBES.index(LASER_VIBE):
            yield agent, f"change_vibe_{LASER_VIBE}"
        elif not agent.amount("frozen"):
            shot = _best_shot(scene, agent, targets)
            if shot is None:
                idle.append(agent)
            else:
                targets.add(shot[1].agent_id)
                yield agent, shot[0]
    fetching = [
        scene.assign(
            [agent for agent in idle if not agent.amount(resource)], scene.of_type(station), resource
        )
        for resource, station in _SUPPLIES.items()
    ]
    hearts = scene.assign(idle, scene.of_type("altar"), "heart")
    for agent in idle:
        supplies = [goals[agent.agent_id] for goals in fetching if agent.agent_id in goals]
        goal = hearts.get(agent.agent_id) or scene.nearest(agent, supplies)
        goal = goal or scene.nearest(agent, _awake_enemies(scene, agent))
        if goal is not None:
            yield agent, scene.walk(agent, goal)


def _best_shot(scene: Scene, agent: Thing, targets: set[int]) -> tuple[str, Thing] | None:
    """Return the move that shoots the enemy with most to lose, and that enemy; None if there is none."""
    if not agent.amount("laser"):
        return None
    enemies = {enemy.agent_id for enemy in _awake_enemies(scene, agent)} - targets
    lines = ((move, scene.first_in_line(agent, move, _LASER_RANGE)) for move in scene.paths.directions)
    shots = [(move, seen) for move, seen in lines if seen is not None and seen.agent_id in enemies]
    return max(shots, key=lambda shot: _loot(shot[1]), default=None)


def _loot(enemy: Thing) -> int:
    """Return what a hit is worth; armor spoils it."""
    return 0 if enemy.amount("armor") else 1 + enemy.amount("heart")


def _awake_enemies(scene: Scene, agent: Thing) -> list[Thing]:
    return [other for other in scene.agents if other.team != agent.team and not other.amount("frozen")]


_PLANS: dict[str, Plan] = {
    "mean_distance": _collect,
    "terrain": _collect,
    "grid": _collect,
    "one_apple": _collect,
    "arena": _produce,
    "laser_tag": _fight,
}
