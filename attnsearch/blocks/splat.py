"""Split attention: R convolutions of one input, mixed channel by channel; the block of ResNeSt.

Zhang et al., "ResNeSt", CVPR workshops 2022, arXiv:2004.08955; stands where a 3x3 convolution stood.
    u = relu(norm(conv(x))), R splits u_r of `out` channels, in K groups each
    a = r_softmax(fc2(relu(norm(fc1(mean_HW(sum_r u_r))))))
    y = sum_r a_r * u_r; the softmax runs over R within each of K groups, with R = 1 it is a sigmoid: SE
Differs from the paper: no (`official`, zhanghang1989/ResNeSt). Articles that take the softmax over the
channels of a group compute something else. A single image in training is normalised by the running
statistics.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import (
    BatchNorm,
    canonical_hidden,
    check_divides,
    check_odd,
    he_init,
    hidden_width,
)
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS: dict[str, dict[str, int]] = {"official": {}, "paper": {}}


def r_softmax(logits: Tensor, radix: int, cardinality: int) -> Tensor:
    """(B, K R c, ...), a group's R splits side by side -> (B, R K c), split by split; sums to 1 over R."""
    if radix == 1:
        return logits.flatten(1).sigmoid()
    by_group = logits.reshape(logits.shape[0], cardinality, radix, -1)  # (B, K, R, c)
    return by_group.transpose(1, 2).softmax(1).flatten(1)


class RSoftmax(nn.Module):
    """`r_softmax` as a module; without parameters."""

    def __init__(self, radix: int, cardinality: int) -> None:
        super().__init__()
        self.radix = radix
        self.cardinality = cardinality

    def forward(self, logits: Tensor) -> Tensor:
        return r_softmax(logits, self.radix, self.cardinality)


@block("splat", slot="conv")
class SplAt(nn.Module):
    """Split-attention convolution; (B, C, H, W) -> (B, out, H/stride, W/stride).

    Parameters: k^2 C out / K + 2 R out + out h / K + 3h + h R out / K + R out, h = max(C R // ratio,
    min_hidden).

    Args:
        channels, out_channels, stride: as of the convolution it replaces.
        radix: R, splits per group.
        cardinality: K, groups.
        ratio, min_hidden: hidden width h of the attention.
        kernel: odd.
    """

    normalized = True  # ends in what was normed and activated: the host adds neither

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        radix: int = 2,
        cardinality: int = 1,
        ratio: int = 4,
        min_hidden: int = 32,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        out = out_channels or channels
        hidden = split_width(channels, out, radix, cardinality, ratio, min_hidden)
        self.radix = radix
        splits = radix * out
        self.conv = nn.Conv2d(
            channels,
            splits,
            check_odd(kernel),
            stride,
            kernel // 2,
            groups=cardinality * radix,
            bias=False,
        )
        self.bn0 = BatchNorm(splits)
        self.fc1 = nn.Conv2d(out, hidden, 1, groups=cardinality)
        self.bn1 = BatchNorm(hidden)
        self.fc2 = nn.Conv2d(hidden, splits, 1, groups=cardinality)
        self.weigh = RSoftmax(radix, cardinality)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        splits = self.bn0(self.conv(x)).relu().unflatten(1, (self.radix, -1))  # (B, R, out, H', W')
        means = F.adaptive_avg_pool2d(splits.sum(1), 1)  # (B, out, 1, 1)
        logits = self.fc2(self.bn1(self.fc1(means)).relu())  # (B, R out, 1, 1)
        weights = self.weigh(logits).unflatten(1, (self.radix, -1))[..., None, None]
        mixed: Tensor = (splits * weights).sum(1)
        return mixed

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width; refuses what cannot be built."""
        sizes = [options[key] for key in ("radix", "cardinality", "ratio", "min_hidden")]
        hidden, splits = split_width(channels, channels, *sizes), channels * options["radix"]
        default = hidden == hidden_width(splits, 4, 32)
        width = {"ratio": 4, "min_hidden": 32} if default else canonical_hidden(splits, hidden, ratio=4)
        return {**options, **width}


def split_width(channels: int, out: int, radix: int, cardinality: int, ratio: int, min_hidden: int) -> int:
    """Hidden width of the attention; `BlockError` where groups and channels do not fit."""
    if radix < 1:
        raise BlockError(f"splat: radix must be at least 1, got {radix}; without splits it is conv3x3")
    both = cardinality * radix
    hidden = hidden_width(channels * radix, ratio, min_hidden)
    check_divides(
        both,
        channels,
        f"splat: radix {radix} x cardinality {cardinality} does not divide {channels} channels",
    )
    check_divides(cardinality, out, f"splat: cardinality {cardinality} does not divide {out} output channels")
    check_divides(
        cardinality, hidden, f"splat: cardinality {cardinality} does not divide hidden width {hidden}"
    )
    return hidden
