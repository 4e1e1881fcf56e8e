"""Selective kernel: convolutions of several receptive fields, chosen between per channel by a softmax.

Li et al., "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586; stands where a 3x3 convolution stood.
Differs from the paper: the default is timm's form, in which each path sees its share of the input channels
(`split_input`) and paths are dense; the paper's is `split_input=False, groups=32, min_hidden=32`. Larger
kernels are dilated 3x3 ones, as in both. A single image in training is normalised by the running
statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, check_odd, fitting, hidden_width, rounded_width
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS = {"timm": {}, "paper": {"split_input": False, "groups": 32, "min_hidden": 32}}


@block("sk", slot="conv")
class SK(nn.Module):
    """Sum of softmax(mlp(mean of all paths)) * path(x); (B, C, H, W) -> (B, out, H/stride, W/stride).

    Args:
        channels, out_channels, stride: as of the convolution it replaces.
        kernels: receptive field of each path; k is a 3x3 convolution with dilation (k - 1) / 2.
        ratio, min_hidden: width of the MLP, out / ratio rounded to a multiple of 8, at least min_hidden.
        groups: of every path's convolution.
        split_input: whether the paths share the input channels out among them.
    """

    normalized = True  # every path ends in a norm and an activation: the host adds none

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        kernels: tuple[int, ...] = (3, 5),
        ratio: int = 16,
        min_hidden: int = 8,
        groups: int = 1,
        split_input: bool = True,
    ) -> None:
        super().__init__()
        out = out_channels or channels
        if len(kernels) < 2 or min(check_odd(k) for k in kernels) < 3:
            raise BlockError(f"kernels must be two or more odd sizes from 3 on, got {tuple(kernels)}")
        self.shares = fitting(
            "the number of kernels", len(kernels) if split_input else 1, channels, "channels"
        )
        part = channels // self.shares
        fitting("groups", groups, part, "input channels of a path")
        fitting("groups", groups, out, "output channels")
        hidden = mlp_width(out, ratio, min_hidden)
        self.paths = nn.ModuleList(_path(part, out, stride, k // 2, groups) for k in kernels)
        self.mlp = nn.Sequential(
            nn.Conv2d(out, hidden, 1, bias=False),
            BatchNorm(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, len(kernels) * out, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for i, path in enumerate(self.paths):
            maps.append(path(x.chunk(self.shares, 1)[i] if self.shares > 1 else x))
        paths = torch.stack(maps, 1)  # (B, P, out, H, W)
        choice: Tensor = self.mlp(paths.sum(1).mean((2, 3), keepdim=True))  # (B, P out, 1, 1)
        choice = torch.unflatten(choice, 1, (len(self.paths), -1)).softmax(1)  # (B, P, out, 1, 1)
        return (paths * choice).sum(1)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """The MLP's width in one spelling: the defaults where they give it, else itself as the floor."""
        width = mlp_width(channels, options["ratio"], options["min_hidden"])
        default = width == mlp_width(channels, 16, 8)
        return {**options, "ratio": 16 if default else channels, "min_hidden": 8 if default else width}


def mlp_width(out: int, ratio: int, min_hidden: int) -> int:
    hidden_width(out, ratio, min_hidden)  # checks both
    return max(rounded_width(out / ratio), min_hidden)


def _path(channels: int, out: int, stride: int, dilation: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, 3, stride, dilation, dilation, groups, bias=False)
    return nn.Sequential(conv, BatchNorm(out), nn.ReLU())
