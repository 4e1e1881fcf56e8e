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

from attnsearch.blocks._parts import at_least_float32, fitting
from attnsearch.blocks.registry import block

torch.fx.wrap("at_least_float32")


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
        self.groups, self.epsilon = group_count(channels, groups), 1e-5
        self.members = channels // self.groups
        self.weight = nn.Parameter(torch.zeros(1, self.groups, 1))
        self.bias = nn.Parameter(torch.ones(1, self.groups, 1))

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """The number of groups written out."""
        return {"groups": group_count(channels, **options)}

    def forward(self, x: Tensor) -> Tensor:
        means = F.adaptive_avg_pool2d(x, 1)
        similarity, mean = x * means, means.square()  # mean over the positions of similarity
        if self.members > 1:  # (B, G, H, W)
            similarity = torch.unflatten(similarity, 1, (self.groups, self.members)).sum(2)
            mean = torch.unflatten(mean, 1, (self.groups, self.members)).sum(2)
        spread = torch.linalg.vector_norm(at_least_float32(similarity - mean), dim=(2, 3), keepdim=True)
        deviation = spread / degrees(x.shape[2] * x.shape[3]) ** 0.5
        # Standardised, weighed and shifted by one product and one sum: what is divided is a number a map.
        slope = (self.weight[..., None] / (deviation + self.epsilon)).to(x.dtype)  # (B, G, 1, 1)
        shift = self.bias[..., None] - slope * mean
        gate: Tensor = (similarity * slope + shift.to(x.dtype)).sigmoid()
        if self.members > 1:
            gate = gate[:, :, None].expand(-1, -1, self.members, -1, -1).flatten(1, 2)  # (B, C, H, W)
        return x * gate


@torch.fx.wrap
def degrees(positions: int) -> int:
    """Degrees of freedom of a deviation, but one at least; torch.fx keeps it whole."""
    return max(positions - 1, 1)


def group_count(channels: int, groups: int | None) -> int:
    return fitting("groups", groups, channels, "channels", preferred=64)
