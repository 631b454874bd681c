"""Today's world in the terms of July 2025, for policies that were trained then.

`metta_cli.policies.layout2025` names what such a policy saw and did. `Compat2025` stands between it and an
environment of today: it rewrites observations, keeps for every agent what the environment no longer knows
(which way it faces, and what it last meant to do), and turns verbs that were relative to that into moves.

What cannot be shown: where others face, hit points, colours and glyphs, converters at work, the last
reward. What cannot be done: swapping, colours, glyphs, choosing a target in front, walking past a
target while the vibe `laser` is on. An action that failed is shown as one that did nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.algorithms import distributions
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError
from metta_cli.policies.contract import RecurrentState
from metta_cli.policies.heads import split_name
from metta_cli.policies.layout2025 import TYPES, WINDOW
from metta_cli.policies.tokens import EMPTY_LOCATION, GLOBAL_LOCATION, MAX_BYTES

CENTRE = (WINDOW // 2) << 4 | WINDOW // 2
DIRECTIONS = ("north", "south", "west", "east")
"""Orientation -> the name of the move; then it was up, down, left, right."""
AHEAD = (-16, 16, -1, 1)
"""Orientation -> from the location of a cell to that of the next one, row in the upper bits."""
BEHIND = (1, 0, 3, 2)
TURN, MEANING = "compat_turn", "compat_meaning"
HASH_BITS = 24
ROUNDING = 1e-6


class Compat2025(nn.Module):
    """Run a policy of July 2025 in an environment of today.

    A turn leaves no trace in the environment, so it is drawn here, from a hash of what the agent has seen:
    the same observations give the same turns when a segment is judged as when it was acted. An agent
    that turns does nothing else. What is left of the probabilities goes to the actions of today. Turns
    are therefore not learned when training goes on; everything else is. Once the weights have changed, the
    hash may decide otherwise than it did; the recorded action then says whether the agent turned, and, if it
    moved, which way it faced.

    Args:
        policy: follows the contract, in the terms of `known`.
        known: what `interface_2025` returned.
        interface: of the environment.
        x_first: whether the first axis of the window is x, as of the token era, or y, as of dense grids.

    Raises:
        CheckpointError: if the environment has another window, or no moves.
    """

    def __init__(
        self,
        policy: nn.Module,
        known: EnvironmentInterface,
        interface: EnvironmentInterface,
        *,
        x_first: bool = True,
    ) -> None:
        super().__init__()
        window = (interface.observation_height, interface.observation_width)
        moves = [f"move_{direction}" for direction in DIRECTIONS]
        if window != (WINDOW, WINDOW) or not {"noop", *moves} <= set(interface.action_names):
            raise CheckpointError(
                f"a policy of 2025 needs a window of 11x11 and the actions noop and {', '.join(moves)};"
                f" the environment has {window[0]}x{window[1]} and {', '.join(interface.action_names)}",
                "evaluate it on another environment",
            )
        self.policy, self.known, self.interface = policy, known, interface
        self.rewriter = _Rewriter(known, interface, x_first=x_first)
        self.translator = _Translator(known, interface)

    def initial_state(self, num_agents: int, device: torch.device | str) -> RecurrentState:
        """Return the state of the policy, orientation and hash `[1, N, 2]`, and meanings `[1, N, A]`."""
        state: RecurrentState = self.policy.initial_state(num_agents, device)  # type: ignore[operator]
        turn = torch.zeros(1, num_agents, 2, device=device)
        meaning = torch.zeros(1, num_agents, self.interface.num_actions, device=device)
        return state | {TURN: turn, MEANING: meaning}

    def forward(
        self, td: TensorDict, state: RecurrentState | None = None, action: Tensor | None = None
    ) -> TensorDict:
        """See `metta_cli.policies.contract.Policy.forward`."""
        observations, dones = td["env_obs"], td["dones"]
        state_before = state or self.initial_state(len(dones), observations.device)
        memory = {name: part.clone() for name, part in state_before.items()}
        if action is None:
            log_probs, td["values"] = self._step(observations, dones, memory)
            if state is not None:
                state.update(memory)
            td["actions"] = distributions.sample(log_probs)
            td["act_log_prob"] = distributions.log_prob(log_probs, td["actions"])
        else:
            steps = [
                self._step(observations[:, t], dones[:, t], memory, action[:, t])
                for t in range(dones.shape[1])
            ]
            log_probs, td["value"] = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
            td["act_log_prob"] = distributions.log_prob(log_probs, action)
            td["entropy"] = distributions.entropy(log_probs)
        td["full_log_probs"] = log_probs
        return td

    def _step(
        self, tokens: Tensor, dones: Tensor, memory: RecurrentState, action: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities `[N, A]` and values `[N]`; `memory` is replaced.

        Args:
            tokens: uint8 `[N, K, 3]`.
            dones: bool `[N]`.
            memory: recurrent state.
            action: int `[N]`, what was done then, or None to act.
        """
        keep = (~dones).float()
        turn, meaning = memory.pop(TURN)[0] * keep[:, None], memory.pop(MEANING)[0] * keep[:, None]
        orientation, chain = turn[:, 0].long(), turn[:, 1]
        if action is not None:
            orientation = self.translator.faced(orientation, action)
        last = meaning.gather(1, self.rewriter.last_action(tokens)[:, None]).squeeze(1).long()
        inner = TensorDict(
            {"env_obs": self.rewriter(tokens, orientation, last), "dones": dones}, batch_size=dones.shape
        )
        inner = self.policy(inner, memory)
        chain = self.rewriter.hashed(tokens, chain)
        log_probs, orientation, meaning = self.translator(
            inner["full_log_probs"],
            orientation,
            chain,
            self.rewriter.is_occupied_ahead(tokens, orientation),
            self.rewriter.is_laser_on(tokens),
            action,
        )
        memory[TURN] = torch.stack([orientation.float(), chain], dim=1)[None]
        memory[MEANING] = meaning[None]
        return log_probs, inner["values"]


