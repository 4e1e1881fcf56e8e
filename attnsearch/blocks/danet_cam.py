"""CAM of DANet: every channel gathers from all channels, most from those that are least like it.

Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983.
    E = X X^T over positions; y = x + gamma * softmax(-E) X
Differs from the paper: the sign. The authors' code (junfu1115/DANet) takes the softmax of (row's maximum - E), and they
keep to it; the paper prints softmax(E). Products are summed in float32 at least: half precision cannot hold them.
Starts as the identity: gamma is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import at_least_float32
from attnsearch.blocks.registry import block

torch.fx.wrap("at_least_float32")


@block("danet_cam")
class ChannelAttention(nn.Module):
    """x + gamma * attention over channels; (B, C, H, W) -> the same shape; 1 parameter.

    Args:
        channels: not used; the weights are of the map itself.
    """

    starts_as_identity = True  # gamma is 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        lines = x.flatten(2)  # (B, C, H W)
        wide = at_least_float32(lines)
        likeness = wide @ wide.transpose(1, 2)  # (B, C, C)
        weights = (likeness.amax(2, keepdim=True) - likeness).softmax(2).to(x.dtype)
        return x + self.gamma * (weights @ lines).reshape(x.shape)
