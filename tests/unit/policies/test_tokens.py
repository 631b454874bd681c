"""The sparse first layer against torch's dense convolution on a grid that is really built."""

import math

import pytest
import torch
from torch.nn import functional as F

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.tokens import EMPTY_LOCATION, GLOBAL_LOCATION, TokenChannels, TokenConv2d

FEATURES = ("agent:group", "tag", "inv:heart", "vibe")
INTERFACE = EnvironmentInterface(
    action_names=("noop", "move_north"),
    feature_names=FEATURES,
    feature_scales=(10.0, 1.0, 4.0, 255.0),
    tag_names=("team:red", "type:wall"),
    observation_height=11,
    observation_width=11,
    num_tokens=40,
    agents_per_environment=1,
)


def random_tokens(batch: int, count: int, height: int = 11, width: int = 11) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)

    def integers(high: int) -> torch.Tensor:
        return torch.randint(0, high, (batch, count), generator=generator)

    location = integers(height) * 16 + integers(width)
    location[:, 0] = GLOBAL_LOCATION
    location[:, -5:] = EMPTY_LOCATION
    feature, value = integers(len(FEATURES)), integers(256)
    value = torch.where(feature == FEATURES.index("tag"), value % 2, value)
    feature[:, -5:], value[:, -5:] = 255, 255
    return torch.stack([location, feature, value], dim=-1).to(torch.uint8)


def dense_grid(tokens: torch.Tensor, names: tuple[str, ...], height: int, width: int) -> torch.Tensor:
    grid = torch.zeros(len(tokens), len(names), height, width)
    for row, observation in enumerate(tokens.tolist()):
        for location, feature, value in observation:
            if location == EMPTY_LOCATION:
                continue
            y, x = (height // 2, width // 2) if location == GLOBAL_LOCATION else divmod(location, 16)
            name, amount = FEATURES[feature], value / INTERFACE.feature_scales[feature]
            if name == "inv:heart":
                amount = math.log2(1 + value)
            if name == "tag":
                name, amount = f"tag:{INTERFACE.tag_names[value]}", 1.0
            grid[row, names.index(name), y, x] += amount
    return grid


@pytest.mark.parametrize(("kernel", "stride", "side"), [(5, 3, 11), (3, 1, 11), (3, 2, 7), (5, 1, 5)])
def test_sparse_convolution_and_its_gradient_equal_the_dense_ones(kernel, stride, side):
    channels = TokenChannels(INTERFACE)
    convolution = TokenConv2d(len(channels.names), 6, kernel, stride, side, side)
    torch.manual_seed(0)
    torch.nn.init.normal_(convolution.weight)
    torch.nn.init.normal_(convolution.bias)
    tokens = random_tokens(5, 40, side, side)
    weight = convolution.weight.detach().clone().requires_grad_()
    grid = dense_grid(tokens, channels.names, side, side)
    dense = F.conv2d(grid, weight, convolution.bias.detach(), stride=stride)

    channel, inputs = channels(tokens)
    sparse = convolution(tokens[..., 0], channel, inputs)
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-5)

    direction = torch.randn(dense.shape)
    (sparse * direction).sum().backward()
    (dense * direction).sum().backward()
    torch.testing.assert_close(convolution.weight.grad, weight.grad, rtol=1e-5, atol=1e-4)


def test_tags_are_channels_and_amounts_of_resources_are_logarithmic():
    channels = TokenChannels(INTERFACE)
    channel, inputs = channels(torch.tensor([[[0x55, 1, 1], [0x55, 2, 3], [0x55, 0, 5]]], dtype=torch.uint8))
    assert [channels.names[index] for index in channel[0]] == ["tag:type:wall", "inv:heart", "agent:group"]
    assert inputs.tolist() == [[1.0, 2.0, 0.5]]


def test_unknown_features_and_tags_count_nothing():
    channels = TokenChannels(INTERFACE)
    tokens = torch.tensor([[[0x55, 77, 3], [0x55, 1, 9]]], dtype=torch.uint8)
    channel, inputs = channels(tokens)
    assert channel.tolist() == [[-1, -1]]
    convolution = TokenConv2d(len(channels.names), 2, 3, 1, 11, 11)
    torch.nn.init.ones_(convolution.weight)
    assert convolution(tokens[..., 0], channel, inputs).abs().sum() == 0


def test_an_observation_without_tokens_gives_the_bias():
    channels = TokenChannels(INTERFACE)
    convolution = TokenConv2d(len(channels.names), 2, 3, 1, 11, 11)
    torch.nn.init.ones_(convolution.weight)
    torch.nn.init.constant_(convolution.bias, 7.0)
    tokens = torch.full((2, 4, 3), 255, dtype=torch.uint8)
    assert (convolution(tokens[..., 0], *channels(tokens)) == 7).all()
