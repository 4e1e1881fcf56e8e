"""LSKA: a large depthwise kernel, split into short 1-D ones, as a gate on its own input.

Lau et al., "Large Separable Kernel Attention", 2023, arXiv:2309.01439; `separable=False` is the LKA it
starts from (Guo et al., "Visual Attention Network", 2022, arXiv:2202.09741). Differs from the paper: the
gate alone, without the 1x1 projections and the shortcut that surround it there. The gate is not bounded.
The preset `lka` is VAN's: a 5x5 and a 7x7 of dilation 3.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from attnsearch.blocks.registry import block

PRESETS = {"paper": {}, "lka": {"kernel": 23, "separable": False}}


@block("lska")
class LSKA(nn.Module):
    """x * conv1x1(dilated depthwise(depthwise(x))); (B, C, H, W) -> the same shape.

    Parameters: C (2 a + 2 b + 4) + C^2 + C, or C (a^2 + b^2 + 2) + C^2 + C if not separable, where
    a = 2 d - 1 is the plain kernel, b = (kernel - a) / d + 1 the dilated one, d the dilation: 2 up to kernel
    11, 3 above.

    Args:
        channels: C.
        kernel: receptive field.
        separable: whether each depthwise convolution is a horizontal and a vertical one.
    """

    def __init__(
        self, channels: int, *, kernel: Literal[7, 11, 23, 35, 41, 53] = 11, separable: bool = True
    ) -> None:
        super().__init__()
        dilation = 2 if kernel <= 11 else 3
        plain = 2 * dilation - 1
        dilated = (kernel - plain) // dilation + 1
        self.gate = nn.Sequential(
            *_depthwise(channels, plain, 1, separable),
            *_depthwise(channels, dilated, dilation, separable),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(x)
        return x * gate


def _depthwise(channels: int, kernel: int, dilation: int, separable: bool) -> list[nn.Conv2d]:
    """One k x k, or 1 x k and k x 1, depthwise with biases and the padding that keeps the size."""
    shapes = [(1, kernel), (kernel, 1)] if separable else [(kernel, kernel)]
    return [
        nn.Conv2d(
            channels,
            channels,
            shape,
            padding=(dilation * (shape[0] // 2), dilation * (shape[1] // 2)),
            dilation=dilation,
            groups=channels,
        )
        for shape in shapes
    ]
