"""NAM: weigh each channel by its share of batch norm's scales.

Liu et al., "NAM: Normalization-based Attention Module", 2021, arXiv:2111.12419.
    y = x * sigmoid(w * norm(x)), w_c = |scale_c| / sum of |scale|
Differs from the paper: the channel half alone, with absolute values, as in the authors' code (Christian-lyc/NAM), which
has no spatial half; no gradient passes through w. Their L1 penalty on the scales is left to the optimiser. Where all
scales are 0, w is 0, and not undefined. At first it gives about x / 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm
from attnsearch.blocks.registry import block


@block("nam")
class NAM(nn.Module):
    """x * sigmoid(w * norm(x)); (B, C, H, W) -> the same shape; 2 C parameters.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.norm.weight.detach().abs()
        share = scale / scale.sum().clamp_min(1e-12)  # (C,)
        weights: Tensor = (self.norm(x) * share[:, None, None]).sigmoid()
        return x * weights
