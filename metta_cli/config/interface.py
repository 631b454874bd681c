"""What a policy sees of an environment: the names behind the numbers.

`EnvironmentInterface` is plain data. It travels inside every checkpoint (its *passport*), because a
feature id, a tag value or an action index means nothing without the list that it points into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EnvironmentInterface:
    """Names, shapes and scales of the observations and actions of an environment.

    Attributes:
        action_names: flat action index -> name: the primary actions first (`noop`, `move_north`, ...),
            then `change_vibe_*`.
        feature_names: feature id of a token -> name.
        feature_scales: feature id -> the value that the feature is divided by.
        tag_names: value of a `tag` token -> tag name, as `type:wall` or `team:red`.
        observation_height: rows of the observation window (odd).
        observation_width: columns of the observation window (odd).
        num_tokens: `K`, rows of the token array of one agent.
        agents_per_environment: agents in one environment.
    """

    action_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    feature_scales: tuple[float, ...]
    tag_names: tuple[str, ...]
    observation_height: int
    observation_width: int
    num_tokens: int
    agents_per_environment: int

    @property
    def num_actions(self) -> int:
        """`A`, the size of the flat categorical action."""
        return len(self.action_names)

    @property
    def num_primary_actions(self) -> int:
        """How many of the flat actions go to the primary buffer; the rest are vibes."""
        return sum(not name.startswith("change_vibe") for name in self.action_names)

    def to_json(self) -> dict[str, Any]:
        """Return the interface as JSON data."""
        fields = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EnvironmentInterface:
        """Rebuild an interface from `to_json` data.

        Raises:
            TypeError: if a field is missing or unknown.
        """
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**fields)
