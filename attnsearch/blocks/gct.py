"""GCT: channels compete or cooperate by their l2 norms, x * (1 + tanh).

Yang et al., "Gated Channel Transformation for Visual Recognition", CVPR 2020, arXiv:1909.11519. The authors
put it before every convolution. Differs from the paper: no; it starts as the identity (gamma = beta = 0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import at_least_float32
from attnsearch.blocks.registry import block

torch.fx.wrap("at_least_float32")


@block("gct")
class GCT(nn.Module):
    """x * (1 + tanh(gamma * normalised(alpha * norm of x) + beta)); (B, C, H, W) -> the same shape.

    Parameters: 3 C.

    Args:
        channels: C.
    """

    starts_as_identity = True  # gamma and beta are 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.epsilon = 1e-5
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        energy = at_least_float32(x).square().sum((2, 3), keepdim=True)  # beyond float16 from 256 x 256 on
        embedding = self.alpha * (energy + self.epsilon).sqrt()  # (B, C, 1, 1)
        scale = (embedding.square().mean(1, keepdim=True) + self.epsilon).rsqrt()  # (B, 1, 1, 1)
        return x * (1 + torch.tanh(self.gamma * embedding * scale + self.beta)).to(x.dtype)
