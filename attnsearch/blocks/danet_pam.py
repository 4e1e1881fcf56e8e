"""PAM of DANet: every position gathers from all positions that look like it, added to the input by a learned scale.

Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983.
    y = x + gamma * v softmax(q^T k) over positions
Differs from the paper: as in the authors' code (junfu1115/DANet) there is neither a norm nor an activation on q and k.
Scores are not scaled and take (H W)^2 numbers per image, so keep it to late stages. Starts as the identity: gamma is 0.
The authors put it into a segmentation head, beside `danet_cam`, the two summed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError


@block("danet_pam")
class PositionAttention(nn.Module):
    """x + gamma * attention over positions; (B, C, H, W) -> the same shape; C^2 + C + 2 (C + 1) d + 1, d = C // 8.

    Args:
        channels: C, at least 8.
    """

    inert_parameters = ("key.bias",)  # adds one number to all scores of a position, which softmax ignores
    starts_as_identity = True  # gamma is 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8:
            raise BlockError(
                f"danet_pam needs at least 8 channels, of which it compares an eighth; got {channels}"
            )
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x).flatten(2), self.key(x).flatten(2), self.value(x).flatten(2)
        scores = query.transpose(1, 2) @ key  # (B, H W, H W), what each position asks of every other
        mixed = value @ scores.softmax(2).transpose(1, 2)  # (B, C, H W)
        return x + self.gamma * mixed.reshape(x.shape)  # type: ignore[no-any-return]
