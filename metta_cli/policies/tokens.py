"""From observation tokens to features, without ever building the grid.

An observation is a list of tokens `(location, feature, value)`. A convolution over the grid that they
describe is a sum over tokens: each token meets only the kernels that cover its cell. `TokenConv2d`
computes exactly that sum, so the cost follows the 30 or so tokens in sight and not the
`channels x height x width` numbers of a grid that is almost empty.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metta_cli.config.interface import EnvironmentInterface

EMPTY_LOCATION = 0xFF
GLOBAL_LOCATION = 0xFE
MAX_BYTES = 256


class TokenChannels(nn.Module):
    """Assign every token a channel and an input value, by name.

    Each feature is one channel with the input `value / scale`, with two exceptions. The value of `tag` is
    the name of a thing and no amount, so each tag has a channel of its own with the input 1. Amounts of
    resources (`inv:*`) reach 255 but are mostly 0, 1 or 2, and one more matters most where there are few:
    their input is `log2(1 + value)`.

    Args:
        interface: names and scales of the features and tags.
    """

    channel_of_feature: Tensor
    channel_of_tag: Tensor
    inputs: Tensor

    def __init__(self, interface: EnvironmentInterface) -> None:
        super().__init__()
        features = interface.feature_names
        plain = [name for name in features if name != "tag"]
        self.names = (*plain, *(f"tag:{name}" for name in interface.tag_names))
        index = {name: channel for channel, name in enumerate(self.names)}

        channel_of_feature = torch.full((MAX_BYTES,), -1, dtype=torch.int32)
        scale = torch.ones(MAX_BYTES)
        is_amount = torch.zeros(MAX_BYTES, dtype=torch.bool)
        for feature, name in enumerate(features):
            channel_of_feature[feature] = index.get(name, -1)
            scale[feature] = interface.feature_scales[feature]
            is_amount[feature] = name.startswith("inv:")
        channel_of_tag = torch.full((MAX_BYTES,), -1, dtype=torch.int32)
        for tag, name in enumerate(interface.tag_names):
            channel_of_tag[tag] = index[f"tag:{name}"]
        self.tag_feature = features.index("tag") if "tag" in features else -1
        self.register_buffer("channel_of_feature", channel_of_feature, persistent=False)
        self.register_buffer("channel_of_tag", channel_of_tag, persistent=False)
        amounts = torch.arange(MAX_BYTES, dtype=torch.float32)
        inputs = torch.where(is_amount[:, None], torch.log2(1 + amounts), amounts / scale[:, None])
        if self.tag_feature >= 0:
            inputs[self.tag_feature] = 1.0
        self.register_buffer("inputs", inputs, persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channel int32 `[B, K]` (-1: unknown) and input float `[B, K]` of tokens `[B, K, 3]`."""
        feature, value = tokens[..., 1].int(), tokens[..., 2].int()
        is_tag = feature == self.tag_feature
        channel = torch.where(is_tag, self.channel_of_tag[value], self.channel_of_feature[feature])
        return channel, self.inputs[feature, value]


class TokenConv2d(nn.Module):
    """A convolution over the token grid: the sum `weight[:, channel, dy, dx] * input` over tokens.

    Equal to `nn.Conv2d` (no padding) on the dense grid in which tokens of one cell and channel add up.
    Global tokens (location 0xFE) count as tokens of the centre cell, where the agent is; empty rows
    (0xFF) and channels of -1 count nothing.

    Args:
        num_channels: input channels.
        out_channels: output channels.
        kernel_size: side of the square kernel.
        stride: step between kernel positions.
        height: rows of the observation window.
        width: columns of the observation window.
    """

    offsets: Tensor

    def __init__(
        self, num_channels: int, out_channels: int, kernel_size: int, stride: int, height: int, width: int
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, num_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.out_height = (height - kernel_size) // stride + 1
        self.out_width = (width - kernel_size) // stride + 1
        offsets = kernel_offsets(kernel_size, stride, height, width, self.out_height, self.out_width)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, locations: Tensor, channels: Tensor, inputs: Tensor) -> Tensor:
        """Return `[B, out_channels, out_height, out_width]`.

        Args:
            locations: `[B, K]` location bytes.
            channels: int `[B, K]`, -1 for tokens to leave out.
            inputs: float `[B, K]`.
        """
        batch = len(locations)
        out_channels, num_channels, size, _ = self.weight.shape
        offsets = self.offsets[:, locations.int()]
        hits = (offsets >= 0) & (channels >= 0)
        position, row, token = hits.nonzero(as_tuple=True)
        rows = channels[row, token] * (size * size) + offsets[position, row, token]
        bag_sizes = hits.sum(dim=2, dtype=torch.int32).flatten()
        bag_starts = F.pad(bag_sizes.cumsum(0, dtype=torch.int32), (1, 0))[:-1]
        table = self.weight.permute(1, 2, 3, 0).reshape(num_channels * size * size, out_channels)
        sums = F.embedding_bag(rows, table, bag_starts, mode="sum", per_sample_weights=inputs[row, token])
        grid = sums.view(self.out_height, self.out_width, batch, out_channels).permute(2, 3, 0, 1)
        return grid + self.bias[:, None, None]


def kernel_offsets(
    kernel_size: int, stride: int, height: int, width: int, out_height: int, out_width: int
) -> Tensor:
    """Return int16 `[out_height * out_width, 256]`: location byte -> offset in the kernel there, or -1."""
    locations = torch.arange(MAX_BYTES)
    rows, columns = locations >> 4, locations & 15
    rows[GLOBAL_LOCATION], columns[GLOBAL_LOCATION] = height // 2, width // 2
    inside = (rows < height) & (columns < width) & (locations != EMPTY_LOCATION)
    top = (torch.arange(out_height) * stride).repeat_interleave(out_width)[:, None]
    left = (torch.arange(out_width) * stride).repeat(out_height)[:, None]
    dy, dx = rows - top, columns - left
    covered = inside & (dy >= 0) & (dy < kernel_size) & (dx >= 0) & (dx < kernel_size)
    return torch.where(covered, dy * kernel_size + dx, -1).to(torch.int16)


def own_cell(
    locations: Tensor, channels: Tensor, inputs: Tensor, *, centre: int, num_channels: int
) -> Tensor:
    """Return `[B, num_channels]`: what the cell of the agent holds, global tokens included.

    Args:
        locations: uint8 `[B, K]` location bytes.
        channels: int `[B, K]`, -1 for tokens to leave out.
        inputs: float `[B, K]`.
        centre: location byte of the cell of the agent.
        num_channels: width of the result.
    """
    is_own = ((locations == centre) | (locations == GLOBAL_LOCATION)) & (channels >= 0)
    cell = torch.zeros(len(locations), num_channels, device=inputs.device)
    return cell.scatter_add(1, channels.clamp(min=0).long(), torch.where(is_own, inputs, 0.0))
