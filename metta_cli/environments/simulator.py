"""One environment on its slices of the slab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mettagrid.config.mettagrid_c_config import convert_to_cpp_game_config
from mettagrid.config.mettagrid_config import MettaGridConfig
from mettagrid.mettagrid_c import MettaGrid

from metta_cli.environments.maps import MapSource
from metta_cli.environments.seeds import EpisodeSeeds
from metta_cli.environments.slab import Slab


@dataclass(frozen=True, eq=False)
class FinishedEpisode:
    """An episode that has ended.

    Attributes:
        environment: slot of the environment, from 0.
        episode: number of the episode, counted over all slots; the seeds follow from it.
        map_seed: seed of the map.
        simulation_seed: seed of the simulator.
        num_steps: environment steps.
        agent_returns: float32 `[agents]`, sum of the rewards of each agent.
        teams: int32 `[agents]`, team of each agent; agents are numbered in the order in which the map is
            scanned, so teams interleave and differ from episode to episode.
        game_stats: statistics of the whole game by MettaGrid's names.
        agent_stats: the same of each agent; a name that never occurred is absent.
        truncated: whether time ended it, rather than a rule.
        is_cut: whether `stagger_episodes` ended it early; its return compares with no whole episode.
        task: index of its task; 0 where there is only one environment.
        parameters: what was drawn for it: argument of the builder -> value.
        return_max: return per agent that its task counts as all that can be gained; None if unknown.
    """

    environment: int
    episode: int
    map_seed: int
    simulation_seed: int
    num_steps: int
    agent_returns: np.ndarray
    teams: np.ndarray
    game_stats: dict[str, float]
    agent_stats: list[dict[str, float]]
    truncated: bool
    is_cut: bool = False
    task: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    return_max: float | None = None

    def to_info(self) -> dict[str, Any]:
        """Return the episode as nested plain numbers, the form of `infos` in PufferLib.

        Statistics of agents are means over the agents in which the name occurred.
        """
        names = sorted({name for stats in self.agent_stats for name in stats})
        means = {
            name: float(np.mean([stats[name] for stats in self.agent_stats if name in stats]))
            for name in names
        }
        return {
            "episode_return": float(self.agent_returns.mean()),
            "episode_length": self.num_steps,
            "game": dict(self.game_stats),
            "agent": means,
        }


class CompiledGame:
    """What all simulators of a process share: the converted configuration and the maps.

    Args:
        config: a configuration that passed the guard. It is the caller's gift: MettaGrid's converter fills
            in its list of agents.
        keep_maps: whether map seeds come again, so that maps are worth keeping.
        task: index of the task that it belongs to.
        parameters: what was drawn for it.
        return_max: return per agent that counts as all that can be gained; None if unknown.
    """

    def __init__(
        self,
        config: MettaGridConfig,
        *,
        keep_maps: bool,
        task: int = 0,
        parameters: dict[str, Any] | None = None,
        return_max: float | None = None,
    ) -> None:
        game = config.game
        self.config = config
        self.task, self.parameters, self.return_max = task, parameters or {}, return_max
        self.max_steps: int = game.max_steps
        self.cpp_config, agent_renames = convert_to_cpp_game_config(game)
        self.maps = MapSource(game.map_builder, game.num_agents, agent_renames, keep=keep_maps)
        agent_types = {agent.name for agent in game.agents}
        self.other_types = sorted({thing.name for thing in game.objects.values()} - agent_types)


class Simulator:
    """One environment. `start` begins an episode, `step` is the simulator's own step.

    MettaGrid has no reset: a new episode is a new C++ object on the same slices of the slab. Attaching it
    overwrites observations and zeroes rewards, terminals and truncations, so what is still wanted of the
    last episode must have been taken before.

    Args:
        game: the game, shared by the simulators of a process.
        slab: the arrays of all environments.
        slot: which environment this is.

    Attributes:
        game: what is played; another one counts from the next episode on.
        rows: agents of this environment in the slab.
        step: advances the environment by the actions in the slab.
        grid: MettaGrid's C++ object of the running episode.
    """

    step: Callable[[], None]
    grid: MettaGrid

    def __init__(self, game: CompiledGame, slab: Slab, slot: int) -> None:
        self.slot = slot
        self.rows = slab.rows(slot)
        self.game = game
        self._observations = slab.observations[self.rows]
        self._final_observations = slab.final_observations[self.rows]
        self._rewards = slab.rewards[self.rows]
        self._terminals = slab.terminals[self.rows]
        self._truncations = slab.truncations[self.rows]
        self._primary_actions = slab.primary_actions[self.rows]
        self._vibe_actions = slab.vibe_actions[self.rows]
        self._teams = slab.teams[self.rows]
        self._seeds = EpisodeSeeds(0)
        self._episode = -1

    def start(self, episode: int, seeds: EpisodeSeeds) -> None:
        """Begin an episode; its first observation is in the slab afterwards, rewards and flags are zero."""
        self._episode, self._seeds = episode, seeds
        cells = self.game.maps.grid(seeds.map_seed(episode))
        self.grid = MettaGrid(self.game.cpp_config, cells, seeds.simulation_seed(episode))
        self.grid.set_buffers(
            self._observations,
            self._terminals,
            self._truncations,
            self._rewards,
            self._primary_actions,
            self._vibe_actions,
        )
        self.step = self.grid.step
        for thing in self.grid.grid_objects(ignore_types=self.game.other_types).values():
            self._teams[thing["agent_id"]] = thing["group_id"]

    def finish(self, *, is_cut: bool) -> FinishedEpisode:
        """Return the account of the episode that has just ended, and keep its last observation.

        Args:
            is_cut: whether it was cut early.
        """
        self._final_observations[:] = self._observations
        stats = self.grid.get_episode_stats()
        return FinishedEpisode(
            environment=self.slot,
            episode=self._episode,
            map_seed=self._seeds.map_seed(self._episode),
            simulation_seed=self._seeds.simulation_seed(self._episode),
            num_steps=self.grid.current_step,
            agent_returns=self.grid.get_episode_rewards().copy(),
            teams=self._teams.copy(),
            game_stats=stats["game"],
            agent_stats=stats["agent"],
            truncated=bool(self._truncations.all()),
            is_cut=is_cut,
            task=self.game.task,
            parameters=self.game.parameters,
            return_max=self.game.return_max,
        )

    def last_step(self) -> tuple[np.ndarray, ...]:
        """Return copies of rewards, terminals and truncations, which `start` is going to zero."""
        return self._rewards.copy(), self._terminals.copy(), self._truncations.copy()

    def restore(self, last_step: tuple[np.ndarray, ...]) -> None:
        """Put back what `last_step` returned."""
        self._rewards[:], self._terminals[:], self._truncations[:] = last_step
