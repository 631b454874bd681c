"""Opponents that walk by a script, from what they see and nothing else.

They are policies without parameters: the recurrent state is where they are in their pattern. They shoot
at nobody and know no game; what is neither wall, block nor agent is a station to be used.

Shape letters: `N` agents, `K` observation tokens, `A` actions.
"""

from __future__ import annotations

from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import IncompatibleError
from metta_cli.policies.contract import RecurrentState

Pattern = Literal["clockwise", "counterclockwise", "spiral", "snake", "random"]

SCRIPTS = ("roomba", "grid_search")
DIRECTIONS = ("north", "east", "south", "west")
_OFFSETS = torch.tensor([[-1, 0], [0, 1], [1, 0], [0, -1]])  # rows, columns; clockwise
_OBSTACLES = ("wall", "block", "agent")
_FREE, _OBSTACLE, _STATION = 0, 1, 2
_SIDE = 16
"""Cells per side of the grid that location bytes address: four bits for the row, four for the column."""
_PAUSE_STEPS = 8
"""Steps in which an agent that has just been at a station heeds none, so that it moves on."""
_LONGEST_SPIRAL = 24
"""Turns after which a spiral starts anew."""


class ScriptedWalk(nn.Module):
    """Uses stations that it sees, and walks by a pattern where it sees none.

    Args:
        interface: of the environment that is played.
        pattern: `clockwise` and `counterclockwise` go straight and turn that way at an obstacle;
            `spiral` goes in ever longer legs, turning clockwise; `snake` sweeps rows; `random` takes any
            free direction in every step.
        approach_items: whether it walks to the nearest station in sight.
        interact_with_items: whether it uses a station that it stands beside.

    Raises:
        IncompatibleError: if the environment has no four moves, or no tags that tell things apart.
    """

    def __init__(
        self,
        interface: EnvironmentInterface,
        pattern: Pattern,
        *,
        approach_items: bool = True,
        interact_with_items: bool = True,
    ) -> None:
        super().__init__()
        names = [f"move_{direction}" for direction in DIRECTIONS]
        missing = [name for name in (*names, "noop") if name not in interface.action_names]
        if missing or "tag" not in interface.feature_names:
            what = f"actions {', '.join(missing)}" if missing else "feature tag"
            raise IncompatibleError(
                f"a scripted walk needs the {what}, which this environment has not",
                "choose another opponent, such as random",
            )
        self.pattern = pattern
        self.approaches, self.interacts = approach_items, interact_with_items
        self.num_actions = interface.num_actions
        self.tag_feature = interface.feature_names.index("tag")
        self.centre = (interface.observation_height // 2, interface.observation_width // 2)
        actions = [interface.action_names.index(name) for name in names]
        self.actions: Tensor
        self.register_buffer("actions", torch.tensor([*actions, interface.action_names.index("noop")]))
        kinds = torch.zeros(256, dtype=torch.int64)
        for tag, name in enumerate(interface.tag_names):
            group, _, kind = name.partition(":")
            if group == "type":
                kinds[tag] = _OBSTACLE if kind in _OBSTACLES else _STATION
        self.kinds: Tensor
        self.register_buffer("kinds", kinds)

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return heading, steps of this leg, turns so far, and steps of the pause, all 0: `[1, N, 4]`."""
        return {"walk": torch.zeros(1, num_agents, 4, device=device)}

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """Act, see `metta_cli.policies.contract.Policy`; there is nothing to judge actions by.

        Raises:
            ValueError: if `action` is given.
        """
        if action is not None:
            raise ValueError("a script is not trained")
        observations = td["env_obs"]
        memory = (state or self.initial_state(len(observations), observations.device))["walk"]
        memory[:, td["dones"]] = 0
        walk = memory[0].long()
        grid = self._grid(observations)
        probabilities = self._choose(grid, walk)
        memory[0] = walk.to(memory.dtype)
        td["full_log_probs"] = probabilities.log()
        td["actions"] = torch.multinomial(probabilities, 1).squeeze(1)
        td["act_log_prob"] = td["full_log_probs"].gather(1, td["actions"][:, None]).squeeze(1)
        td["values"] = torch.zeros(len(observations), device=observations.device)
        return td

    def _grid(self, observations: Tensor) -> Tensor:
        """Return what is in each cell in sight, int64 `[N, 16, 16]`; the agent itself is left out."""
        locations = observations[..., 0].long()
        is_tag = (observations[..., 1] == self.tag_feature) & (locations < 0xFE)
        kinds = torch.where(is_tag, self.kinds[observations[..., 2].long()], 0)
        grid = torch.zeros(len(observations), _SIDE * _SIDE, dtype=torch.int64, device=observations.device)
        grid.scatter_reduce_(1, locations, kinds, "amax")
        grid = grid.view(-1, _SIDE, _SIDE)
        grid[:, self.centre[0], self.centre[1]] = _FREE
        return grid

    def _choose(self, grid: Tensor, walk: Tensor) -> Tensor:
        """Return the probabilities of all actions `[N, A]`; moves `walk` on."""
        row, column = self.centre
        around = torch.stack([grid[:, row + dy, column + dx] for dy, dx in _OFFSETS.tolist()], dim=1)
        free = around == _FREE
        direction = torch.full((len(grid),), -1, dtype=torch.int64, device=grid.device)
        heeds = walk[:, 3] == 0
        walk[:, 3] = (walk[:, 3] - 1).clamp(min=0)
        beside = heeds & (around == _STATION).any(dim=1)
        if self.interacts:
            direction = torch.where(beside, (around == _STATION).long().argmax(dim=1), direction)
        if self.approaches:
            towards = self._towards_station(grid, free)
            direction = torch.where(heeds & ~beside & (towards >= 0), towards, direction)
        walk[:, 3] = torch.where(beside, _PAUSE_STEPS, walk[:, 3])
        strolls = direction < 0
        if self.pattern == "random":
            moves = torch.cat([free, ~free.any(dim=1, keepdim=True)], dim=1).double()
        else:
            step = self._pattern_step(free, walk, strolls)
            moves = nn.functional.one_hot(step, len(DIRECTIONS) + 1).double()
        goal = nn.functional.one_hot(direction.clamp(min=0), len(DIRECTIONS) + 1).double()
        moves = torch.where(strolls[:, None], moves / moves.sum(dim=1, keepdim=True), goal)
        probabilities = torch.zeros(len(grid), self.num_actions, dtype=moves.dtype, device=grid.device)
        probabilities[:, self.actions] = moves
        return probabilities

    def _towards_station(self, grid: Tensor, free: Tensor) -> Tensor:
        """Return the free direction that leads to the nearest station `[N]`, or -1."""
        rows = torch.arange(_SIDE, device=grid.device) - self.centre[0]
        columns = torch.arange(_SIDE, device=grid.device) - self.centre[1]
        distance = rows.abs()[:, None] + columns.abs()[None]
        far = 2 * _SIDE
        nearest = torch.where(grid == _STATION, distance, far).flatten(1).min(dim=1)
        dy, dx = rows[nearest.indices // _SIDE], columns[nearest.indices % _SIDE]
        vertical = torch.where(dy < 0, 0, 2)
        horizontal = torch.where(dx > 0, 1, 3)
        choices = torch.stack([vertical, horizontal], dim=1)
        leads = torch.stack([dy != 0, dx != 0], dim=1) & free.gather(1, choices)
        gain = torch.where(leads, torch.stack([dy.abs(), dx.abs()], dim=1), -1)
        best = gain.max(dim=1)
        chosen = choices.gather(1, best.indices[:, None]).squeeze(1)
        return torch.where((best.values > 0) & (nearest.values < far), chosen, -1)

    def _pattern_step(self, free: Tensor, walk: Tensor, strolls: Tensor) -> Tensor:
        """Return the next direction `[N]`, 4 to stand still; moves `walk` on if it strolls."""
        if self.pattern == "snake":
            step, after = _snake(free, walk)
        else:
            step, after = _straight(free, walk, self.pattern)
        walk[:, :3] = torch.where(strolls[:, None], after, walk[:, :3])
        return step


def _straight(free: Tensor, walk: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
    """Go on as before, or turn: at an obstacle, and in a spiral where a leg ends."""
    heading, steps, turns = walk[:, 0], walk[:, 1], walk[:, 2]
    side = -1 if pattern == "counterclockwise" else 1
    is_over = ~free.gather(1, heading[:, None]).squeeze(1)
    if pattern == "spiral":
        is_over = is_over | (steps >= turns // 2 + 1)
    order = (heading[:, None] + side * torch.arange(1, 5, device=free.device)) % 4
    open_after = free.gather(1, order)
    turned = order.gather(1, open_after.long().argmax(dim=1, keepdim=True)).squeeze(1)
    can_turn = open_after.any(dim=1)
    new_heading = torch.where(is_over & can_turn, turned, heading)
    new_turns = torch.where(is_over, (turns + 1) % _LONGEST_SPIRAL, turns)
    new_steps = torch.where(is_over, 1, steps + 1)
    step = torch.where(is_over & ~can_turn, len(DIRECTIONS), new_heading)
    return step, torch.stack([new_heading, new_steps, new_turns], dim=1)


def _snake(free: Tensor, walk: Tensor) -> tuple[Tensor, Tensor]:
    """Sweep a row; at its end take one step down and turn round; at the last row turn upside down."""
    is_west, is_up = walk[:, 0] == 1, walk[:, 1] == 1
    along = torch.where(is_west, 3, 1)
    down = torch.where(is_up, 0, 2)
    can_go, can_sink = (free.gather(1, way[:, None]).squeeze(1) for way in (along, down))
    can_rise = free.gather(1, ((down + 2) % 4)[:, None]).squeeze(1)
    turns_over = ~can_go & ~can_sink
    is_up = is_up ^ turns_over
    rise = torch.where(can_rise, (down + 2) % 4, len(DIRECTIONS))
    step = torch.where(can_go, along, torch.where(can_sink, down, rise))
    is_west = is_west ^ ~can_go
    return step, torch.stack([is_west.long(), is_up.long(), walk[:, 2]], dim=1)


def create_script(
    interface: EnvironmentInterface,
    name: str,
    *,
    approach_items: bool = True,
    interact_with_items: bool = True,
    roomba_direction: Literal["clockwise", "counterclockwise"] = "clockwise",
    grid_search_pattern: Literal["spiral", "snake", "random"] = "spiral",
) -> ScriptedWalk:
    """Return the script of that name, `roomba` or `grid_search`; the other arguments as configured."""
    return ScriptedWalk(
        interface,
        roomba_direction if name == "roomba" else grid_search_pattern,
        approach_items=approach_items,
        interact_with_items=interact_with_items,
    )
