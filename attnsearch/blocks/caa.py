"""CAA: a gate from a wide mean pool and long horizontal and vertical strips.

Cai et al., "Poly Kernel Inception Network for Remote Sensing Detection" (PKINet), CVPR 2024, arXiv:2403.06258.
    y = x * sigmoid(conv1x1(column strip(row strip(conv1x1(mean pool 7x7)))))
Differs from the paper: the defaults are those of the authors' class (NUST-Machine-Intelligence-Laboratory/PKINet), with
batch norm and SiLU after both 1x1 convolutions; the paper and their network have neither (preset `paper`), with
strips of 11 + 2 i in block i. Their class gives back the gate, which weighs the output of other kernels; here it weighs
its own input.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, check_odd
from attnsearch.blocks.registry import block

PRESETS = {"official": {}, "paper": {"norm": False}}


@block("caa")
class CAA(nn.Module):
    """x * gate; (B, C, H, W) -> the same shape; 2 C^2 + C (kernel_h + kernel_v + 6) parameters, 4 for 6 without norm.

    Args:
        channels: C.
        kernel_h, kernel_v: lengths of the horizontal and of the vertical strip, odd.
        norm: batch norm and SiLU after each 1x1 convolution, else a bias.
    """

    def __init__(self, channels: int, *, kernel_h: int = 11, kernel_v: int = 11, norm: bool = True) -> None:
        super().__init__()
        check_odd(kernel_h, "kernel_h")
        check_odd(kernel_v, "kernel_v")
        self.first = _pointwise(channels, norm)
        self.horizontal = nn.Conv2d(
            channels, channels, (1, kernel_h), padding=(0, kernel_h // 2), groups=channels
        )
        self.vertical = nn.Conv2d(
            channels, channels, (kernel_v, 1), padding=(kernel_v // 2, 0), groups=channels
        )
        self.last = _pointwise(channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        around = self.first(F.avg_pool2d(x, 7, 1, 3))  # zeros beyond the border are counted
        weights: Tensor = self.last(self.vertical(self.horizontal(around)))
        return x * weights.sigmoid()


def _pointwise(channels: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 1, bias=not norm)
    after = [BatchNorm(channels, momentum=0.03, eps=1e-3), nn.SiLU()] if norm else []
    return nn.Sequential(conv, *after)
