"""The teachers that the configuration names."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from metta_cli.artifacts.loaders import DEFAULT_DATA_DIR
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.schema import MettaConfig
from metta_cli.config.trainer import KickstartConfig, TeacherConfig
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import UsageError
from metta_cli.populations.players import is_builtin
from metta_cli.runs.policies import load_policy
from metta_cli.training.kickstarter import Kickstarter, Teacher

logger = logging.getLogger(__name__)


def create_kickstarter(config: MettaConfig, device: torch.device) -> Kickstarter | None:
    """Load the teachers; None if the configuration names none.

    Args:
        config: of the run; teachers that were made for another environment are matched by name.
        device: where the teachers compute.

    Raises:
        MettaError: if a teacher cannot be loaded, or cannot act in the environment.
    """
    section = config.trainer.kickstart
    if not teachers_of(section):
        return None
    return load_kickstarter(section, interface_of(build(config.env)), device, Path(config.data_dir))


def load_kickstarter(
    config: KickstartConfig,
    interface: EnvironmentInterface,
    device: torch.device | str = "cpu",
    data_dir: Path | str = DEFAULT_DATA_DIR,
) -> Kickstarter | None:
    """Load the teachers of a student in one environment; None if the configuration names none.

    Args:
        config: the teachers, and how long they teach.
        interface: of the environment; teachers that were made for another one are matched by name.
        device: where the teachers compute.
        data_dir: where runs are looked for by name.

    Raises:
        MettaError: if a teacher cannot be loaded, or cannot act in the environment.
    """
    teachers = [
        _load(number, teacher, interface, torch.device(device), Path(data_dir))
        for number, teacher in enumerate(teachers_of(config), start=1)
    ]
    if not teachers:
        return None
    return Kickstarter(
        teachers, kickstart_steps=config.kickstart_steps, anneal_ratio=config.anneal_ratio, device=device
    )


def teachers_of(config: KickstartConfig) -> list[TeacherConfig]:
    """Return all teachers of a configuration: `additional_teachers`, then the one of `teacher_uri`."""
    teachers = list(config.additional_teachers or [])
    if config.teacher_uri is not None:
        own = {name: getattr(config, name) for name in ("action_loss_coef", "value_loss_coef")}
        teachers.append(TeacherConfig(teacher_uri=config.teacher_uri, **own))
    return teachers


def _load(
    number: int,
    config: TeacherConfig,
    interface: EnvironmentInterface,
    device: torch.device,
    data_dir: Path,
) -> Teacher:
    uri = config.teacher_uri
    if is_builtin(uri):
        raise UsageError(
            f"teacher {uri}: a built-in player has no probabilities to learn from",
            "name a run or a checkpoint as teacher",
        )
    policy, differences = load_policy(uri, device, data_dir=data_dir).fit(interface)
    if differences:
        logger.warning("teacher %s is matched by name: %s", uri, "; ".join(differences))
    return Teacher(f"{number}:{uri}", policy, config.action_loss_coef, config.value_loss_coef)
