import json
import math
import random
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from metta_cli.artifacts.state_codec import decode_state, encode_state


def through_files(state: Any) -> Any:
    """Encode, write both files, read both files, decode."""
    data, tensors = encode_state(state)
    return decode_state(json.loads(json.dumps(data, allow_nan=False)), load(save(tensors)))


def assert_same(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert torch.equal(actual, expected)
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        assert list(map(type, actual)) == list(map(type, expected))
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(actual)
    else:
        assert actual == expected


@pytest.mark.parametrize(
    "state",
    [
        {"a": 1, 2: "b", (3, "c"): None, True: False, None: [], 0.5: ()},
        {0: {"step": 1}, "0": {"step": 2}},
        {"dict": [1], "tensor": "0", "tuple": (1, (2, [3]))},
        [1.5, -0.0, 1e-320, 0.1, math.inf, -math.inf, math.nan],
        [2**200, -(2**64), True, 1, 1.0],
        [b"", b"\x00\xff", "", "\x00 \u00fc \U0001f600"],
        [[], {}, (), [{}], ({},)],
        [np.arange(6, dtype=np.uint32).reshape(2, 3), np.array(1.5), np.array([True])],
    ],
)
def test_plain_data_comes_back_with_its_types(state: Any) -> None:
    assert_same(through_files(state), state)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.zeros(0, 4),
        torch.arange(12).reshape(3, 4).T,
        torch.arange(12.0)[::3],
        torch.ones(1, 3).expand(5, 3),
        torch.randn(3, 2).to(torch.bfloat16),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
    ],
)
def test_a_tensor_of_any_layout_and_type_comes_back(tensor: torch.Tensor) -> None:
    assert_same(through_files({"t": tensor})["t"], tensor)


def test_negative_zero_keeps_its_sign() -> None:
    assert math.copysign(1.0, through_files([-0.0])[0]) == -1.0


def test_tensors_that_share_storage_come_back_apart() -> None:
    base = torch.arange(4.0)
    restored = through_files({"whole": base, "part": base[1:3], "again": base})
    assert_same(restored, {"whole": base, "part": base[1:3].clone(), "again": base})
    restored["whole"][1] = 100.0
    assert restored["part"][0] == 1.0


def test_the_encoded_tensors_do_not_change_with_the_originals() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    _, tensors = encode_state({"w": weight})
    with torch.no_grad():
        weight.fill_(5.0)
    assert torch.equal(tensors["0"], torch.ones(2))
    assert not tensors["0"].requires_grad


def test_an_ordered_dict_comes_back_as_a_dict() -> None:
    assert_same(through_files(OrderedDict(b=1, a=2)), {"b": 1, "a": 2})


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(name: str) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        return model, getattr(torch.optim, name)(model.parameters(), lr=0.1)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        model(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()

    model, optimizer = make()
    step(model, optimizer, 1)
    saved = through_files({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert_same(saved["optimizer"], optimizer.state_dict())
    step(model, optimizer, 2)

    resumed_model, resumed_optimizer = make()
    resumed_model.load_state_dict(saved["model"])
    resumed_optimizer.load_state_dict(saved["optimizer"])
    step(resumed_model, resumed_optimizer, 2)
    for one, other in zip(model.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_random_generators_go_on_as_if_they_had_not_stopped() -> None:
    generator = np.random.default_rng(5)
    legacy = np.random.RandomState(5)
    python = random.Random(5)
    for draw in (generator.standard_normal, legacy.standard_normal, lambda: python.gauss(0, 1)):
        draw()
    torch.manual_seed(5)
    torch.rand(3)
    state = {
        "torch": torch.get_rng_state(),
        "numpy": generator.bit_generator.state,
        "legacy": legacy.get_state(),
        "python": python.getstate(),
    }
    restored = through_files(state)
    assert_same(restored, state)

    expected = (torch.rand(2), generator.random(), legacy.standard_normal(), python.gauss(0, 1))
    torch.set_rng_state(restored["torch"])
    generator.bit_generator.state = restored["numpy"]
    legacy.set_state(restored["legacy"])
    python.setstate(restored["python"])
    assert torch.equal(torch.rand(2), expected[0])
    assert (generator.random(), legacy.standard_normal(), python.gauss(0, 1)) == expected[1:]


@pytest.mark.parametrize("value", [object(), {1}, np.float32(1), 1j, np.array(["text"]), torch.float32])
def test_anything_else_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"state\['optimizer'\]\[1\] is a "):
        encode_state({"optimizer": [0, value]})


@pytest.mark.parametrize(
    "data",
    [
        {"pickle": "gASV"},
        {"tensor": "missing"},
        {"tensor": ["0"]},
        {"array": 0},
        {"dict": {"a": 1}},
        {"dict": [[1, 2, 3]]},
        {"bytes": "not base64!"},
        {"float": "1.0"},
        {"tuple": [], "dict": []},
        {},
    ],
)
def test_data_that_was_not_encoded_here_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode_state(data, {"0": torch.zeros(1)})
