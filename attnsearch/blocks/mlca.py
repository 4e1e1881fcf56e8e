"""MLCA: weigh channels by what a grid of local means says, and by what their mean says.

Wan et al., "Mixed Local Channel Attention for Object Detection", Engineering Applications of AI 2023.
    P = mean pool to L x L; l = sigmoid(conv_k(P)) along its channels, position after position;
    g = sigmoid(conv_k(mean of P)) along channels; y = x * mean pool to H x W of w l + (1 - w) g
Differs from the paper: no; as in the authors' code (wandahangFY/MLCA), windows of the local convolution cross into the
next position's channels. Copies of its first commit mix the samples of a batch in g; here they are apart. The authors
put it at SE's place in MobileNetV3; in a ResNet before the addition. At first it gives about x / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError


@block("mlca")
class MLCA(nn.Module):
    """x * pooled mixture of a local and a global channel gate; (B, C, H, W) -> the same shape; 2k parameters.

    Args:
        channels: C; k grows with its logarithm as in ECA, 3 at 64 channels, 5 at 128.
        local_size: L, rows and columns of the grid.
        local_weight: w, the share of the local gate, from 0 to 1.
    """

    def __init__(self, channels: int, *, local_size: int = 5, local_weight: float = 0.5) -> None:
        super().__init__()
        if local_size < 1:
            raise BlockError(f"local_size must be at least 1, got {local_size}")
        if not 0 <= local_weight <= 1:
            raise BlockError(f"local_weight is a share from 0 to 1, got {local_weight}")
        self.local_size, self.local_weight = local_size, float(local_weight)
        kernel = int((math.log2(channels) + 1) / 2) | 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        cells = mean_pool(x, self.local_size, self.local_size).flatten(2)  # (B, C, L L)
        line = cells.transpose(1, 2).flatten(1)  # (B, L L C), channels fastest
        local = self.conv_local(line[:, None])[:, 0].unflatten(1, (-1, x.shape[1])).transpose(1, 2)
        overall = self.conv(cells.mean(2)[:, None])[:, 0]  # (B, C)
        weights = (
            self.local_weight * local.sigmoid() + (1 - self.local_weight) * overall.sigmoid()[:, :, None]
        )
        weights = weights.unflatten(2, (self.local_size, self.local_size))
        return x * mean_pool(weights, x.shape[2], x.shape[3])


@torch.fx.wrap
def mean_pool(x: Tensor, height: int, width: int) -> Tensor:
    """What an adaptive mean pool gives, (B, C, H, W) -> (B, C, height, width), also where it enlarges.

    Its own backward is deterministic on every device, where that of torch's pool is not on CUDA.
    """
    return mean_rows(mean_rows(x, height).transpose(2, 3), width).transpose(2, 3)


def mean_rows(x: Tensor, size: int) -> Tensor:
    """Row i of `size` is the mean of rows floor(i n / size) to ceil((i + 1) n / size) of n."""
    n = x.shape[2]
    if n % size == 0:
        return torch.unflatten(x, 2, (size, n // size)).mean(3)
    at = torch.arange(size, device=x.device)
    first = torch.div(at * n, size, rounding_mode="floor")
    count = torch.div((at + 1) * n + size - 1, size, rounding_mode="floor") - first
    total = x.index_select(2, first)
    for step in range(1, n // size + 2):  # no window is longer
        inside = (step < count).to(x.dtype)[:, None]
        total = total + inside * x.index_select(2, (first + step).clamp(max=n - 1))
    return total / count.to(x.dtype)[:, None]
