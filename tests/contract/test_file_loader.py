from pathlib import Path

from metta_cli.artifacts.checkpoints import Checkpoint, save_checkpoint
from metta_cli.testing.loaders import LoaderContract
from metta_plugins.loaders.file import FileLoader


class TestFileLoader(LoaderContract):
    def make_loader(self) -> FileLoader:
        return FileLoader()

    def store(self, checkpoint: Checkpoint, directory: Path) -> str:
        checkpoints = directory / "example" / "checkpoints"
        save_checkpoint(checkpoints, checkpoint.manifest, checkpoint.weights, checkpoint.trainer_state)
        return f"file://{directory}/example"

    def missing_uri(self, directory: Path) -> str:
        return f"file://{directory}/missing"


class TestFileLoaderForFilesOfOthers(TestFileLoader):
    def store(self, checkpoint: Checkpoint, directory: Path) -> str:
        return super().store(checkpoint, directory).replace("file://", "pytorch://")

    def missing_uri(self, directory: Path) -> str:
        return f"pytorch://{directory}/missing.pt"
