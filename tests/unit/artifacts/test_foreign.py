"""What foreign files hold, in every format that they come in."""

import argparse
import datetime
import hashlib
import pathlib
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from metta_cli.artifacts.foreign import read_foreign, require_sha256
from metta_cli.artifacts.state_dicts import CONTAINER_KEYS
from metta_cli.errors import CheckpointError, UsageError

from .foreign_files import Encoder, records, save, save_torchscript, state, write_zip


def assert_tensors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name
        assert not actual[name].requires_grad


def test_a_plain_state_dict_is_read_as_it_is(tmp_path: pathlib.Path) -> None:
    path = save(Encoder().state_dict(), tmp_path / "x.pt")
    found = read_foreign(path)
    assert_tensors(found.tensors, torch.load(path))
    assert (found.kind, found.source, found.prefix, found.extras) == ("state_dict", str(path), "", {})
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.module is None


@pytest.mark.parametrize("key", CONTAINER_KEYS)
def test_weights_are_found_beside_the_state_of_the_optimizer(key: str, tmp_path: pathlib.Path) -> None:
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    content = {"epoch": 7, key: model.state_dict(), "optimizer": optimizer.state_dict(), "note": "good"}
    found = read_foreign(save(content, tmp_path / "x.pt"))
    assert_tensors(found.tensors, dict(model.state_dict()))
    assert found.extras == {"epoch": 7, "optimizer": "dict", "note": "good"}


def test_containers_may_be_nested(tmp_path: pathlib.Path) -> None:
    content = {"agent": {"policy": {"state_dict": state()}, "step": 3}, "rng": torch.get_rng_state()}
    found = read_foreign(save(content, tmp_path / "x.pt"))
    assert_tensors(found.tensors, state())
    assert found.extras == {"step": 3, "rng": "Tensor"}


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda name: f"module.{name}", "module."),
        (lambda name: f"_orig_mod.{name}", ""),
        (lambda name: f"policy.{name}", "policy."),
        (lambda name: f"module._orig_mod.module.{name}", "module.module."),
        (lambda name: f"_orig_mod.module.policy.{name}", "module.policy."),
        (lambda name: f"policy._orig_mod.module._orig_mod.{name}", "policy.module."),
        (lambda name: name.replace("layers.", "layers._orig_mod."), ""),
    ],
)
def test_the_names_of_wrappers_are_taken_off(
    wrap: Callable[[str], str], prefix: str, tmp_path: pathlib.Path
) -> None:
    content = {"model": {wrap(name): tensor for name, tensor in state().items()}}
    found = read_foreign(save(content, tmp_path / "x.pt"))
    assert_tensors(found.tensors, state())
    assert found.prefix == prefix


def test_names_that_only_some_tensors_begin_with_stay(tmp_path: pathlib.Path) -> None:
    content = {
        "policy.actor.weight": torch.ones(2),
        "lstm.weight_ih_l0": torch.zeros(3),
        "module.x": torch.ones(1),
    }
    found = read_foreign(save(content, tmp_path / "x.pt"))
    assert_tensors(found.tensors, content)


def test_a_name_of_one_part_is_never_a_wrapper(tmp_path: pathlib.Path) -> None:
    found = read_foreign(save({"policy": torch.ones(2)}, tmp_path / "x.pt"))
    assert list(found.tensors) == ["policy"]


def test_torchscript_gives_its_state_dict_without_running(tmp_path: pathlib.Path) -> None:
    expected = save_torchscript(tmp_path / "x.pt")
    found = read_foreign(tmp_path / "x.pt")
    assert_tensors(found.tensors, expected)
    assert found.kind == "torchscript"


def test_the_code_of_torchscript_is_not_even_looked_at(tmp_path: pathlib.Path) -> None:
    expected = save_torchscript(tmp_path / "x.pt")
    content = {
        name: b"not a program" if "/code/" in name else data
        for name, data in records(tmp_path / "x.pt").items()
    }
    found = read_foreign(write_zip(tmp_path / "y.pt", content))
    assert_tensors(found.tensors, expected)


def test_safetensors_are_read_with_their_metadata(tmp_path: pathlib.Path) -> None:
    save_file(state(), tmp_path / "x.safetensors", {"format": "pt", "author": "me"})
    found = read_foreign(tmp_path / "x.safetensors")
    assert_tensors(found.tensors, state())
    assert found.kind == "safetensors"
    assert found.extras == {"metadata.format": "pt", "metadata.author": "me"}


def test_the_name_of_a_file_says_nothing_about_its_kind(tmp_path: pathlib.Path) -> None:
    save_file(state(), tmp_path / "x.pt")
    save(state(), tmp_path / "y.safetensors")
    assert read_foreign(tmp_path / "x.pt").kind == "safetensors"
    assert read_foreign(tmp_path / "y.safetensors").kind == "state_dict"


