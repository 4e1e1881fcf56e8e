"""Depthwise-separable convolution: one filter per channel, then a 1x1 convolution across channels.

Howard et al., "MobileNets", 2017, arXiv:1704.04861; stands where a 3x3 convolution stood.
    y = pointwise(relu(norm(depthwise_k(x)))), the norm and activation after it are the host's
Differs from the paper: no. `article` (form=literal) is what the depthwise-separable ResNet article prints:
biases, and neither norm nor activation between the two convolutions, which together are one linear map; there
the padding is fixed to 1, here it follows the kernel.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, check_odd, he_init
from attnsearch.blocks.registry import block

PRESETS = {"paper": {}, "article": {"form": "literal"}}


@block("dsconv", slot="conv")
class DSConv(nn.Module):
    """Depthwise then pointwise; (B, C, H, W) -> (B, out, H/stride, W/stride).

    Parameters: k^2 C + 2C + C out (clean), k^2 C + C + C out + out (literal).

    Args:
        channels, out_channels, stride: as of the convolution it replaces.
        kernel: of the depthwise convolution, odd.
        form: `clean` has batch norm and ReLU between the two and no bias; `literal` biases and nothing
        between.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        kernel: int = 3,
        form: Literal["clean", "literal"] = "clean",
    ) -> None:
        super().__init__()
        literal = form == "literal"
        self.depthwise = nn.Conv2d(
            channels, channels, check_odd(kernel), stride, kernel // 2, groups=channels, bias=literal
        )
        self.between = nn.Sequential() if literal else nn.Sequential(BatchNorm(channels), nn.ReLU())
        self.pointwise = nn.Conv2d(channels, out_channels or channels, 1, bias=literal)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.between(self.depthwise(x)))  # type: ignore[no-any-return]