class _Rewriter(nn.Module):
    """Observations of today in the terms of 2025, and what they say about the agent itself."""

    feature_table: Tensor
    type_table: Tensor
    ahead: Tensor
    verb_of: Tensor
    argument_of: Tensor
    hash_weights: Tensor

    def __init__(
        self, known: EnvironmentInterface, interface: EnvironmentInterface, *, x_first: bool
    ) -> None:
        super().__init__()
        self.x_first = x_first
        self.features = {name: number for number, name in enumerate(interface.feature_names)}
        self.channels = {name: number for number, name in enumerate(known.feature_names)}
        self.laser = _index(interface.action_names, "change_vibe_laser") - interface.num_primary_actions
        table = torch.full((MAX_BYTES,), -1)
        for name, number in self.features.items():
            then = "agent:frozen" if name == "inv:frozen" else name.removeprefix("inv:")
            if name not in ("last_action", "last_reward"):
                table[number] = self.channels.get(then, -1)
        types = torch.full((MAX_BYTES,), -1)
        for number, tag in enumerate(interface.tag_names):
            types[number] = _index(TYPES, tag.removeprefix("type:"))
        pairs = [split_name(name) for name in known.action_names]
        verbs = list(dict.fromkeys(verb for verb, _ in pairs))
        generator = torch.Generator().manual_seed(2025)
        for buffer, tensor in {
            "feature_table": table,
            "type_table": types,
            "ahead": torch.tensor(AHEAD),
            "verb_of": torch.tensor([verbs.index(verb) for verb, _ in pairs]),
            "argument_of": torch.tensor([int(argument) for _, argument in pairs]),
            "hash_weights": torch.randint(1, 2**31, (interface.num_tokens, 3), generator=generator),
        }.items():
            self.register_buffer(buffer, tensor, persistent=False)

    def forward(self, tokens: Tensor, orientation: Tensor, last: Tensor) -> Tensor:
        """Return tokens uint8 `[N, K', 3]`, those that there were in 2025, the agent's own first.

        Args:
            tokens: uint8 `[N, K, 3]` of today.
            orientation: int `[N]`.
            last: int `[N]`, flat index of the last action, in the numbering of 2025.
        """
        location, feature, value = tokens.long().unbind(-1)
        is_tag = feature == self.features.get("tag", -1)
        channel = torch.where(is_tag, self.channels.get("type_id", -1), self.feature_table[feature])
        value = torch.where(is_tag, self.type_table[value], value)
        value = torch.where(channel == self.channels.get("agent:frozen", -1), value.clamp(max=1), value)
        place = (location & 15) << 4 | location >> 4 if self.x_first else location
        centred = torch.where(location == GLOBAL_LOCATION, CENTRE, place)
        is_shown = (location != EMPTY_LOCATION) & (channel >= 0) & (value >= 0)
        shown = torch.stack([centred, channel, value], dim=-1).masked_fill(
            ~is_shown[..., None], EMPTY_LOCATION
        )
        own = {
            "agent:orientation": orientation,
            "last_action": self.verb_of[last],
            "last_action_arg": self.argument_of[last],
        }
        rows = [
            torch.stack(
                [torch.full_like(amount, number) for number in (CENTRE, self.channels[name])] + [amount], -1
            )
            for name, amount in own.items()
            if name in self.channels
        ]
        tokens = torch.cat([torch.stack(rows, dim=1), shown] if rows else [shown], dim=1).to(torch.uint8)
        is_empty = tokens[..., 0] == EMPTY_LOCATION
        order = is_empty.byte().argsort(dim=1, stable=True)
        tokens = tokens.gather(1, order[..., None].expand_as(tokens))
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return tokens  # a trace would cut every observation to the length of this one
        return tokens[:, : max(1, int((~is_empty).sum(1).max()))]

    def last_action(self, tokens: Tensor) -> Tensor:
        """Return int `[N]`: the flat action that the environment reports, 0 if it failed."""
        location, feature, value = tokens.long().unbind(-1)
        is_report = (feature == self.features.get("last_action", -1)) & (location == GLOBAL_LOCATION)
        return torch.where(is_report, value, 0).amax(1)

    def is_occupied_ahead(self, tokens: Tensor, orientation: Tensor) -> Tensor:
        """Return bool `[N, 2]`: whether something is in the cell ahead, and in the one behind."""
        location, feature, _ = tokens.long().unbind(-1)
        is_tag = feature == self.features.get("tag", -1)
        offset = self.ahead[orientation]
        cells = torch.stack([CENTRE + offset, CENTRE - offset], dim=1)
        return ((location[:, None, :] == cells[:, :, None]) & is_tag[:, None, :]).any(2)

    def is_laser_on(self, tokens: Tensor) -> Tensor:
        """Return bool `[N]`: whether the agent shows the vibe that shoots."""
        location, feature, value = tokens.long().unbind(-1)
        is_vibe = (location == CENTRE) & (feature == self.features.get("vibe", -1))
        is_on: Tensor = (is_vibe & (value == self.laser)).any(1)
        return is_on

    def hashed(self, tokens: Tensor, chain: Tensor) -> Tensor:
        """Return numbers in [0, 1) `[N]` that follow from all that the agents have seen."""
        used = torch.where(tokens[..., :1] != EMPTY_LOCATION, tokens.long() + 1, 0)
        bits = (used * self.hash_weights[: tokens.shape[1]]).sum((1, 2)) + (chain * 2**HASH_BITS).long()
        for factor in (0x9E3779B1, 0x85EBCA6B):
            bits = ((bits ^ (bits >> 17)) * factor) & (2**40 - 1)
        numbers: Tensor = (bits >> (40 - HASH_BITS)).float() / 2**HASH_BITS
        return numbers


