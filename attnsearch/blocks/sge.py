"""SGE: in each channel group, positions that resemble the group's mean are enhanced.

Li et al., "Spatial Group-wise Enhance", 2019, arXiv:1905.09646. Differs from the paper: where no groups are
given their number is gcd(C, 64), the authors' 64 where it fits. On a 1x1 map the deviation of the one
position is zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks._parts import fitting
from attnsearch.registry import block

EPSILON = 1e-5


@block("sge")
class SGE(nn.Module):
    """x * sigmoid(weight * standardised(<x, mean of x>) + bias) per group; (B, C, H, W) -> the same shape.

    Parameters: 2 G.

    Args:
        channels: C.
        groups: G, a divisor of C; None takes gcd(C, 64).
    """

    def __init__(self, channels: int, *, groups: int | None = None) -> None:
        super().__init__()
        self.groups = group_count(channels, groups)
        self.weight = nn.Parameter(torch.zeros(1, self.groups, 1))
        self.bias = nn.Parameter(torch.ones(1, self.groups, 1))

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """The number of groups said outright."""
        return {"groups": group_count(channels, **options)}

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1, x.shape[2] * x.shape[3])  # (B, G, C / G, H W)
        means = F.adaptive_avg_pool2d(x, 1).reshape(*grouped.shape[:3], 1)
        similarity = (grouped * means).sum(2)  # (B, G, H W)
        centred = similarity - similarity.mean(2, keepdim=True)
        deviation = centred.std(2, keepdim=True, correction=min(1, centred.shape[2] - 1))
        gate = (self.weight * centred / (deviation + EPSILON) + self.bias).sigmoid()
        return (grouped * gate[:, :, None]).reshape(x.shape)


def group_count(channels: int, groups: int | None) -> int:
    return fitting("groups", groups, channels, "channels", preferred=64)
