"""Shortcuts of residual units that change the shape of the map; `Host.shortcut` names which one a host has."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PadChannels(nn.Module):
    """Every `stride`-th pixel, zero channels before and after: a shortcut without parameters.

    He et al. 2015, section 4.2, option A: (B, in_channels, H, W) -> (B, out_channels, H/stride, W/stride). Half of the
    new channels, rounded down, come before the old ones.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class SubsampledConv1x1(nn.Conv2d):
    """A 1x1 convolution with a stride that takes its pixels first: the same numbers, and the same MACs.

    On a CPU with AVX2 and no more, oneDNN 3 overwrites foreign memory in the gradient of such a convolution's weight,
    on channels-last maps of fewer than 8 channels: a crash, or wrong numbers in silence (uxlfoundation/oneDNN#6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.stride
        return F.conv2d(x[..., ::down, ::right], self.weight)


__all__ = ["PadChannels", "SubsampledConv1x1"]
