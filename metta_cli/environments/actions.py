"""Between the flat action of a policy, (verb, argument) pairs, and the two action buffers of MettaGrid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_VIBE_VERB = "change_vibe"
_VERBS = ("noop", "move", _VIBE_VERB)


class ActionCodec:
    """Translates flat action indices.

    MettaGrid numbers the primary actions first and the vibes after them, but reads them from two buffers; an
    index in the wrong one is ignored. An action name is a verb and an argument: `move_north` is (`move`,
    `north`), `noop` is (`noop`, ``).

    Args:
        action_names: flat action index -> name, as in `EnvironmentInterface.action_names`.

    Attributes:
        num_actions: `A`, flat actions.
        num_primary: how many of them go to the primary buffer; the rest are vibes.
        verbs: `V` verbs, in the order of their first action.
        arguments: the arguments of each verb.
        lookup: int32 `[V, Amax]`, (verb, argument) -> flat index; 0 where there is no such argument.
        valid: bool `[V, Amax]`, whether there is.

    Raises:
        ValueError: if a vibe stands before a primary action, or a name occurs twice.
    """

    def __init__(self, action_names: Sequence[str]) -> None:
        names = tuple(action_names)
        is_vibe = [name.startswith(f"{_VIBE_VERB}_") for name in names]
        if is_vibe != sorted(is_vibe):
            raise ValueError(f"primary actions must come before vibes: {names}")
        if len(set(names)) != len(names):
            raise ValueError(f"action names must differ: {names}")
        self.num_actions = len(names)
        self.num_primary = is_vibe.count(False)
        pairs = [_split_name(name) for name in names]
        self.verbs = tuple(dict.fromkeys(verb for verb, _ in pairs))
        self.arguments = tuple(tuple(arg for v, arg in pairs if v == verb) for verb in self.verbs)
        shape = (len(self.verbs), max((len(arguments) for arguments in self.arguments), default=0))
        self.lookup = np.zeros(shape, dtype=np.int32)
        self.valid = np.zeros(shape, dtype=bool)
        self._pairs = np.zeros((self.num_actions, 2), dtype=np.int32)
        for index, (verb, argument) in enumerate(pairs):
            row = self.verbs.index(verb)
            column = self.arguments[row].index(argument)
            self.lookup[row, column] = index
            self.valid[row, column] = True
            self._pairs[index] = row, column

    def split(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what to write into the two buffers of MettaGrid.

        Args:
            flat: int `[N]` flat actions.

        Returns:
            int32 `[N]` primary and int32 `[N]` vibe actions. 0 is noop in the first and "no change" in the
            second, so each flat action acts through one of them.

        Raises:
            ValueError: if an index is out of range; MettaGrid would ignore it.
        """
        flat = self._checked(flat).astype(np.int32)
        is_primary = flat < self.num_primary
        return np.where(is_primary, flat, 0), np.where(is_primary, 0, flat)

    def flat(self, verb_arguments: np.ndarray) -> np.ndarray:
        """Return the flat actions of (verb, argument) pairs.

        Args:
            verb_arguments: int `[N, 2]`.

        Returns:
            int32 `[N]`.

        Raises:
            ValueError: if there is no such pair.
        """
        pairs = np.asarray(verb_arguments)
        inside: np.ndarray = np.all((pairs >= 0) & (pairs < self.lookup.shape), axis=-1)
        verbs, arguments = np.where(inside[:, None], pairs, 0).T
        known: np.ndarray = inside & self.valid[verbs, arguments]
        if not known.all():
            verb, argument = pairs[~known][0]
            raise ValueError(f"no action has verb {verb} and argument {argument}; verbs: {self.verbs}")
        indices: np.ndarray = self.lookup[verbs, arguments]
        return indices

    def verb_argument(self, flat: np.ndarray) -> np.ndarray:
        """Return the (verb, argument) pair of every flat action.

        Args:
            flat: int `[N]` flat actions.

        Returns:
            int32 `[N, 2]`.

        Raises:
            ValueError: if an index is out of range.
        """
        pairs: np.ndarray = self._pairs[self._checked(flat)]
        return pairs

    def _checked(self, flat: np.ndarray) -> np.ndarray:
        flat = np.asarray(flat)
        if flat.size and (flat.min() < 0 or flat.max() >= self.num_actions):
            raise ValueError(
                f"flat actions must be in [0, {self.num_actions}), got {flat.min()} to {flat.max()}"
            )
        return flat


def _split_name(name: str) -> tuple[str, str]:
    """Split an action name at its verb; a name with no known verb is a verb of its own."""
    for verb in _VERBS:
        if name.startswith(f"{verb}_"):
            return verb, name.removeprefix(f"{verb}_")
    return name, ""
