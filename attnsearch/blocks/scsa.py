"""SCSA: gates over rows and over columns at several kernel sizes, then self-attention between channels.

Si et al., "SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention", Neurocomputing 2025,
arXiv:2407.05128.
    z = x * sigmoid(norm(convs(row means))) * sigmoid(norm(convs(column means))), one set of depthwise convolutions
    y = norm(pool(z)); q, k, v = y scaled per channel; y = z * sigmoid(mean(softmax(q k^T / sqrt d) v)), over channels
Differs from the paper: no; as in the authors' code (HZAI-ZJNU/SCSA), whose released configurations have one head.
A window larger than the map is clamped to it, where their code fails. The authors put it between the 3x3
convolution's activation and the last 1x1 of a unit. At first it gives about x / 8.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import GroupNorm, axis_means, check_divides, fitting
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

KERNELS = (3, 5, 7, 9)


@block("scsa")
class SCSA(nn.Module):
    """Spatial gates and channel self-attention; (B, C, H, W) -> the same shape; 16 C (+ 3 C) parameters.

    Args:
        channels: C, divisible by 4.
        heads: a divisor of C.
        window: of the pool before the self-attention, also its stride; -1 pools the whole map.
        pool: avg or max, in windows.
        qkv_bias: whether the three scalings have biases.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 1,
        window: int = 7,
        pool: Literal["avg", "max"] = "avg",
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        check_divides(4, channels, f"scsa needs channels divisible by 4, got {channels}")
        if window < 1 and window != -1:
            raise BlockError(f"window must be at least 1, or -1 for the whole map, got {window}")
        self.heads = fitting("heads", heads, channels, "channels")
        self.window, self.largest = window, pool == "max"
        self.scale = (channels // heads) ** -0.5
        part = channels // 4
        self.convs = nn.ModuleList(nn.Conv1d(part, part, k, padding=k // 2, groups=part) for k in KERNELS)
        self.norm_rows = GroupNorm(4, channels)
        self.norm_columns = GroupNorm(4, channels)
        self.norm = GroupNorm(1, channels)
        self.query = nn.Conv2d(channels, channels, 1, groups=channels, bias=qkv_bias)
        self.key = nn.Conv2d(channels, channels, 1, groups=channels, bias=qkv_bias)
        self.value = nn.Conv2d(channels, channels, 1, groups=channels, bias=qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = axis_means(x)  # (B, C, H, 1), (B, C, W, 1)
        by_row = self.norm_rows(self.along(rows[..., 0])).sigmoid()
        by_column = self.norm_columns(self.along(columns[..., 0])).sigmoid()
        z: Tensor = x * by_row[..., None] * by_column[:, :, None]
        y = self.norm(pooled(z, self.window, self.largest))
        query, key, value = self.split(self.query(y)), self.split(self.key(y)), self.split(self.value(y))
        scores = (query * self.scale) @ key.transpose(2, 3)  # (B, heads, d, d)
        mixed = scores.softmax(3) @ value  # (B, heads, d, positions)
        weights: Tensor = mixed.mean(3).flatten(1).sigmoid()
        return z * weights[:, :, None, None]

    def along(self, profile: Tensor) -> Tensor:
        """Each quarter of the channels through its own convolution, (B, C, positions) -> the same shape."""
        quarters = profile.chunk(4, 1)
        parts: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            parts.append(conv(quarters[i]))
        return torch.cat(parts, 1)

    def split(self, y: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, heads, C / heads, h w)."""
        return torch.unflatten(y.flatten(2), 1, (self.heads, -1))


@torch.fx.wrap
def pooled(z: Tensor, window: int, largest: bool) -> Tensor:
    """Means or maxima of windows, what is left at the border dropped; torch.fx keeps it whole."""
    if window == -1:
        return F.adaptive_avg_pool2d(z, 1)
    size = [min(window, z.shape[2]), min(window, z.shape[3])]
    return F.max_pool2d(z, size) if largest else F.avg_pool2d(z, size)
