"""What every loader plugin promises, as tests to inherit.

    class TestMyLoader(LoaderContract):
        def make_loader(self):
            return MyLoader()

        def store(self, checkpoint, directory):
            ...put it where MyLoader finds it...
            return "my://address"

        def missing_uri(self, directory):
            return "my://nothing-here"

pytest collects the tests of the subclass; this module is imported by tests only.
"""

from __future__ import annotations

from pathlib import Path

import torch

from metta_cli.artifacts.checkpoints import Checkpoint, CheckpointManifest
from metta_cli.artifacts.loaders import Loader
from metta_cli.artifacts.uris import parse_uri
from metta_cli.errors import NotFoundError


def example_checkpoint(run: str = "example", epoch: int = 3) -> Checkpoint:
    """Return a small checkpoint with tensors of several types, in memory."""
    manifest = CheckpointManifest.model_validate(
        {
            "run": run,
            "epoch": epoch,
            "agent_steps": 1000 * epoch,
            "architecture": {"name": "fast", "args": {}},
            "passport": {
                "action_names": ("noop", "move_north"),
                "feature_names": ("tag", "hp"),
                "feature_scales": (255.0, 30.0),
                "tag_names": ("type:wall",),
                "observation_height": 11,
                "observation_width": 11,
                "num_tokens": 200,
                "agents_per_environment": 4,
            },
            "environment": {"name": "example", "builder": "example"},
        }
    )
    weights = {
        "layer.weight": torch.arange(12.0).reshape(3, 4) + epoch,
        "layer.half": torch.ones(2, dtype=torch.bfloat16),
        "counter": torch.tensor(epoch),
    }
    return Checkpoint(manifest, weights, {"epoch": epoch, "tensor": torch.zeros(2)})


class LoaderContract:
    """Inherit, fill in the three methods, and pytest runs the tests."""

    def make_loader(self) -> Loader:
        """Return the loader under test."""
        raise NotImplementedError

    def store(self, checkpoint: Checkpoint, directory: Path) -> str:
        """Put a checkpoint where the loader finds it, and return its URI.

        Args:
            checkpoint: what to store, in whatever form the loader reads.
            directory: an empty directory for it, and the `data_dir` of the tests.
        """
        raise NotImplementedError

    def missing_uri(self, directory: Path) -> str:
        """Return a well-formed URI that nothing is stored at."""
        raise NotImplementedError

    def load(self, uri: str, directory: Path) -> Checkpoint:
        """Load a checkpoint as `metta` does."""
        loaded = self.make_loader().load(parse_uri(uri), device="cpu", data_dir=directory)
        assert isinstance(loaded, Checkpoint)
        return loaded

    def test_the_weights_come_back(self, tmp_path: Path) -> None:
        """Same names, types, shapes and values, on the device that was asked for."""
        stored = example_checkpoint()
        loaded = self.load(self.store(stored, tmp_path), tmp_path)
        assert loaded.weights.keys() == stored.weights.keys()
        for name, tensor in stored.weights.items():
            assert loaded.weights[name].dtype == tensor.dtype, name
            assert loaded.weights[name].device.type == "cpu", name
            assert torch.equal(loaded.weights[name], tensor), name

    def test_the_policy_can_be_built_again(self, tmp_path: Path) -> None:
        """The manifest names the architecture, and what the policy was trained on."""
        stored = example_checkpoint()
        loaded = self.load(self.store(stored, tmp_path), tmp_path)
        assert loaded.manifest.architecture == stored.manifest.architecture
        assert loaded.manifest.passport == stored.manifest.passport

    def test_loaded_tensors_belong_to_the_caller(self, tmp_path: Path) -> None:
        """Changing them changes nothing for whoever loads next."""
        uri = self.store(example_checkpoint(), tmp_path)
        self.load(uri, tmp_path).weights["layer.weight"].fill_(-1.0)
        expected = example_checkpoint().weights["layer.weight"]
        assert torch.equal(self.load(uri, tmp_path).weights["layer.weight"], expected)

    def test_nothing_there_is_not_found(self, tmp_path: Path) -> None:
        """Where nothing is stored, the error says so in one line, and what to do."""
        uri = self.missing_uri(tmp_path)
        caught: NotFoundError | None = None
        try:
            self.load(uri, tmp_path)
        except NotFoundError as error:
            caught = error
        assert caught is not None, "no NotFoundError was raised"
        assert "\n" not in caught.message, "the message has several lines"
        assert caught.cure, "the NotFoundError has no cure"
