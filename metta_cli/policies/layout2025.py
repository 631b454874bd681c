"""What a policy of July 2025 saw and did: names, numbers and sizes.

Source: the environment of the public repository of Metta, July 24 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError
from metta_cli.policies.heads import VERBS

WINDOW, NUM_TOKENS = 11, 200
FEATURES = (
    "type_id",
    "agent:group",
    "hp",
    "agent:frozen",
    "agent:orientation",
    "agent:color",
    "converting",
    "swappable",
    "episode_completion_pct",
    "last_action",
    "last_action_arg",
    "last_reward",
    "agent:glyph",
    "resource_rewards",
    "agent:visitation_counts",
)
INVENTORY = (
    "ore_red",
    "ore_blue",
    "ore_green",
    "battery_red",
    "battery_blue",
    "battery_green",
    "heart",
    "armor",
    "laser",
    "blueprint",
)
NUM_FEATURES = {22: 12, 24: 14, 25: 15}
"""Channels -> how many of them come before the inventory."""
TYPES = (
    "agent",
    "wall",
    "mine_red",
    "mine_blue",
    "mine_green",
    "generator_red",
    "generator_blue",
    "generator_green",
    "altar",
    "armory",
    "lasery",
    "lab",
    "factory",
    "temple",
    "block",
)
NUM_ARGUMENTS = {"move": 2, "rotate": 4, "attack": 9, "change_color": 4, "change_glyph": 9}


def interface_2025(
    num_channels: int,
    num_verbs: int = 7,
    num_arguments: int = 9,
    *,
    feature_names: Sequence[str] | None = None,
    verbs: Sequence[str] | None = None,
) -> EnvironmentInterface:
    """Return what a policy of July 2025 saw and did.

    A policy with fewer channels than a layout that is on record has the first of the next larger one; the
    names of channels beyond all of them are not on record, and nothing is shown in them.

    Args:
        num_channels: of the first layer.
        num_verbs: width of the first action head.
        num_arguments: width of the second; the verb that takes most has all of them.
        feature_names: names of the channels, where they are known.
        verbs: names of the verbs, where they are not the first of `metta_cli.policies.heads.VERBS`.

    Raises:
        CheckpointError: if the names do not fit the numbers.
    """
    layout = next((size for size in sorted(NUM_FEATURES) if size >= num_channels), max(NUM_FEATURES))
    known = [*FEATURES[: NUM_FEATURES[layout]], *INVENTORY]
    known += [f"unknown_{channel}" for channel in range(len(known), num_channels)]
    features = tuple(known[:num_channels] if feature_names is None else feature_names)
    names = tuple(VERBS[:num_verbs] if verbs is None else verbs)
    if len(features) != num_channels or len(names) != num_verbs:
        raise CheckpointError(
            f"the policy has {num_channels} channels and {num_verbs} verbs; {len(features)} features and"
            f" {len(names)} verbs are named",
            "name all of them under pytorch.feature_names and pytorch.verbs",
        )
    if not set(names) <= set(VERBS):
        raise CheckpointError(
            f"unknown verbs: {', '.join(sorted(set(names) - set(VERBS)))}", f"known: {', '.join(VERBS)}"
        )
    widest = max(names, key=lambda verb: NUM_ARGUMENTS.get(verb, 1))
    counts = {verb: min(NUM_ARGUMENTS.get(verb, 1), num_arguments) for verb in names}
    counts[widest] = num_arguments
    return EnvironmentInterface(
        action_names=tuple(f"{verb}_{argument}" for verb in names for argument in range(counts[verb])),
        feature_names=features,
        feature_scales=(1.0,) * num_channels,
        tag_names=(),
        observation_height=WINDOW,
        observation_width=WINDOW,
        num_tokens=NUM_TOKENS,
        agents_per_environment=1,
    )
