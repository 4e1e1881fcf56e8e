"""CBAM lite: CBAM as tutorials print it, without the MLP's biases and the spatial gate's batch norm.

After Woo et al., "CBAM", ECCV 2018, arXiv:1807.06521, in the form of luuuyi/CBAM.PyTorch.
    y = x * sigmoid(W2 relu(W1 mean_HW) + W2 relu(W1 max_HW)); z = y * sigmoid(conv_k([mean_C(y), max_C(y)]))
Differs from the paper: no bias anywhere, and [mean, max] where the authors' code has [max, mean], batch norm
after the convolution and a gate that starts at 0.5 (see `cbam`). `article_003` prints it with kernel=3 as the
paper's source (the paper has 7), `article_004` with ratio=8.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import canonical_hidden, check_odd, hidden_width
from attnsearch.blocks.registry import block

PRESETS = {
    "article_003": {"kernel": 3},
    "article_004": {"ratio": 8},
}


@block("cbam_lite")
class CBAMLite(nn.Module):
    """Channel gate, then spatial gate; (B, C, H, W) -> the same shape; 2Ch + 2k^2 parameters.

    Args:
        channels: C.
        ratio, min_hidden: hidden width h = max(C // ratio, min_hidden).
        kernel: of the spatial convolution, odd.
    """

    def __init__(self, channels: int, *, ratio: int = 16, min_hidden: int = 1, kernel: int = 7) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio, min_hidden)
        self.fc1 = nn.Linear(channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, channels, bias=False)
        self.conv = nn.Conv2d(2, 1, check_odd(kernel), padding=kernel // 2, bias=False)

    def channel_weights(self, mean: Tensor, largest: Tensor) -> Tensor:
        """Means and maxima over H and W, (B, C) each, -> (B, C, 1, 1)."""
        pooled = torch.cat((mean, largest))  # (2B, C)
        both = self.fc2(self.fc1(pooled).relu())
        by_mean, by_max = both[: mean.shape[0]], both[mean.shape[0] :]  # torch.export chunks no batch at will
        weights: Tensor = (by_mean + by_max).sigmoid()
        return weights[:, :, None, None]

    def spatial_weights(self, mean: Tensor, largest: Tensor) -> Tensor:
        """Means and maxima over C, (B, 1, H, W) each, -> the same shape."""
        maps = torch.cat((mean, largest), 1)  # (B, 2, H, W)
        return self.conv(maps).sigmoid()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel_weights(F.adaptive_avg_pool2d(x, 1).flatten(1), x.amax((2, 3)))
        return x * self.spatial_weights(x.mean(1, keepdim=True), x.amax(1, keepdim=True))

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width."""
        hidden = hidden_width(channels, options["ratio"], options["min_hidden"])
        return {**options, **canonical_hidden(channels, hidden)}
