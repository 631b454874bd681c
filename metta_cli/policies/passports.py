"""What a foreign policy knows: the names behind the numbers that it was trained with."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import CheckpointError, ConfigError, suggestion
from metta_cli.policies.external import ForeignEnvironment
from metta_cli.policies.heads import VerbHeads
from metta_cli.policies.layout2025 import NUM_FEATURES, NUM_TOKENS, WINDOW, interface_2025
from metta_cli.policies.tokens import TokenChannels

logger = logging.getLogger(__name__)

PROFILES = ("auto", "2025", "today")
ADAPTER_KEYS = (
    "profile",
    "feature_names",
    "feature_scales",
    "action_names",
    "verbs",
    "observations",
    "x_first",
)
"""Keys of the configuration `pytorch` that are about the adapter, and no arguments of the class."""
OBSERVATIONS = ("tokens", "grid")
GRID_ERA_CHANNELS = 21
"""A network with so many was trained on dense grids, rows first."""
MIN_VERBS_2025 = 4
"""Environments of today have fewer: noop, move, change_vibe."""
MIN_GRID_CHANNELS = 16
"""A flat observation of 11 x 11 cells with fewer is taken for tokens, of which there are few hundred."""
DEFAULT_CHANNELS, DEFAULT_VERBS, DEFAULT_ARGUMENTS = 24, 7, 9


@dataclass(frozen=True)
class Shapes:
    """What tensors say about observations and actions; None where they say nothing.

    Attributes:
        num_channels: channels of a convolution over the grid.
        num_tokens: tokens of a layer over the flat observation.
        heads: widths of the action heads, one after the other; one number for a layer with all of them.
        is_grid: whether the channels are those of a layer over the flat dense grid.
        rows_first: whether the network is known to come from the time of dense grids, rows first.
    """

    num_channels: int | None = None
    num_tokens: int | None = None
    heads: tuple[int, ...] | None = None
    is_grid: bool = False
    rows_first: bool = False


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Read the shapes of PufferLib's Metta network, its generic policy, or the LSTM-Transformer of 2025.

    Raises:
        CheckpointError: if the generic policy was made for neither tokens nor a grid of 11 x 11 cells.
    """
    for prefix in ("policy.", ""):
        stem, encoder = tensors.get(f"{prefix}conv_stem.0.weight"), tensors.get(f"{prefix}encoder.0.weight")
        first = tensors.get(f"{prefix}network.0.weight", stem)
        names = [name for name in sorted(tensors) if re.fullmatch(rf"{prefix}actor\.\d\.weight", name)]
        if first is not None and first.dim() == 4 and names:
            heads = tuple(len(tensors[name]) for name in names)
            is_of_grid_era = first is stem or first.shape[1] == GRID_ERA_CHANNELS
            return Shapes(first.shape[1], None, heads, rows_first=is_of_grid_era)
        if encoder is not None and encoder.dim() == 2 and f"{prefix}decoder.weight" in tensors:
            heads = (len(tensors[f"{prefix}decoder.weight"]),)
            return _shapes_of_flat(encoder.shape[1], heads, f"{prefix}encoder.0")
    return Shapes()


