"""A block that helps by construction, on images made for it: see `benchmarks.statistics.verdicts`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.blocks.registry import block


@block("exposure_norm")
class ExposureNorm(nn.Module):
    """Every image of the batch brought to one strength: (B, C, H, W) -> the same shape, no parameters.

    Each channel is freed of its mean over H and W, then the whole image divided by its root mean square, so
    that the exposure of an image no longer scales what a residual unit adds.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((2, 3), keepdim=True)
        return centred * torch.rsqrt(centred.square().mean((1, 2, 3), keepdim=True) + 1e-6)
