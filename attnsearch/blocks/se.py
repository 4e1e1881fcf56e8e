"""SE: weigh each channel by a small MLP over the channels' means.

Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507.
    y = x * sigmoid(W2 relu(W1 mean_HW(x) + b1) + b2), hidden width C / ratio
Differs from the paper: no. Presets:
    official  the defaults, with biases as in the authors' code
    paper     its formula, and moskomule/senet.pytorch: no bias
    timm      hidden width rounded to a multiple of 8
    article   ratio 8, what the depthwise-separable ResNet article prints under the name of global attention
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import canonical_hidden, hidden_width
from attnsearch.blocks.registry import block

PRESETS = {
    "official": {},
    "paper": {"bias": False},
    "timm": {"divisor": 8},
    "article": {"ratio": 8},
}


@block("se")
class SE(nn.Module):
    """x * sigmoid(MLP(mean over H, W)); (B, C, H, W) -> the same shape; 2Ch (+ h + C) parameters.

    Args:
        channels: C.
        ratio: C over the hidden width h.
        bias: of both linear layers.
        min_hidden: floor of the hidden width, for C below ratio.
        divisor: the hidden width is rounded to a multiple of it.
    """

    def __init__(
        self, channels: int, *, ratio: int = 16, bias: bool = True, min_hidden: int = 1, divisor: int = 1
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio, min_hidden, divisor)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        means = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, C); to 1x1 this is the mean, backward too
        return x * self.weights(means)

    def weights(self, means: Tensor) -> Tensor:
        """(B, C) -> (B, C, 1, 1), each in (0, 1)."""
        weights: Tensor = self.fc2(self.fc1(means).relu()).sigmoid()
        return weights[:, :, None, None]

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio, floor and divisor matter only through the hidden width."""
        hidden = hidden_width(channels, options["ratio"], options["min_hidden"], options["divisor"])
        return {**options, **canonical_hidden(channels, hidden), "divisor": 1}
