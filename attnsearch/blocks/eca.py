"""ECA: weigh each channel by a small 1-D convolution over its neighbours.

Wang et al., "ECA-Net", CVPR 2020, arXiv:1910.03151. Differs from the paper: no. The released networks fix the
kernel per stage instead of deriving it (ECA-Net50: 3, 5, 5, 7): give `kernel`.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks._parts import check_odd
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError


@block("eca")
class ECA(nn.Module):
    """x * sigmoid(conv1d(mean over H, W)); (B, C, H, W) -> the same shape. Parameters: the kernel.

    Args:
        channels: C; the kernel grows with its logarithm.
        kernel: odd size of the convolution over channels; None derives it.
        gamma, offset: kernel = odd((log2 C + offset) / gamma); 3 at 64 channels, 5 at 512.
    """

    def __init__(
        self, channels: int, *, kernel: int | None = None, gamma: float = 2.0, offset: float = 1.0
    ) -> None:
        super().__init__()
        kernel = kernel_size(channels, kernel, gamma, offset)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """The kernel said outright; gamma and offset matter no more."""
        return {"kernel": kernel_size(channels, **options), "gamma": 2.0, "offset": 1.0}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def weights(self, means: Tensor) -> Tensor:
        """(B, C) -> (B, C, 1, 1), each in (0, 1)."""
        gate: Tensor = self.conv(means[:, None]).sigmoid()  # (B, 1, C)
        return gate[:, 0, :, None, None]


def kernel_size(channels: int, kernel: int | None, gamma: float, offset: float) -> int:
    """The given kernel, or (log2 C + offset) / gamma rounded down, plus one if that is even."""
    if gamma <= 0:
        raise BlockError(f"gamma must be above 0 (the paper takes 2), got {gamma:g}")
    if kernel is None:
        return int(abs(math.log2(channels) + offset) / gamma) | 1
    return check_odd(kernel)
