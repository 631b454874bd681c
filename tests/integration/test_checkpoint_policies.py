"""Checkpoints of metta: held to the digest that was asked for, and to the plugin that they came from."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metta_cli import extensions
from metta_cli.artifacts.checkpoints import WEIGHTS, read_checkpoint, save_checkpoint
from metta_cli.artifacts.manifest import Architecture, CheckpointManifest
from metta_cli.config.catalogue import find_environment
from metta_cli.config.layers import load_config
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import CheckpointError, PluginError, UsageError
from metta_cli.policies.registry import create_policy
from metta_cli.runs.agents import load_policy_from_checkpoint
from metta_cli.runs.evaluate import evaluate
from metta_cli.runs.policies import Trust, load_policy
from metta_cli.runs.train import train


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(architecture):
    """Save a small policy as `walker:v1`, under whatever name, and return the manifest."""
    spec = find_environment("navigation/simple")
    passport = interface_of(build(spec))
    policy = create_policy("example", passport, {"hidden_size": 4})
    manifest = CheckpointManifest(
        run="walker", epoch=1, agent_steps=8, architecture=architecture, passport=passport, environment=spec
    )
    path = save_checkpoint(Path("train_dir/walker/checkpoints"), manifest, policy.state_dict())
    return read_checkpoint(path).manifest


def test_a_checkpoint_notes_the_distribution_of_its_plugin():
    architecture = Architecture.installed("example", {"hidden_size": 4})
    assert (architecture.distribution, architecture.version is not None) == ("metta-cli", True)
    assert save(architecture).architecture == architecture
    assert load_policy("walker").description["architecture"]["distribution"] == "metta-cli"


def test_a_manifest_from_before_that_note_still_loads():
    manifest = save(Architecture(name="example", args={"hidden_size": 4}))
    assert manifest.architecture.distribution is None
    assert load_policy("walker").passport is not None


def test_a_plugin_that_is_gone_is_named_with_the_way_to_install_it():
    save(Architecture(name="gone", distribution="their-policies", version="1.2"))
    with pytest.raises(
        PluginError, match=r"policy 'gone' of their-policies 1\.2, which is not there"
    ) as caught:
        load_policy("walker")
    assert caught.value.message.startswith("Failed to load policy: checkpoint walker:v1 ")
    assert caught.value.cure == "pip install their-policies==1.2"


def test_training_goes_on_only_where_the_plugin_is():
    save(Architecture(name="gone", distribution="their-policies", version="1.2"))
    words = ["run=other", "policy_uri=walker", "env=navigation/simple"]
    resolved = load_config(files=[], words=words, options={}, environ={})
    with pytest.raises(PluginError, match=r"policy 'gone' of their-policies 1\.2, which is not there"):
        train(resolved, resume=False, progress=None)
    assert not Path("train_dir/other").exists()


def test_a_plugin_that_is_gone_without_a_note_of_its_distribution():
    save(Architecture(name="exampel"))
    with pytest.raises(PluginError, match="policy 'exampel', which is not there") as caught:
        load_policy("walker")
    assert "did you mean 'example'?" in caught.value.cure


def test_a_plugin_that_breaks_when_it_is_imported_names_its_distribution(monkeypatch):
    Path("their_broken_module.py").write_text("import a_module_that_is_gone\n")
    monkeypatch.syspath_prepend(".")
    info = extensions.PluginInfo(
        "theirs", extensions.POLICIES, "their-policies", "1.2", "their_broken_module:P"
    )
    installed = extensions._installed
    monkeypatch.setattr(extensions, "_installed", lambda: [*installed(), info])
    save(Architecture.installed("theirs", {}))
    with pytest.raises(
        PluginError, match=r"policy 'theirs' of their-policies 1\.2 cannot be loaded"
    ) as caught:
        load_policy("walker")
    assert "a_module_that_is_gone" in caught.value.message
    assert "their-policies" in caught.value.cure
    sys.modules.pop("their_broken_module", None)


def test_a_plugin_that_breaks_when_a_policy_is_fitted_is_told_as_a_policy_that_fails_to_load(monkeypatch):
    Path("their_broken_module.py").write_text("import a_module_that_is_gone\n")
    monkeypatch.syspath_prepend(".")
    info = extensions.PluginInfo(
        "theirs", extensions.POLICIES, "their-policies", "1.2", "their_broken_module:P"
    )
    installed = extensions._installed
    monkeypatch.setattr(extensions, "_installed", lambda: [*installed(), info])
    torch.save({"actor.weight": torch.zeros(2, 2)}, "x.pt")
    message = r"^Failed to load policy: policy 'theirs' of their-policies 1\.2 cannot be loaded"
    with pytest.raises(PluginError, match=message):
        evaluate(load_config(words=["pytorch._target_=theirs"]), uri="x.pt", environment="laser_tag")
    with pytest.raises(PluginError, match=message):
        load_policy_from_checkpoint("x.pt", env="laser_tag", pytorch={"_target_": "theirs"})
    sys.modules.pop("their_broken_module", None)


def test_a_digest_is_asked_of_our_own_weights_as_well():
    manifest = save(Architecture.installed("example", {"hidden_size": 4}))
    digest = manifest.files[WEIGHTS].sha256
    for text in (digest, digest.upper(), f"sha256:{digest}"):
        assert load_policy("walker", trust=Trust(sha256=text)).passport is not None
    with pytest.raises(CheckpointError, match=r"weights.safetensors of checkpoint walker:v1 is not the file"):
        load_policy("walker", trust=Trust(sha256="0" * 64))
    with pytest.raises(UsageError, match="is not a sha256"):
        load_policy("walker", trust=Trust(sha256="abc"))


def test_weights_that_no_longer_fit_are_named():
    manifest = save(Architecture.installed("example", {"hidden_size": 4}))
    checkpoint = read_checkpoint(Path("train_dir/walker/checkpoints/walker:v1"))
    smaller = {name: torch.zeros(1) for name in checkpoint.weights}
    later = manifest.model_copy(update={"epoch": 2, "passport": replace(manifest.passport)})
    save_checkpoint(Path("train_dir/walker/checkpoints"), later, smaller)
    with pytest.raises(CheckpointError, match="Failed to load policy: the weights of checkpoint walker:v2"):
        load_policy("walker")
