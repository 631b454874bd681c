"""Addresses of artifacts on Weights & Biases.

wandb://ENTITY/PROJECT/TYPE/NAME[:VERSION]   an artifact of that type
wandb://ENTITY/PROJECT/NAME[:VERSION]        an artifact of any type
wandb://run/NAME[:VERSION]                   type `model`, in the entity and project of W&B's settings
wandb://sweep/NAME[:VERSION]                 type `sweep_model`, likewise
wandb://ENTITY/PROJECT                       a project, where something is to be stored

VERSION is `vN` as W&B counts, `latest` (also if it is left out), or an alias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from metta_cli.artifacts.uris import Uri, parse_uri
from metta_cli.errors import UsageError

SCHEME = "wandb"
MODEL = "model"
SWEEP_MODEL = "sweep_model"
LATEST = "latest"

_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,128}")
_FORMS = (
    "wandb://ENTITY/PROJECT/TYPE/NAME:VERSION, wandb://ENTITY/PROJECT/NAME, wandb://run/NAME "
    "or wandb://sweep/NAME"
)


@dataclass(frozen=True)
class ArtifactReference:
    """What a `wandb://` address names.

    Attributes:
        entity: team or user; None is the default of the account.
        project: None is the one of W&B's settings, or `metta`.
        type: of the artifact; None takes any.
        name: of the artifact; empty if the address names only a project.
        version: `latest`, `vN` as W&B counts, or an alias.
    """

    entity: str | None
    project: str | None
    type: str | None
    name: str
    version: str = LATEST

    def __str__(self) -> str:
        place = f"{self.entity}/{self.project}" if self.entity else "run"
        kind = f"{self.type}/" if self.entity and self.type else ""
        return f"wandb://{place}/{kind}{self.name}:{self.version}"


def parse_reference(uri: str | Uri) -> ArtifactReference:
    """Take a `wandb://` address apart.

    Raises:
        UsageError: it has none of the known forms.
    """
    parsed = parse_uri(uri) if isinstance(uri, str) else uri
    path, version = parsed.path, parsed.version
    if version is None:
        path, _, alias = path.partition(":")
        version = alias or LATEST
    parts = path.split("/")
    is_sound = parsed.scheme == SCHEME and all(map(is_artifact_name, parts)) and is_alias(version)
    if is_sound and len(parts) == 2 and parts[0] in ("run", "sweep"):
        return ArtifactReference(None, None, MODEL if parts[0] == "run" else SWEEP_MODEL, parts[1], version)
    if is_sound and len(parts) == 2:
        return ArtifactReference(parts[0], parts[1], None, "", version)
    if is_sound and len(parts) == 3:
        return ArtifactReference(parts[0], parts[1], None, parts[2], version)
    if is_sound and len(parts) == 4:
        return ArtifactReference(parts[0], parts[1], parts[2], parts[3], version)
    raise UsageError(f"{str(parsed)!r} is not the address of a W&B artifact", f"write {_FORMS}")


def require_name(reference: ArtifactReference) -> None:
    """Refuse an address that names a project and no artifact in it.

    Raises:
        UsageError: it does.
    """
    if not reference.name:
        raise UsageError(
            f"wandb://{reference.entity}/{reference.project} names no artifact", f"write {_FORMS}"
        )


def is_artifact_name(name: str) -> bool:
    """Whether W&B takes this for the name of an artifact."""
    return _NAME.fullmatch(name) is not None


def is_alias(version: str) -> bool:
    """Whether W&B takes this for a name of a version."""
    return bool(version) and version.isprintable() and not set("/:") & set(version)
