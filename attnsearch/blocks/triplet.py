"""Triplet attention: one spatial gate over each pair of (C, H, W), averaged.

Misra et al., "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021, arXiv:2010.03045.
Differs from the paper: no. Tensors are not rotated; the pooled maps are, which computes the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, check_odd
from attnsearch.blocks.registry import block


class PairGate(nn.Module):
    """sigmoid(norm(conv(maximum, mean))) of a pooled pair, (B, 2, P, Q) -> (B, P, Q)."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(1, momentum=0.01)

    def forward(self, pooled: Tensor) -> Tensor:
        scores: Tensor = self.norm(self.conv(pooled))
        return scores[:, 0].sigmoid()


@block("triplet")
class Triplet(nn.Module):
    """x * mean of gates over (C, W), (H, C), (H, W); (B, C, H, W) -> the same shape. Parameters: 6 k^2 + 6.

    Args:
        channels: not used; the gates slide over channels as over a spatial axis.
        kernel: odd size of the three convolutions.
        spatial: whether the gate over (H, W) takes part.
    """

    def __init__(self, channels: int, *, kernel: int = 7, spatial: bool = True) -> None:
        super().__init__()
        check_odd(kernel)
        self.over_height = PairGate(kernel)
        self.over_width = PairGate(kernel)
        self.over_channels = PairGate(kernel) if spatial else None

    def forward(self, x: Tensor) -> Tensor:
        share = 2 if self.over_channels is None else 3  # taken of each gate: they are smaller than their sum
        # Weights in the order of channels-last maps, (B, H, W, C): in any other their sum is slow.
        by_column: Tensor = self.over_height(_pool(x, 2)) / share  # (B, C, W)
        by_row: Tensor = self.over_width(_pool(x, 3).transpose(2, 3)) / share  # (B, H, C)
        gates = by_column.transpose(1, 2).contiguous()[:, None] + by_row[:, :, None]
        if self.over_channels is not None:
            by_place: Tensor = self.over_channels(_pool(x, 1)) / share  # (B, H, W)
            gates = gates + by_place[..., None]
        return x * gates.permute(0, 3, 1, 2)


def _pool(x: Tensor, dim: int) -> Tensor:
    """Maximum and mean over one axis, (B, 2, the two axes left)."""
    return torch.stack([x.amax(dim), x.mean(dim)], 1)