class _Translator(nn.Module):
    """Probabilities over the pairs of 2025 as probabilities over the actions of today."""

    forward_pairs: Tensor
    backward_pairs: Tensor
    use_pairs: Tensor
    attack_pairs: Tensor
    turns: Tensor
    moves: Tensor
    behind: Tensor

    def __init__(self, known: EnvironmentInterface, interface: EnvironmentInterface) -> None:
        super().__init__()
        names = interface.action_names
        self.num_actions, self.noop = interface.num_actions, names.index("noop")
        self.laser = _index(names, "change_vibe_laser")
        pairs = [split_name(name) for name in known.action_names]
        orientations = [f"rotate_{orientation}" for orientation in range(len(DIRECTIONS))]
        kinds = {
            "forward_pairs": [name == "move_0" for name in known.action_names],
            "backward_pairs": [name == "move_1" for name in known.action_names],
            "use_pairs": [verb in ("put_items", "get_items") for verb, _ in pairs],
            "attack_pairs": [verb == "attack" for verb, _ in pairs],
        }
        for kind, members in kinds.items():
            self.register_buffer(kind, torch.tensor(members), persistent=False)
        turns = [_index(known.action_names, name) for name in orientations]
        moves = [names.index(f"move_{direction}") for direction in DIRECTIONS]
        self.register_buffer("turns", torch.tensor([turn for turn in turns if turn >= 0]), persistent=False)
        self.register_buffer("moves", torch.tensor(moves), persistent=False)
        self.register_buffer("behind", torch.tensor(BEHIND), persistent=False)

    def faced(self, orientation: Tensor, action: Tensor) -> Tensor:
        """Return int `[N]`: the orientation, or that of the move that was made if it cannot have been."""
        is_move = action[:, None] == self.moves
        moved = is_move.long().argmax(1)
        is_possible = (orientation == moved) | (self.behind[orientation] == moved)
        return torch.where(is_move.any(1) & ~is_possible, moved, orientation)

    def forward(
        self,
        log_probs: Tensor,
        orientation: Tensor,
        chance: Tensor,
        occupied: Tensor,
        laser_on: Tensor,
        action: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the turns and translate the rest.

        Args:
            log_probs: `[N, P]` over the pairs of 2025.
            orientation: int `[N]`.
            chance: `[N]` in [0, 1); decides about the turns.
            occupied: bool `[N, 2]`, ahead and behind.
            laser_on: bool `[N]`.
            action: int `[N]`, what was done then, or None to act.

        Returns:
            Log-probabilities `[N, A]`, the new orientation int `[N]`, and the pair that every action of
            today most probably stands for, float `[N, A]`.
        """
        probs = log_probs.exp()
        ends = probs[:, self.turns].cumsum(1)
        still = probs.index_fill(1, self.turns, 0.0)
        if len(self.turns):  # where nothing else has any probability, a turn is certain
            certain = still.sum(1) < ROUNDING
            chance = torch.where(certain, chance * ends[:, -1] * (1 - ROUNDING), chance)
        target = self._targets(orientation, occupied, laser_on)
        turn = (chance[:, None] >= ends).sum(1)
        is_turn = turn < len(self.turns)
        if action is not None and len(self.turns):
            is_idle = (still * (target == self.noop)).sum(1) > ROUNDING
            is_turn = (action == self.noop) & (is_turn | ~is_idle & (ends[:, -1] > 0))
            turn = turn.clamp(max=len(self.turns) - 1)
        chosen = torch.zeros_like(probs)
        if len(self.turns):
            index = self.turns[turn.clamp(max=len(self.turns) - 1)]
            chosen = chosen.scatter(1, index[:, None], 1.0)
        probs = torch.where(is_turn[:, None], chosen, still)
        actions = probs.new_zeros(len(probs), self.num_actions).scatter_add(1, target, probs)
        actions = actions / actions.sum(1, keepdim=True)
        log_actions = torch.where(actions > 0, actions, 1.0).log().masked_fill(actions <= 0, float("-inf"))
        stands_for = target[:, :, None] == torch.arange(self.num_actions, device=target.device)
        meaning = torch.where(stands_for, probs.detach()[:, :, None], -1.0).argmax(1).float()
        return log_actions, torch.where(is_turn, turn, orientation), meaning

    def _targets(self, orientation: Tensor, occupied: Tensor, laser_on: Tensor) -> Tensor:
        """Return int `[N, P]`: the action of today that every pair stands for."""
        ahead, behind = self.moves[orientation], self.moves[self.behind[orientation]]
        noop = torch.full_like(ahead, self.noop)
        laser = torch.full_like(ahead, self.laser if self.laser >= 0 else self.noop)
        target = noop[:, None].expand(-1, len(self.use_pairs))
        for pairs, action in (
            (self.forward_pairs, torch.where(occupied[:, 0], noop, ahead)),
            (self.backward_pairs, torch.where(occupied[:, 1], noop, behind)),
            (self.use_pairs, torch.where(occupied[:, 0], ahead, noop)),
            (self.attack_pairs, torch.where(laser_on, ahead, laser)),
        ):
            target = torch.where(pairs, action[:, None], target)
        return target


def _index(names: Sequence[str], name: str) -> int:
    """Return where a name stands, or -1."""
    return names.index(name) if name in names else -1
