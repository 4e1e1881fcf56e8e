"""Shuffle attention: in each channel group, half a channel gate, half a spatial gate; then a shuffle.

Zhang and Yang, "SA-Net: Shuffle Attention", ICASSP 2021, arXiv:2102.00240. Differs from the paper: 64
groups need a multiple of 128 channels, so where none are given their number is gcd(C / 2, 64).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks._parts import InstanceNorm, fitting
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError


@block("shuffle")
class Shuffle(nn.Module):
    """Affine gates of 2 G half groups, then a shuffle; (B, C, H, W) -> the same shape. Parameters: 3 C / G.

    Args:
        channels: C, even.
        groups: G, a divisor of C / 2; None takes gcd(C / 2, 64).
    """

    def __init__(self, channels: int, *, groups: int | None = None) -> None:
        super().__init__()
        self.groups = group_count(channels, groups)
        part = channels // (2 * self.groups)
        self.channel_weight = nn.Parameter(torch.zeros(1, part, 1, 1))
        self.channel_bias = nn.Parameter(torch.ones(1, part, 1, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(1, part, 1, 1))
        self.spatial_bias = nn.Parameter(torch.ones(1, part, 1, 1))
        self.norm = InstanceNorm(part)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """The number of groups said outright."""
        return {"groups": group_count(channels, **options)}

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch * self.groups, -1, height, width)  # (B G, C / G, H, W)
        first, second = grouped.chunk(2, 1)  # (B G, C / 2G, H, W) each
        pooled = F.adaptive_avg_pool2d(first, 1)
        first = first * (self.channel_weight * pooled + self.channel_bias).sigmoid().to(x.dtype)
        second = second * (self.spatial_weight * self.norm(second) + self.spatial_bias).sigmoid().to(x.dtype)
        halves = torch.cat([first, second], 1).reshape(batch, 2, channels // 2, height, width)
        # Channel 2 i + j from half j: a shuffle over two groups.
        return halves.transpose(1, 2).reshape(x.shape)


def group_count(channels: int, groups: int | None) -> int:
    if channels % 2:
        raise BlockError(f"an even number of channels is needed, got {channels}")
    return fitting("groups", groups, channels // 2, f"(half of {channels} channels)", preferred=64)