def _shapes_of_flat(num_inputs: int, heads: tuple[int, ...], name: str) -> Shapes:
    num_channels, rest = divmod(num_inputs, WINDOW * WINDOW)
    if not rest and num_channels >= MIN_GRID_CHANNELS:
        return Shapes(num_channels, None, heads, is_grid=True)
    if num_inputs % 3 == 0:
        return Shapes(None, num_inputs // 3, heads)
    raise CheckpointError(
        f"{name} reads {num_inputs} numbers, which are neither tokens of three nor a grid of 11 x 11 cells",
        "write the policy as a plugin that shows it what it expects: docs/plugins.md",
    )


def known_interface(
    adapter: Mapping[str, Any], shapes: Shapes, interface: EnvironmentInterface
) -> tuple[EnvironmentInterface, bool]:
    """Return what the policy knows, and whether that is the world of July 2025.

    Args:
        adapter: `ADAPTER_KEYS` of the configuration. `profile: auto` takes the names of the environment
            where they fit the shapes, or where names are given, and else those of 2025.
        shapes: of the policy.
        interface: of the environment.

    Raises:
        ConfigError: if the profile is unknown.
        CheckpointError: if the names do not fit the shapes.
    """
    profile = str(adapter.get("profile", "auto"))
    if profile not in PROFILES:
        raise ConfigError(f"pytorch.profile: there is no profile '{profile}'", suggestion(profile, PROFILES))
    today = _today(adapter, shapes, interface)
    if profile == "auto":
        is_today = "action_names" in adapter or _fits(shapes, today)
        profile = "today" if is_today else _profile_2025(shapes, today)
    if profile == "today":
        return today, False
    known = _known_2025(adapter, shapes)
    verbs = ", ".join(VerbHeads(known.action_names).verbs)
    _log_once(
        logging.INFO,
        f"the policy is shown the world of July 2025: {len(known.feature_names)} channels, verbs {verbs}",
    )
    return known, True


def foreign_environment(
    adapter: Mapping[str, Any], known: EnvironmentInterface, shapes: Shapes
) -> ForeignEnvironment:
    """Return what the constructor of the policy is given.

    Args:
        adapter: `ADAPTER_KEYS` of the configuration.
        known: what the policy knows.
        shapes: of the policy; they tell whether its actions are flat, and its observations a grid.

    Raises:
        ConfigError: if the kind of observations is unknown.
    """
    observations = str(adapter.get("observations", "grid" if shapes.is_grid else "tokens"))
    if observations not in OBSERVATIONS:
        raise ConfigError(
            f"pytorch.observations: there is no kind '{observations}'", suggestion(observations, OBSERVATIONS)
        )
    fields = {part.name: getattr(known, part.name) for part in dataclasses.fields(EnvironmentInterface)}
    flat_actions = shapes.heads == (known.num_actions,)
    return ForeignEnvironment(**fields, flat_actions=flat_actions, is_grid=observations == "grid")


def has_x_first(adapter: Mapping[str, Any], env: ForeignEnvironment, shapes: Shapes) -> bool:
    """Return whether a policy of 2025 has x as the first axis of the window: with tokens, unless told."""
    return bool(adapter.get("x_first", not env.is_grid and not shapes.rows_first))


@functools.cache
def _log_once(level: int, message: str) -> None:
    """Log what is the same for every environment that a policy is built for, for the first of them."""
    logger.log(level, message)


def _today(
    adapter: Mapping[str, Any], shapes: Shapes, interface: EnvironmentInterface
) -> EnvironmentInterface:
    changes: dict[str, Any] = {
        key: tuple(adapter[key]) for key in ("feature_names", "action_names") if key in adapter
    }
    if "feature_names" in changes:
        scales = dict(zip(interface.feature_names, interface.feature_scales, strict=True))
        changes["feature_scales"] = tuple(scales.get(name, 1.0) for name in changes["feature_names"])
    if "feature_scales" in adapter:
        changes["feature_scales"] = tuple(float(scale) for scale in adapter["feature_scales"])
    if shapes.num_tokens is not None:
        changes["num_tokens"] = shapes.num_tokens
    known = dataclasses.replace(interface, **changes)
    if len(known.feature_scales) != len(known.feature_names):
        raise ConfigError(
            f"pytorch.feature_scales has {len(known.feature_scales)} entries for"
            f" {len(known.feature_names)} features",
            "give one scale for every feature",
        )
    return known


def _fits(shapes: Shapes, known: EnvironmentInterface) -> bool:
    num_channels = len(known.feature_names) if shapes.is_grid else len(TokenChannels(known).names)
    if shapes.num_channels not in (None, num_channels):
        return False
    sizes = VerbHeads(known.action_names).sizes
    return shapes.heads in (None, sizes, (sum(sizes),), (known.num_actions,))


def _profile_2025(shapes: Shapes, today: EnvironmentInterface) -> str:
    """Return the profile of 2025, if the shapes can be those of that time.

    Raises:
        CheckpointError: if they cannot.
    """
    heads = shapes.heads or ()
    is_generic = shapes.is_grid or shapes.num_tokens == NUM_TOKENS
    if is_generic or (len(heads) == 2 and heads[0] >= MIN_VERBS_2025):
        return "2025"
    raise CheckpointError(
        f"the policy has {shapes.num_channels or shapes.num_tokens} "
        f"{'channels' if shapes.num_channels else 'tokens'} and action heads {list(heads)}; here there are"
        f" {len(TokenChannels(today).names)} channels and action heads"
        f" {list(VerbHeads(today.action_names).sizes)}, and the environment of 2025 had more verbs",
        "name what it was trained with under pytorch.feature_names and pytorch.action_names, or set"
        " pytorch.profile to 2025",
    )


def _known_2025(adapter: Mapping[str, Any], shapes: Shapes) -> EnvironmentInterface:
    names, verbs = adapter.get("feature_names"), adapter.get("verbs")
    num_channels = shapes.num_channels or (len(names) if names else DEFAULT_CHANNELS)
    heads = shapes.heads or (len(verbs) if verbs else DEFAULT_VERBS, DEFAULT_ARGUMENTS)
    if len(heads) == 1:
        num_verbs = len(verbs) if verbs else DEFAULT_VERBS
        heads = (num_verbs, heads[0] - num_verbs)
    if len(heads) != 2 or min(heads) < 1:
        raise CheckpointError(
            f"the policy has action heads of widths {list(shapes.heads or ())}, which fit neither this"
            " environment nor the verbs and arguments of 2025",
            "name the actions that it was trained with under pytorch.action_names",
        )
    known = interface_2025(num_channels, *heads, feature_names=names, verbs=verbs)
    if names is None and num_channels not in NUM_FEATURES:
        _log_once(
            logging.WARNING,
            f"the names of the {num_channels} channels of this policy are not on record, so it may be shown"
            " the wrong things; give them under pytorch.feature_names",
        )
    if "feature_scales" in adapter:
        known = dataclasses.replace(known, feature_scales=tuple(map(float, adapter["feature_scales"])))
    return known
