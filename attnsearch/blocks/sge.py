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
from attnsearch.blocks.registry import block

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
        members, places = x.shape[1] // self.groups, x.shape[2] * x.shape[3]
        means = F.adaptive_avg_pool2d(x, 1)
        similarity, mean = x * means, means.square()  # mean over the places of similarity
        if members > 1:  # (B, G, H, W)
            similarity, mean = (
                torch.unflatten(t, 1, (self.groups, members)).sum(2) for t in (similarity, mean)
            )
        spread = torch.linalg.vector_norm(similarity - mean, dim=(2, 3), keepdim=True)
        deviation = spread / max(1, places - 1) ** 0.5
        # Standardised, weighed and shifted by one product and one sum: what is divided is a number a map.
        slope = (self.weight[..., None] / (deviation + EPSILON)).to(x.dtype)  # (B, G, 1, 1)
        shift = self.bias[..., None] - slope * mean
        gate: Tensor = (similarity * slope + shift.to(x.dtype)).sigmoid()
        if members > 1:
            gate = gate[:, :, None].expand(-1, -1, members, -1, -1).flatten(1, 2)  # (B, C, H, W)
        return x * gate


def group_count(channels: int, groups: int | None) -> int:
    return fitting("groups", groups, channels, "channels", preferred=64)
