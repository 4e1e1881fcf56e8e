"""EMA: grouped coordinate gates and a 3x3 branch, each weighing the other's positions.

Ouyang et al., "Efficient Multi-Scale Attention Module with Cross-Spatial Learning", ICASSP 2023,
arXiv:2305.13563. Differs from the paper: no. As published, the pooled vector of the gated branch is the
norm's bias whatever the input is, since a normalised map has mean zero; only the 3x3 branch's pooled vector
depends on the input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks._parts import InstanceNorm, axis_means, fitting
from attnsearch.blocks.registry import block

PRESETS = {"official": {}, "imagenet": {"groups": 32}}


@block("ema")
class EMA(nn.Module):
    """x * sigmoid(cross-spatial map) per group; (B, C, H, W) -> the same shape.

    Parameters: 10 c^2 + 4 c with c = C / G.

    Args:
        channels: C.
        groups: G, the authors' `factor`, a divisor of C; their ImageNet networks take 32.
    """

    def __init__(self, channels: int, *, groups: int = 8) -> None:
        super().__init__()
        self.groups = fitting("groups", groups, channels, "channels")
        part = channels // groups
        self.norm = InstanceNorm(part)
        self.axes = nn.Conv2d(part, part, 1)
        self.local = nn.Conv2d(part, part, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        part = channels // self.groups
        grouped = x.reshape(batch * self.groups, part, height, width)  # (B G, c, H, W)
        profiles = torch.cat(axis_means(x), 2).reshape(-1, part, height + width, 1)  # (B G, c, H + W, 1)
        rows, columns = self.axes(profiles).sigmoid().split([height, width], 2)
        gated = self.norm(grouped * rows * columns.transpose(2, 3))  # (B G, c, H, W)
        local = self.local(grouped)
        weights = _weigh(gated, local) + _weigh(local, gated)  # (B G, 1, H W)
        weights = weights.reshape(-1, 1, height, width)
        return (grouped * weights.sigmoid()).reshape(x.shape)


def _weigh(pooled: Tensor, positions: Tensor) -> Tensor:
    """One map's mean, softmaxed over channels, times the other's positions; -> (B, 1, H W)."""
    return F.adaptive_avg_pool2d(pooled, 1).flatten(1).softmax(1)[:, None] @ positions.flatten(2)
