"""Coordinate attention: pool along each axis, mix both profiles, gate rows and columns.

Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, arXiv:2103.02907.
Differs from the paper: no.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks._parts import BatchNorm, axis_means, canonical_hidden, hidden_width
from attnsearch.blocks.registry import block


@block("coordatt")
class CoordAtt(nn.Module):
    """x * sigmoid(rows) * sigmoid(columns); (B, C, H, W) -> the same shape.

    Parameters: 3 C m + 3 m + 2 C with m = max(C // ratio, min_hidden).

    Args:
        channels: C.
        ratio, min_hidden: width m of the shared 1x1 convolution.
    """

    def __init__(self, channels: int, *, ratio: int = 32, min_hidden: int = 8) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio, min_hidden)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.norm = BatchNorm(hidden)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width."""
        hidden = hidden_width(channels, options["ratio"], options["min_hidden"])
        return {**options, **canonical_hidden(channels, hidden, ratio=32)}

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        profiles = torch.cat(axis_means(x), 2)  # (B, C, H + W, 1)
        mixed = F.hardswish(self.norm(self.reduce(profiles)))  # (B, m, H + W, 1)
        by_row: Tensor = self.rows(mixed[:, :, :height]).sigmoid()  # (B, C, H, 1)
        by_column: Tensor = self.columns(mixed[:, :, height:]).sigmoid()  # (B, C, W, 1)
        return x * by_row * by_column.transpose(2, 3)
