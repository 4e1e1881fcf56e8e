"""CBAM: weigh channels, then positions, each by what its means and maxima say.

Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, arXiv:1807.06521.
    y = x * Mc(x), z = y * Ms(y); Mc as in `channel_gate`, Ms as in `spatial_gate`
Differs from the paper: batch norm in the spatial gate with a weight that starts at zero, as in the authors'
code: the spatial gate is 0.5 everywhere at first. Presets:
    official        Jongchan/attention-module: as the defaults, but for the gradient of tied maxima (ties=one)
    paper           no norm in the spatial gate (spatial=lite)
    timm            no bias in the MLP, hidden width to the nearest, [mean, max] and a norm that starts at 1
    article         last form of the article on improving CBAM: one MLP with batch norm, hidden width at least
                    4, deep spatial gate, He initialisation, x + Mc(x) x + Ms(x) x
    article_serial  its first two improvements: independent MLPs, deep spatial gate with residual
In parallel the output is x * (1 + Mc + Ms), twice x at first: place it inside a residual branch. On the
trunk it would double with every block.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from attnsearch.blocks.channel_gate import ChannelGate
from attnsearch.blocks.registry import block
from attnsearch.blocks.spatial_gate import SpatialGate

PRESETS = {
    "official": {"ties": "one"},
    "paper": {"spatial": "lite"},
    "timm": {"bias": False, "spatial": "lite_norm", "rounding": "nearest"},
    "article": {
        "mlp": "shared_norm",
        "min_hidden": 4,
        "spatial": "deep",
        "fusion": "parallel",
        "weights_init": "he",
    },
    "article_serial": {"mlp": "independent", "spatial": "deep_residual"},
}


@block("cbam")
class CBAM(nn.Module):
    """Channel gate and spatial gate; (B, C, H, W) -> the same shape; 2Ch + h + C + 100 parameters by default.

    Args:
        channels: C.
        ratio, min_hidden, mlp, bias, rounding: of the channel gate.
        kernel, spatial: of the spatial gate.
        fusion: `serial` channel first, `serial_sc` spatial first; on one x: `parallel` x (1 + Mc + Ms),
            `parallel_mean` x (Mc + Ms) / 2, `product` x Mc Ms.
        weights_init, ties: of both.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: int = 16,
        min_hidden: int = 1,
        mlp: Literal["shared", "shared_norm", "independent"] = "shared",
        bias: bool = True,
        kernel: int = 7,
        spatial: Literal["plain", "lite", "lite_norm", "deep", "deep_residual"] = "plain",
        fusion: Literal["serial", "serial_sc", "parallel", "parallel_mean", "product"] = "serial",
        weights_init: Literal["default", "he"] = "default",
        ties: Literal["shared", "one"] = "shared",
        rounding: Literal["down", "nearest"] = "down",
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.channel = ChannelGate(
            channels,
            ratio=ratio,
            min_hidden=min_hidden,
            mlp=mlp,
            bias=bias,
            weights_init=weights_init,
            ties=ties,
            rounding=rounding,
        )
        self.spatial = SpatialGate(
            channels, kernel=kernel, spatial=spatial, weights_init=weights_init, ties=ties
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.fusion == "serial":
            return self.spatial(self.channel(x))  # type: ignore[no-any-return]
        if self.fusion == "serial_sc":
            return self.channel(self.spatial(x))  # type: ignore[no-any-return]
        by_channel, by_place = self.channel.weights(x), self.spatial.weights(x)  # (B, C, 1, 1), (B, 1, H, W)
        if self.fusion == "product":
            return x * by_channel * by_place
        both = by_channel + by_place  # (B, C, H, W)
        return x * (1 + both) if self.fusion == "parallel" else x * both / 2

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """As the channel gate: only the hidden width matters, a bias beside a norm does not."""
        return ChannelGate.resolve(channels, options)
