"""SE with ratio 8, which the depthwise-separable ResNet article prints under the name of GAM.

    y = x * sigmoid(W2 relu(W1 mean_HW(x) + b1) + b2), hidden width C / 8
Differs from the paper: in everything. GAM (Liu et al. 2021, arXiv:2112.05561, here `gam`) pools nothing and
convolves; this is SE (Hu et al. 2018, arXiv:1709.01507), neither global nor spatial. It is `se.article`, kept
under its own name so that the article's question can be asked in its words.
"""

from __future__ import annotations

from torch import Tensor, nn

from attnsearch.blocks.registry import block
from attnsearch.blocks.se import SE

PRESETS: dict[str, dict[str, int]] = {"article": {}}


@block("gam_article")
class GAMArticle(nn.Module):
    """SE(ratio=8); (B, C, H, W) -> the same shape; 2Ch + h + C parameters, h = max(C // 8, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.se = SE(channels, ratio=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.se(x)  # type: ignore[no-any-return]
