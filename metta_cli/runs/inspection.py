"""`metta inspect`: what a checkpoint or a file of weights holds, and which suites it can play."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metta_cli.artifacts.checkpoints import Checkpoint
from metta_cli.artifacts.foreign import ForeignCheckpoint
from metta_cli.config.catalogue import find_suite, suite_names
from metta_cli.config.layers import load_config
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import IncompatibleError
from metta_cli.runs.external import ForeignPolicy
from metta_cli.runs.policies import NO_TRUST, Fit, LoadedPolicy, Trust, playable, read_weights, suite_fits


def inspect_policy(
    uri: str,
    *,
    data_dir: Path,
    architecture: Mapping[str, Any] | None = None,
    trust: Trust = NO_TRUST,
) -> dict[str, Any]:
    """Say what is at an address, as JSON data.

    A file whose architecture is not recognised is described all the same, with the reason.

    Args:
        uri: of a checkpoint of ours, or of a file that another tool wrote.
        data_dir: where runs are looked for by name.
        architecture: see `load_policy`.
        trust: see `load_policy`.

    Returns:
        `format`, `architecture`, `num_parameters`, `tensors`, `passport`, `provenance`, `suites`, `obstacle`.

    Raises:
        MettaError: if nothing can be read there.
    """
    found = read_weights(uri, data_dir, trust)
    policy: LoadedPolicy | None = None
    obstacle = None
    try:
        policy = playable(found, torch.device("cpu"), architecture)
    except IncompatibleError as error:
        obstacle = {"reason": error.message, "cure": error.cure}
    facts = _checkpoint_facts(found) if isinstance(found, Checkpoint) else _foreign_facts(found, policy)
    weights = found.weights if isinstance(found, Checkpoint) else found.tensors
    return {
        "uri": uri,
        **facts,
        "architecture": None if policy is None else policy.description["architecture"],
        "recognised_by": [] if policy is None else policy.description.get("recognised_by", []),
        "num_parameters": sum(tensor.numel() for tensor in weights.values()),
        "tensors": [_tensor_facts(name, tensor) for name, tensor in weights.items()],
        "suites": {} if policy is None else _suites(policy),
        "obstacle": obstacle,
    }


def _checkpoint_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    manifest = checkpoint.manifest
    return {
        "format": "metta checkpoint",
        "passport": manifest.passport.to_json(),
        "provenance": {
            "checkpoint": manifest.name,
            "agent_steps": manifest.agent_steps,
            "environment": manifest.environment.name,
            "created_at": manifest.created_at.isoformat(timespec="seconds"),
            "versions": manifest.versions,
            "scores": manifest.scores,
            "sha256": {name: digest.sha256 for name, digest in manifest.files.items()},
            "can_resume": checkpoint.trainer_state is not None,
        },
    }


def _foreign_facts(foreign: ForeignCheckpoint, policy: LoadedPolicy | None) -> dict[str, Any]:
    """Return the facts of a file; a passport only where its names are known whatever the environment is."""
    passport = None
    if isinstance(policy, ForeignPolicy):
        known, is_2025 = policy.known(interface_of(build(load_config().config.env)))
        passport = known.to_json() if is_2025 else None
    return {
        "format": foreign.kind,
        "passport": passport,
        "provenance": {
            "file": foreign.source,
            "sha256": foreign.sha256,
            "left_aside": foreign.extras,
        },
    }


def _tensor_facts(name: str, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }


def _suites(policy: LoadedPolicy) -> dict[str, Any]:
    return {
        name: {
            simulation: _fit_facts(fit) for simulation, fit in suite_fits(policy, find_suite(name)).items()
        }
        for name in suite_names()
    }


def _fit_facts(fit: Fit) -> dict[str, Any]:
    if fit.obstacle is not None:
        return {"fit": "incompatible", "notes": [fit.obstacle.message]}
    return {"fit": "remapped" if fit.differences else "compatible", "notes": fit.differences}
