"""BAM: a channel gate and a dilated spatial gate side by side, x * (1 + sigmoid(channel, spatial)).

Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, arXiv:1807.06514. The authors put it after
stages 1 to 3. Differs from the paper: the default multiplies the two gates, as the authors' code and
released weights do; the paper adds them (`fusion="sum"`). Norms stand inside the branches, as in the code.
A single image in training is normalised by the running statistics.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, canonical_hidden, hidden_width
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS = {"official": {}, "paper": {"fusion": "sum"}}


@block("bam")
class BAM(nn.Module):
    """x * (1 + sigmoid(channel(x) * spatial(x))); (B, C, H, W) -> the same shape.

    Parameters: 3 C h + 18 h^2 + 13 h + C + 1 with h = max(C // ratio, min_hidden).

    Args:
        channels: C.
        ratio, min_hidden: width h of both branches.
        dilation: of the two 3x3 convolutions of the spatial branch.
        fusion: product (the authors' code) or sum (the paper).
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: int = 16,
        min_hidden: int = 1,
        dilation: int = 4,
        fusion: Literal["product", "sum"] = "product",
    ) -> None:
        super().__init__()
        if dilation < 1:
            raise BlockError(f"dilation must be at least 1, got {dilation}")
        hidden = hidden_width(channels, ratio, min_hidden)
        self.combine = torch.mul if fusion == "product" else torch.add
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), BatchNorm(hidden), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )
        dilated = [
            layer
            for _ in range(2)
            for layer in (
                nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation),
                BatchNorm(hidden),
                nn.ReLU(),
            )
        ]
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), BatchNorm(hidden), nn.ReLU(), *dilated, nn.Conv2d(hidden, 1, 1)
        )

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width."""
        hidden = hidden_width(channels, options["ratio"], options["min_hidden"])
        return {**options, **canonical_hidden(channels, hidden)}

    def forward(self, x: Tensor) -> Tensor:
        channel = self.channel(x.mean((2, 3), keepdim=True))  # (B, C, 1, 1)
        spatial = self.spatial(x)  # (B, 1, H, W)
        return x * (1 + self.combine(channel, spatial).sigmoid())
