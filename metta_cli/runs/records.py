"""What is known of a policy: its metadata, and the record that holds both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_cli.artifacts.manifest import CheckpointManifest
from metta_cli.artifacts.uris import DEFAULT_SCHEME, parse_uri
from metta_cli.config.section import plain
from metta_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from metta_cli.runs.policy_store import PolicyStore

TRAINED_SCORE = "avg_simulation_score"
"""Under which name an evaluation in training leaves the score of a policy."""
REQUIRED: dict[str, Any] = {"agent_step": 0, "epoch": 0, "generation": 0, "train_time": 0.0}
"""What all metadata has, and its value where nobody said anything."""


class PolicyMetadata(dict[str, Any]):
    """Metadata of a policy: a dict whose required entries are always there.

    `agent_step`, `epoch`, `generation` and `train_time` (seconds) can be changed but not removed; anything
    else is free. Entries are attributes too.

    Args:
        entries: to begin with.
    """

    def __init__(self, entries: Mapping[str, Any] | None = None, **more: Any) -> None:
        super().__init__(REQUIRED | plain(entries or {}) | more)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the metadata has no '{name}'") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delitem__(self, name: str) -> None:
        if name in REQUIRED:
            raise KeyError(f"'{name}' belongs to all metadata and cannot be removed")
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove an entry that is not required, and return it."""
        if name in REQUIRED:
            raise KeyError(f"'{name}' belongs to all metadata and cannot be removed")
        return super().pop(name, *default)

    def metric(self, name: str) -> float | None:
        """Return a number by the name that it is known by; None if there is none, or it is not finite.

        Looked for are, in this order: an entry, a logged score (`eval_navigation/score`), a category of the
        evaluation (`navigation`) and a simulation (`navigation/terrain_small`). `score` also stands for the
        mean score of the evaluation.
        """
        scores = self.get("scores") or {}
        evals = self.get("evals") or {}
        places = [
            self.get(name),
            scores.get(name),
            scores.get(f"eval_{name}/score"),
            scores.get(f"eval_{name}"),
            scores.get(TRAINED_SCORE) if name == "score" else None,
            evals.get(name),
            (evals.get("category_scores") or {}).get(name),
            (evals.get("simulation_scores") or {}).get(name),
        ]
        for value in places:
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        return None

    def metric_names(self) -> list[str]:
        """Return names that `metric` knows, as they are stored."""
        stored = [*self, *(self.get("scores") or {})]
        return sorted({name for name in stored if self.metric(name) is not None})


class PolicyRecord:
    """A policy, where it is stored, and what is known of it.

    Args:
        policy_store: loads the policy when it is first asked for.
        run_name: what it is called, such as `RUN:v12`.
        uri: where it is stored; None if it is not yet.
        metadata: what is known of it.
    """

    def __init__(
        self,
        policy_store: PolicyStore,
        run_name: str,
        uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_name, self.uri = run_name, uri
        self._store = policy_store
        self._metadata = PolicyMetadata(metadata)
        self._policy: nn.Module | None = None

    @property
    def metadata(self) -> PolicyMetadata:
        """What is known of the policy. Any mapping may be assigned; it replaces what was known."""
        return self._metadata

    @metadata.setter
    def metadata(self, entries: Mapping[str, Any]) -> None:
        self._metadata = PolicyMetadata(entries)

    @property
    def policy(self) -> Any:
        """The policy, loaded now if it was not before: a module that no other record shares.

        Raises:
            UsageError: if there is none, neither here nor stored.
            MettaError: if it cannot be loaded.
        """
        if self._policy is None:
            if self.uri is None:
                raise UsageError(f"record {self.run_name} has no policy yet", "set record.policy = agent")
            self._policy = self._store.load_agent(self.uri)
        return self._policy

    @policy.setter
    def policy(self, policy: nn.Module) -> None:
        self._policy = policy

    @property
    def file_path(self) -> Path:
        """Where it is on this machine.

        Raises:
            UsageError: if it is stored elsewhere, or not at all.
        """
        uri = None if self.uri is None else parse_uri(self.uri)
        if uri is None or uri.scheme != DEFAULT_SCHEME:
            raise UsageError(f"record {self.run_name} is not a file on this machine", "read record.uri")
        return Path(uri.path + (f":{uri.version}" if uri.version else ""))

    def __repr__(self) -> str:
        return f"PolicyRecord({self.run_name!r}, uri={self.uri!r}, epoch={self._metadata.epoch})"


def metadata_of(manifest: CheckpointManifest) -> PolicyMetadata:
    """Return what a checkpoint says of its policy; what was stored with it goes before the rest."""
    score = manifest.scores.get(TRAINED_SCORE)
    return PolicyMetadata(
        {
            "epoch": manifest.epoch,
            "agent_step": manifest.agent_steps,
            "run": manifest.run,
            "created_at": manifest.created_at.isoformat(),
            "environment": manifest.environment.name,
            "scores": dict(manifest.scores),
        }
        | ({} if score is None else {"score": score})
        | manifest.metadata
    )