def test_tied_weights_stay_tied(tmp_path: pathlib.Path) -> None:
    shared = torch.randn(40, 50)
    found = read_foreign(save({"lstm.weight": shared, "cell.weight": shared}, tmp_path / "x.pt"))
    assert found.tensors["lstm.weight"].data_ptr() == found.tensors["cell.weight"].data_ptr()


def test_views_keep_their_shape_and_values(tmp_path: pathlib.Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    content = {
        "transposed": base.t(),
        "column": base[:, 1],
        "scalar": torch.tensor(2.5),
        "empty": torch.ones(0, 3),
    }
    assert_tensors(read_foreign(save(content, tmp_path / "x.pt")).tensors, content)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_point_types_become_float32_with_a_warning(
    dtype: torch.dtype, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {"a.weight": torch.randn(3, dtype=dtype), "steps": torch.tensor(3)}
    found = read_foreign(save(content, tmp_path / "x.pt"))
    assert_tensors(found.tensors, content | {"a.weight": content["a.weight"].float()})
    assert str(dtype).removeprefix("torch.") in caplog.text


def test_plain_data_of_other_libraries_is_left_aside_without_being_made(tmp_path: pathlib.Path) -> None:
    content: dict[str, Any] = {
        "model": state(),
        "score": np.float64(0.5),
        "random": np.random.default_rng(0).integers(0, 5, 3),
        "numpy_state": np.random.get_state(),
        "python_state": random.getstate(),
        "arguments": argparse.Namespace(lr=0.1),
        "path": pathlib.Path("x"),
        "when": datetime.datetime(2025, 7, 1),
        "versions": {"torch": torch.__version__},
        "kinds": {torch.float16, torch.device("cpu"), torch.Size([1])},
        "bytes": b"abc",
        "complex": 1 + 2j,
    }
    found = read_foreign(save(content, tmp_path / "x.pt"))
    assert_tensors(found.tensors, state())
    assert found.extras["score"] == "scalar"
    assert found.extras["arguments"] == "Namespace"


def test_torch_is_left_with_the_list_of_safe_names_that_it_had(tmp_path: pathlib.Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_foreign(save({"model": state(), "arguments": argparse.Namespace(lr=0.1)}, tmp_path / "x.pt"))
    assert set(torch.serialization.get_safe_globals()) == before


def test_whatever_torch_calls_unsafe_is_refused_or_left_aside(tmp_path: pathlib.Path) -> None:
    path = save(
        {"model": Encoder(), "score": np.float64(1), "when": datetime.date(2025, 7, 1)}, tmp_path / "x.pt"
    )
    unsafe = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    with pytest.raises(CheckpointError) as caught:
        read_foreign(path)
    named = set(re.findall(r"[\w.]+\.\w+", str(caught.value).split("would run", 1)[1].split("(")[0]))
    assert unsafe - named == {"numpy._core.multiarray.scalar", "numpy.dtype"}


def test_a_pickled_module_needs_permission_and_names_its_classes(tmp_path: pathlib.Path) -> None:
    path = save(Encoder(), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"{Encoder.__module__}\.Encoder.*--allow-pickle") as caught:
        read_foreign(path)
    assert caught.value.exit_code == 3
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"policy": module, "epoch": 3}])
def test_with_permission_a_pickled_module_is_read(
    wrap: Callable[[nn.Module], object], tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = Encoder()
    found = read_foreign(save(wrap(module), tmp_path / "x.pt"), allow_pickle=True)
    assert_tensors(found.tensors, dict(module.state_dict()))
    assert found.kind == "pickled_module"
    assert isinstance(found.module, Encoder)
    assert f"{Encoder.__module__}.Encoder" in caplog.text


def test_plain_weights_are_never_unpickled_even_with_permission(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_foreign(save(state(), tmp_path / "x.pt"), allow_pickle=True).kind == "state_dict"
    assert caplog.text == ""


def test_the_digest_is_compared_before_anything_is_read(tmp_path: pathlib.Path) -> None:
    path = save(state(), tmp_path / "x.pt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_foreign(path, sha256=digest.upper()).sha256 == digest
    assert read_foreign(path, sha256=f"sha256:{digest}").sha256 == digest
    with pytest.raises(CheckpointError, match=f"not the file that was asked for: its sha256 is {digest}"):
        read_foreign(path, sha256="0" * 64)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        read_foreign(path, sha256=digest[:-1])


@pytest.mark.parametrize(
    "uri", ["s3://bucket/x.pt", "wandb://e/p/n", "https://host/x.pt", "pytorch://https://host/x.pt"]
)
def test_running_a_remote_file_needs_its_digest(uri: str) -> None:
    with pytest.raises(UsageError, match="--sha256"):
        require_sha256(uri, allow_pickle=True, sha256=None)
    require_sha256(uri, allow_pickle=True, sha256="0" * 64)
    require_sha256(uri, allow_pickle=False, sha256=None)


@pytest.mark.parametrize("uri", ["x.pt", "file://x.pt", "pytorch:///data/x.pt"])
def test_running_a_local_file_needs_no_digest(uri: str) -> None:
    require_sha256(uri, allow_pickle=True, sha256=None)
