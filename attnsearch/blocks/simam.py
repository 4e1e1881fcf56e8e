"""SimAM: a gate for every position in closed form, with no parameters.

Yang et al., "SimAM: A Simple, Parameter-Free Attention Module", ICML 2021. The authors put it after the 3x3
convolution, before its norm (`position: after_conv`). Differs from the paper: no. On a 1x1 map, where the
variance over the other positions is undefined, it is taken as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import at_least_float32
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

torch.fx.wrap("at_least_float32")


@block("simam")
class SimAM(nn.Module):
    """x * sigmoid(d / (4 (variance + regularizer)) + 1/2), d = (x - mean)^2; (B, C, H, W) -> the same shape.

    Args:
        channels: not used; every channel is weighed on its own.
        regularizer: the paper's lambda, added to the variance.
    """

    def __init__(self, channels: int, *, regularizer: float = 1e-4) -> None:
        super().__init__()
        if regularizer <= 0:
            raise BlockError(f"regularizer must be above 0 (the paper takes 0.0001), got {regularizer}")
        self.regularizer = regularizer

    def forward(self, x: Tensor) -> Tensor:
        others = degrees(x.shape[2] * x.shape[3])
        distance = (x - x.mean((2, 3), keepdim=True)).square()  # (B, C, H, W)
        total = at_least_float32(distance).sum((2, 3), keepdim=True)  # beyond float16 on large maps
        variance = (total / others).to(x.dtype)  # (B, C, 1, 1)
        inverse_energy = distance / (4 * (variance + self.regularizer)) + 0.5
        return x * inverse_energy.sigmoid()


@torch.fx.wrap
def degrees(positions: int) -> int:
    """Degrees of freedom of a variance, but one at least; torch.fx keeps it whole."""
    return max(positions - 1, 1)
