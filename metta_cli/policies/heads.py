"""Two action heads, one for the verb and one for its argument, as one distribution over flat actions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

VERBS = (
    "noop",
    "move",
    "rotate",
    "put_items",
    "get_items",
    "attack",
    "swap",
    "change_color",
    "change_glyph",
    "change_vibe",
)


class VerbHeads(nn.Module):
    """Joins the logits of a verb head and an argument head.

    An action name is a verb and an argument: `move_north` is (`move`, `north`). A flat action has the
    probability `p(verb) * p(argument | verb)`; the second factor is the softmax of the argument head over
    the arguments that the verb has, so a pair that means nothing has no probability.

    Args:
        action_names: flat action index -> name.

    Attributes:
        verbs: in the order of their first action.
        sizes: `(V, Amax)`, the widths of the two heads.
    """

    verb_of: Tensor
    argument_of: Tensor
    valid: Tensor

    def __init__(self, action_names: Sequence[str]) -> None:
        super().__init__()
        pairs = [split_name(name) for name in action_names]
        self.verbs = tuple(dict.fromkeys(verb for verb, _ in pairs))
        verb_of = [self.verbs.index(verb) for verb, _ in pairs]
        argument_of = [verb_of[:index].count(verb) for index, verb in enumerate(verb_of)]
        self.sizes = (len(self.verbs), max(argument_of) + 1)
        valid = torch.zeros(self.sizes, dtype=torch.bool)
        valid[verb_of, argument_of] = True
        self.register_buffer("verb_of", torch.tensor(verb_of), persistent=False)
        self.register_buffer("argument_of", torch.tensor(argument_of), persistent=False)
        self.register_buffer("valid", valid, persistent=False)

    def forward(self, verb_logits: Tensor, argument_logits: Tensor) -> Tensor:
        """Return log-probabilities `[B, A]` of verb logits `[B, V]` and argument logits `[B, Amax]`."""
        verb = torch.log_softmax(verb_logits, dim=-1)
        masked = argument_logits[:, None, :].masked_fill(~self.valid, float("-inf"))
        argument = torch.log_softmax(masked, dim=-1)
        joined: Tensor = verb[:, self.verb_of] + argument[:, self.verb_of, self.argument_of]
        return joined


def split_name(name: str) -> tuple[str, str]:
    """Split an action name at its verb; a name with no known verb is a verb of its own."""
    for verb in VERBS:
        if name.startswith(f"{verb}_"):
            return verb, name.removeprefix(f"{verb}_")
    return name, ""
