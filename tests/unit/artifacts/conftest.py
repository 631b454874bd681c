from collections.abc import Callable
from typing import Any

import pytest

from metta_cli.artifacts.manifest import CheckpointManifest
from metta_cli.config.interface import EnvironmentInterface


@pytest.fixture
def make_manifest() -> Callable[..., CheckpointManifest]:
    def make(run: str = "walker", epoch: int = 3, **changes: Any) -> CheckpointManifest:
        passport = EnvironmentInterface(
            action_names=("noop", "move_north"),
            feature_names=("tag", "hp"),
            feature_scales=(255.0, 30.0),
            tag_names=("type:wall",),
            observation_height=11,
            observation_width=11,
            num_tokens=200,
            agents_per_environment=4,
        )
        fields: dict[str, Any] = {
            "run": run,
            "epoch": epoch,
            "agent_steps": 1000 * epoch,
            "architecture": {"name": "fast", "args": {"hidden_size": 128}},
            "passport": passport,
            "environment": {"name": "navigation/simple", "builder": "navigation", "args": {"width": 20}},
        }
        return CheckpointManifest.model_validate(fields | changes)

    return make
