"""MHSA: multi-head self-attention with positions, in the place of a 3x3 convolution.

Srinivas et al., "Bottleneck Transformers", CVPR 2021, arXiv:2101.11605; replaces the 3x3 of stage 4.
Differs from the paper: position tables of `size` places per axis are linearly interpolated to any other. The
widely copied `position="absolute"` has biases, no factor d^-1/2, and a vector per attending row and column.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks._parts import fitting
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS = {"paper": {}, "absolute": {"position": "absolute"}}


@block("mhsa", slot="conv")
class MHSA(nn.Module):
    """softmax(q k^T + positions) v per head; (B, C, H, W) -> (B, out, H/stride, W/stride).

    Strides by a mean pool. Parameters: 3 C out + 2 (2 size - 1) out / heads, or 3 C out + (2 size + 3) out.

    Args:
        channels, out_channels, stride: as of the convolution it replaces.
        heads: a divisor of the output channels.
        size, position: of the tables: places per axis; relative (the paper) or absolute.
    """

    inert_parameters = ("qkv.1.bias",)  # adds one number to all scores of a place, which softmax ignores

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        heads: int = 4,
        size: int = 7,
        position: Literal["relative", "absolute"] = "relative",
    ) -> None:
        super().__init__()
        out = out_channels or channels
        self.heads = fitting("heads", heads, out, "output channels")
        if size < 1:
            raise BlockError(f"size must be at least 1, got {size}")
        self.stride, self.relative = stride, position == "relative"
        self.qkv = nn.ModuleList(nn.Conv2d(channels, out, 1, bias=not self.relative) for _ in range(3))
        shape = (out // heads, 2 * size - 1) if self.relative else (heads, out // heads, size)
        self.columns, self.rows = (nn.Parameter(torch.randn(shape) * shape[-2] ** -0.5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        q = self.qkv[0](x).reshape(batch, self.heads, -1, height * width)
        k = self.qkv[1](x).reshape(batch, self.heads, -1, height * width)
        v = self.qkv[2](x).reshape(batch, self.heads, -1, height * width)
        if self.relative:
            q = q * q.shape[2] ** -0.5
            places = self.relative_scores(q.reshape(batch, self.heads, -1, height, width))
        else:
            rows, columns = resized(self.rows, height), resized(self.columns, width)
            places = (rows[..., None] + columns[:, :, None]).flatten(2).transpose(1, 2) @ q  # (h, H W, d) q
        scores = q.transpose(2, 3) @ k + places  # (B, h, d, H W) twice -> (B, h, H W, H W)
        mixed = (v @ scores.softmax(3).transpose(2, 3)).reshape(batch, -1, height, width)
        return F.avg_pool2d(mixed, self.stride, ceil_mode=True) if self.stride > 1 else mixed

    def relative_scores(self, q: Tensor) -> Tensor:
        """q_i . (r_row(j - i) + r_column(j - i)) for all places; (B, h, d, H, W) -> (B, h, H W, H W)."""
        by_column = q.permute(0, 1, 4, 3, 2) @ offsets(self.columns, q.shape[4])  # (B, h, W, H, W')
        by_row = q.permute(0, 1, 3, 4, 2) @ offsets(self.rows, q.shape[3])  # (B, h, H, W, H')
        return (by_row[..., None] + by_column.transpose(2, 3)[..., None, :]).flatten(4).flatten(2, 3)


@torch.fx.wrap
def offsets(table: Tensor, size: int) -> Tensor:
    """The vector of j - i for every two places, (d, 2 s - 1) -> (size, d, size)."""
    places = torch.arange(size, device=table.device)
    return resized(table, 2 * size - 1)[:, places - places[:, None] + size - 1].transpose(0, 1)


@torch.fx.wrap
def resized(table: Tensor, size: int) -> Tensor:
    """The last axis linearly interpolated, ends on ends; as a matmul, whose backward is deterministic."""
    old = table.shape[-1]
    if old == size:
        return table
    first = 0 if size > 1 else old // 2  # of a single place, the middle
    at = torch.linspace(first, old - 1, size, device=table.device)
    weights = (1 - (at - torch.arange(old, device=table.device)[:, None]).abs()).clamp(min=0)  # (old, size)
    return table @ weights.to(table.dtype)
