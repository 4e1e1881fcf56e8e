"""GAM: weigh every value by its channels at one position, then by a 7x7 neighbourhood; nothing is pooled.

Liu et al., "Global Attention Mechanism", 2021, arXiv:2112.05561.
    y = x * sigmoid(MLP over C at each position); z = y * sigmoid(norm(conv7(relu(norm(conv7(y))))))
Differs from the paper: no, as far as it is known; we found no code of its authors. Presets:
    paper          ratio 16
    paper_grouped  groups=4 and a channel shuffle, its form for large networks
    copy           dengbuqi/GAM_Pytorch: no sigmoid in the channel half, padding by replication, ratio 4
    copy_sigmoid   other public copies: both sigmoids, zeros, ratio 4
Heavy: 2Ch(1 + 49/groups) weights and as many multiply-accumulates a position; in every unit of a ResNet-50 it
is 151 million parameters. The article that prints a "GAM" without convolutions prints SE: see `gam_article`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, canonical_hidden, check_divides, check_odd, hidden_width
from attnsearch.blocks.registry import block

PRESETS = {
    "paper": {},
    "paper_grouped": {"groups": 4},
    "copy": {"ratio": 4, "channel_sigmoid": False, "padding": "replicate"},
    "copy_sigmoid": {"ratio": 4},
}


@block("gam")
class GAM(nn.Module):
    """Channel half, then spatial half; (B, C, H, W) -> the same shape; 2Ch(1 + k^2/groups) + 4h + 4C
    parameters.

    Args:
        channels: C.
        ratio, min_hidden: hidden width h = max(C // ratio, min_hidden) of both halves.
        groups: of both convolutions; the spatial weights are then shuffled across groups.
        kernel: of both convolutions, odd.
        channel_sigmoid: whether the channel half's weights pass a sigmoid.
        padding: of both convolutions.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: int = 16,
        min_hidden: int = 1,
        groups: int = 1,
        kernel: int = 7,
        channel_sigmoid: bool = True,
        padding: Literal["zeros", "replicate"] = "zeros",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio, min_hidden)
        for width, what in ((channels, "channels"), (hidden, "hidden channels")):
            check_divides(groups, width, f"groups={groups} does not divide the {width} {what} of gam")
        self.groups = groups
        self.channel_sigmoid = channel_sigmoid
        # 1x1 convolutions are linear layers over C at each position, without permuting there and back.
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )
        shape: dict[str, Any] = {
            "padding": check_odd(kernel) // 2,
            "groups": groups,
            "padding_mode": padding,
        }
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel, **shape),
            BatchNorm(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, kernel, **shape),
            BatchNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.channel(x)  # (B, C, H, W)
        x = x * (weights.sigmoid() if self.channel_sigmoid else weights)
        weights = self.spatial(x).sigmoid()  # (B, C, H, W)
        if self.groups > 1:
            weights = torch.unflatten(weights, 1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return x * weights

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width."""
        hidden = hidden_width(channels, options["ratio"], options["min_hidden"])
        return {**options, **canonical_hidden(channels, hidden)}
