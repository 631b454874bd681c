"""Policies for programs: load one, act with it, keep it, choose among many."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from metta_cli.artifacts.checkpoints import (
    COMPLETE,
    Architecture,
    Checkpoint,
    CheckpointManifest,
    read_checkpoint,
    read_manifest,
    save_checkpoint,
)
from metta_cli.artifacts.loaders import DEFAULT_DATA_DIR
from metta_cli.artifacts.uris import DEFAULT_SCHEME, parse_uri
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.section import plain
from metta_cli.errors import ConfigError, StorageError, UsageError
from metta_cli.policies.registry import recipe_of
from metta_cli.runs.agents import LoadedAgent, fitted_agent, load_policy_from_checkpoint
from metta_cli.runs.policies import (
    CheckpointPolicy,
    failed_to_load,
    playable,
)
from metta_cli.runs.provenance import versions
from metta_cli.runs.records import PolicyRecord, metadata_of
from metta_cli.runs.selection import candidates, select

UNKNOWN_ENVIRONMENT = EnvironmentSpec(name="unknown", builder="unknown", map_pool_size=0)
OF_THE_FILE = ("checkpoint", "agent_steps", "trained_on", "architecture", "sha256", "created_at")
"""Metadata that a checkpoint says of itself; a copy says its own."""

logger = logging.getLogger(__name__)


class PolicyStore:
    """Saves policies as checkpoints, and loads and selects them by address.

    What is saved is what `metta train` saves, so `metta eval`, `metta inspect` and `metta train policy_uri=`
    take it. The weights of the last few checkpoints are kept in memory; every load makes a module of its
    own from them, so nothing that is done to one record shows in another.

    Args:
        cfg: any mapping with `device` (default `cpu`), `data_dir` (where runs are looked for by name),
            `policy_cache_size` (checkpoints kept in memory, default 10), `run` (what saved policies are
            called; by default the directory that `checkpoint_dir` belongs to) and
            `trainer.checkpoint.checkpoint_dir` (where they go). Other entries are for others.
        wandb_run: not used, as checkpoints are uploaded by the run that makes them; older scripts pass it.
    """

    def __init__(self, cfg: Mapping[str, Any] | None = None, wandb_run: object = None) -> None:
        settings = plain(cfg or {})
        self.device = str(settings.get("device", "cpu"))
        self.data_dir = Path(settings.get("data_dir", DEFAULT_DATA_DIR))
        self.policy_cache_size = int(settings.get("policy_cache_size", 10))
        checkpoint_dir = (settings.get("trainer") or {}).get("checkpoint", {}).get("checkpoint_dir")
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.run = settings.get("run") or run_of(self.checkpoint_dir)
        self._cache: OrderedDict[tuple[str, str], Checkpoint] = OrderedDict()
        self._lock = threading.Lock()
        if wandb_run is not None:
            logger.warning("PolicyStore does not use wandb_run: a run uploads its checkpoints itself")

    # -- making and saving -----------------------------------------------------------------------------

    def make_model_name(self, epoch: int) -> str:
        """Return what the policy of an epoch is called: `RUN:vEPOCH`."""
        return f"{self.run}:v{epoch}"

    def create_empty_policy_record(self, name: str) -> PolicyRecord:
        """Return a record without a policy.

        Args:
            name: `RUN:vN`, as `make_model_name` gives, or any other; it becomes the run of the checkpoint.
        """
        uri = parse_uri(name)
        return PolicyRecord(self, name, metadata={} if uri.epoch is None else {"epoch": uri.epoch})

    def save(self, record: PolicyRecord, trainer_state: Mapping[str, Any] | None = None) -> PolicyRecord:
        """Store a record as a checkpoint in `checkpoint_dir`, and return the stored one.

        Args:
            record: with its policy, which must have been made by `Agent` or `create_policy`, or loaded.
            trainer_state: what training needs to go on; None stores the policy alone.

        Raises:
            UsageError: if the record has no policy, or its name and its metadata disagree about the epoch.
            ConfigError: if `checkpoint_dir` is not set, or it is not known how the policy was made.
            StorageError: if the place cannot be written, or holds another policy of that name, or this one
                with other metadata.
        """
        if self.checkpoint_dir is None:
            raise ConfigError(
                "the policy store does not know where to save", "set trainer.checkpoint.checkpoint_dir"
            )
        policy = bare(record.policy)
        manifest = self._manifest(record, policy)
        if isinstance(policy, LoadedAgent):
            policy = cast(CheckpointPolicy, policy.loaded).policy
        path = save_checkpoint(self.checkpoint_dir, manifest, policy.state_dict(), trainer_state)
        stored = read_manifest(path)
        if (stored.metadata, stored.scores) != (manifest.metadata, manifest.scores):
            raise StorageError(
                f"{path} already exists, with other metadata",
                "checkpoints are never changed; save the record under another name",
            )
        saved = PolicyRecord(self, manifest.name, f"file://{path}", metadata_of(stored))
        saved.policy = record.policy
        return saved

    def _manifest(self, record: PolicyRecord, policy: nn.Module) -> CheckpointManifest:
        metadata = {
            name: _json_value(name, value)
            for name, value in record.metadata.items()
            if name not in OF_THE_FILE
        }
        uri = parse_uri(record.run_name)
        epoch = int(metadata["epoch"])
        if uri.epoch not in (None, epoch):
            raise UsageError(
                f"record {record.run_name} has metadata of epoch {epoch}",
                "take the name from make_model_name(epoch)",
            )
        architecture, passport, environment = _origin(policy)
        mapping = getattr(policy, "original_feature_mapping", None)
        if mapping is not None:
            metadata["original_feature_mapping"] = dict(mapping)
        scores = metadata.get("scores") or {}
        return CheckpointManifest(
            run=run_name(uri.path),
            epoch=epoch,
            agent_steps=int(metadata["agent_step"]),
            architecture=architecture,
            passport=passport,
            environment=environment,
            scores={name: float(score) for name, score in scores.items()},
            metadata={name: value for name, value in metadata.items() if name != "scores"},
            versions=versions(),
        )

    # -- loading and selecting -------------------------------------------------------------------------

    def load_from_uri(self, uri: str) -> PolicyRecord:
        """Return the policy at an address, loaded; of a run, its newest.

        Raises:
            MettaError: see `load_policy_from_checkpoint`.
        """
        agent = self.load_agent(uri)
        known = getattr(agent.loaded, "manifest", None)
        metadata = {} if known is None else metadata_of(known)
        record = PolicyRecord(self, agent.description.get("checkpoint", uri), uri, metadata)
        record.metadata.update(agent.description)
        record.policy = agent
        return record

    def policy_record(
        self, uri_or_path: str | Path, selector_type: str = "latest", metric: str = "score", **options: Any
    ) -> PolicyRecord:
        """Return one of the policies at an address; see `policy_records`."""
        return self.policy_records(uri_or_path, selector_type, 1, metric, **options)[0]

    def policy_records(
        self,
        uri_or_path: str | Path,
        selector_type: str = "latest",
        n: int = 1,
        metric: str = "score",
        *,
        filters: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> list[PolicyRecord]:
        """Return policies at an address; they are loaded when they are first asked for.

        Args:
            uri_or_path: of a run, a directory of checkpoints or of runs, a project on W&B
                (`wandb://ENTITY/PROJECT`), or a single policy.
            selector_type: `latest`, `top`, `rand` or `all`.
            n: how many at most; `all` does not count.
            metric: what `top` ranks by: an entry of the metadata, a logged score, a category or a simulation
                of the evaluation.
            filters: entry of the metadata -> the value that it must have, a list of values, or
                `{"min": ..., "max": ...}`.
            seed: for `rand`; None is different every time.

        Raises:
            UsageError: if there is no such selector.
            NotFoundError: if there is nothing, nothing passes the filters, or nothing has the metric.
            MettaError: if it cannot be read.
        """
        address = str(uri_or_path)
        with failed_to_load():
            found = candidates(address, self.data_dir)
        if found is None:
            return [self.load_from_uri(address)]
        chosen = select(found, selector_type, n=n, metric=metric, filters=plain(filters or {}), seed=seed)
        return [PolicyRecord(self, each.name, each.uri, each.metadata) for each in chosen]

    def load_agent(self, uri: str) -> LoadedAgent:
        """Return the policy at an address as a new module, on the device of the store."""
        checkpoint = self._cached(uri)
        if checkpoint is None:
            return load_policy_from_checkpoint(uri, self.device, data_dir=self.data_dir)
        with failed_to_load():
            loaded = playable(checkpoint, torch.device(self.device), None)
        mapping = checkpoint.manifest.metadata.get("original_feature_mapping")
        restore = getattr(getattr(loaded, "policy", None), "restore_original_feature_mapping", None)
        if mapping is not None and restore is not None:
            restore(mapping)
        return fitted_agent(loaded)

    def _cached(self, uri: str) -> Checkpoint | None:
        """Return a single checkpoint on this machine from memory, or read it; None for any other address."""
        parsed = parse_uri(uri)
        path = Path(parsed.path + (f":{parsed.version}" if parsed.version else "")).expanduser()
        if parsed.scheme != DEFAULT_SCHEME or not (path / COMPLETE).is_file():
            return None
        key = (str(path.resolve()), (path / COMPLETE).read_text())  # another content, another key
        with self._lock:
            checkpoint = self._cache.pop(key, None) or read_checkpoint(path)
            self._cache[key] = checkpoint
            while len(self._cache) > self.policy_cache_size:
                self._cache.popitem(last=False)
        return checkpoint


def _origin(policy: nn.Module) -> tuple[Architecture, EnvironmentInterface, EnvironmentSpec]:
    """Return how to make a policy again, what it was made for, and where it was trained.

    Raises:
        ConfigError: if that is not known.
    """
    if isinstance(policy, LoadedAgent) and isinstance(policy.loaded, CheckpointPolicy):
        manifest = policy.loaded.manifest
        return manifest.architecture, manifest.passport, manifest.environment
    recipe = recipe_of(policy)
    if recipe is None:
        raise ConfigError(
            f"a {type(policy).__name__} cannot be saved: it is not known how to make it again",
            "make it known with register_policy(name, class) and create it with Agent(env, {'policy': name})",
        )
    environment = getattr(policy, "environment_spec", UNKNOWN_ENVIRONMENT)
    return Architecture.installed(recipe.name, recipe.args), recipe.interface, environment


def bare(policy: nn.Module) -> nn.Module:
    """Return the policy inside the wrappers of `torch.compile` and `DistributedDataParallel`."""
    while True:
        inner = getattr(policy, "_orig_mod", None)
        if inner is None and isinstance(policy, nn.parallel.DistributedDataParallel):
            inner = policy.module
        if inner is None:
            return policy
        policy = inner


def run_of(checkpoint_dir: Path | None) -> str:
    """Return the run that a directory of checkpoints belongs to: `RUN` of `RUN/checkpoints`."""
    if checkpoint_dir is None:
        return "model"
    place = checkpoint_dir.absolute()
    return run_name((place.parent if place.name == "checkpoints" else place).name)


def run_name(text: str) -> str:
    """Return a text as the name of a run, without the characters that one cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-")[:128] or "model"


def _json_value(name: str, value: Any) -> Any:
    """Return a value as JSON knows it.

    Raises:
        ConfigError: if it does not.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _json_value(f"{name}.{key}", entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(name, entry) for entry in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ConfigError(
        f"metadata '{name}' is a {type(value).__name__}, which cannot be stored",
        "store numbers, texts, lists and dicts",
    )
