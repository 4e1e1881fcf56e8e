"""ECA: weigh each channel by a small 1-D convolution over its neighbours.

Wang et al., "ECA-Net", CVPR 2020, arXiv:1910.03151. Differs from the paper: no.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from attnsearch.registry import block


@block("eca")
class ECA(nn.Module):
    """x * sigmoid(conv1d(mean over H, W)); (B, C, H, W) -> the same shape.

    Args:
        channels: C; the kernel grows with its logarithm.
        gamma, offset: kernel = odd((log2 C + offset) / gamma); 3 at 64 channels, 5 at 512.
    """

    def __init__(self, channels: int, *, gamma: float = 2.0, offset: float = 1.0) -> None:
        super().__init__()
        kernel = int(abs(math.log2(channels) + offset) / gamma) | 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = x.mean((2, 3))  # (B, C)
        weights = self.conv(weights[:, None])[:, 0]  # (B, 1, C) -> (B, C)
        return x * weights.sigmoid()[:, :, None, None]
