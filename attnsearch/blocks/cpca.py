"""CPCA: a channel gate, then a map of strips of several lengths as weights, with one projection in three places.

Huang et al., "Channel prior convolutional attention for medical image segmentation", 2023, arXiv:2306.05196.
    u = gelu(V(x)); f = u * (sigmoid(MLP(mean)) + sigmoid(MLP(max))); y = V(V(strips(f)) * f), V one 1x1 convolution
Differs from the paper: as in the authors' code (Cuthbert-Huang/CPCANet) V and GELU stand in front, V is shared, and
two sigmoids are added where the paper takes one of the sum. CPCANet adds it to its input: a shortcut of the
host's own does that here.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import hidden_width
from attnsearch.blocks.msca import Strips
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError


@block("cpca")
class CPCA(nn.Module):
    """Channel prior, then strips; (B, C, H, W) -> the same shape; C^2 + 112 C + 2 C h + h parameters.

    Args:
        channels: C.
        ratio: C over the MLP's hidden width h, at most C.
    """

    def __init__(self, channels: int, *, ratio: int = 4) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio)
        if ratio > channels:
            raise BlockError(
                f"ratio={ratio} leaves no hidden channel of {channels}; it may be 1 to {channels}"
            )
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.strips = Strips(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        u = F.gelu(self.project(x))
        by_mean, by_max = self.mlp(F.adaptive_avg_pool2d(u, 1)), self.mlp(u.amax((2, 3), keepdim=True))
        f = u * (by_mean.sigmoid() + by_max.sigmoid())
        out: Tensor = self.project(self.project(self.strips(f)) * f)
        return out
