"""A policy of another tool, as an architecture: what a run becomes that begins with such a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.external import ForeignEnvironment
from metta_cli.policies.inference import build_foreign
from metta_cli.policies.targets import TARGET, construct

DEFAULT = {TARGET: "puffer_recurrent"}


def create_external(
    env: EnvironmentInterface,
    architecture: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> nn.Module:
    """Build the policy of another tool with whatever weights.

    Args:
        env: the environment interface.
        architecture: as under `pytorch:` in a configuration, `_target_` and its arguments; by default
            `puffer_recurrent`.
        shapes: of the tensors of the file that it was first loaded from, which tell how many channels and
            actions it knows; by default it knows those of `env`.
    """
    config = dict(architecture or DEFAULT)
    if shapes is not None:
        tensors = {name: torch.zeros(list(shape)) for name, shape in shapes.items()}
    else:
        tensors = dict(construct(config, ForeignEnvironment(**dataclasses.asdict(env))).state_dict())
    return build_foreign(config, tensors, env)
