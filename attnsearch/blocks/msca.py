"""MSCA: a gate from strips of several lengths, without a sigmoid.

Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", NeurIPS 2022,
arXiv:2209.08575.
    a = dw5x5(x); y = x * conv1x1(a + sum over k = 7, 11, 21 of dw k x 1(dw 1 x k(a)))
    block: x + conv1x1(gate(gelu(conv1x1(x))))
Differs from the paper: no (Visual-Attention-Network/SegNeXt). SegNeXt norms the block's input and scales the block by
0.01 inside another shortcut; here stands the block alone. The gate is not bounded.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks.registry import block

LENGTHS = (7, 11, 21)


class Strips(nn.Module):
    """a + sum of strips of a, a = dw5x5(x), all depthwise with biases; (B, C, H, W) -> the same shape; 110 C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.square = _depthwise(channels, 5, 5)
        self.strips = nn.ModuleList(
            nn.Sequential(_depthwise(channels, 1, k), _depthwise(channels, k, 1)) for k in LENGTHS
        )

    def forward(self, x: Tensor) -> Tensor:
        around = self.square(x)
        total: Tensor = around
        for strip in self.strips:
            total = total + strip(around)
        return total


class Gate(nn.Module):
    """x * conv1x1(strips of x); C^2 + 111 C parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strips = Strips(channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.mix(self.strips(x))
        return x * weights


@block("msca")
class MSCA(nn.Module):
    """The gate, or the block around it; (B, C, H, W) -> the same shape; C^2 + 111 C or 3 C^2 + 113 C parameters.

    Args:
        channels: C.
        form: gate, or block: projections, GELU and a shortcut around the gate.
    """

    def __init__(self, channels: int, *, form: Literal["gate", "block"] = "gate") -> None:
        super().__init__()
        whole = form == "block"
        self.before = nn.Conv2d(channels, channels, 1) if whole else None
        self.gate = Gate(channels)
        self.after = nn.Conv2d(channels, channels, 1) if whole else None

    def forward(self, x: Tensor) -> Tensor:
        if self.before is None or self.after is None:
            return self.gate(x)  # type: ignore[no-any-return]
        return x + self.after(self.gate(F.gelu(self.before(x))))  # type: ignore[no-any-return]


def _depthwise(channels: int, height: int, width: int) -> nn.Conv2d:
    padding = (height // 2, width // 2)
    return nn.Conv2d(channels, channels, (height, width), padding=padding, groups=channels)
