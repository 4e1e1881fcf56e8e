"""PSA: parallel convolutions of several kernel sizes, weighed against each other channel by channel.

Zhang et al., "EPSANet", ACCV 2022, arXiv:2105.14447; stands where a 3x3 convolution stood.
    x_i = conv_{k_i, g_i}(x), out / S channels each; w_i = sigmoid(SE(x_i)), one SE for all
    y = concat_i(softmax_i(w_i) * x_i)
The softmax runs over sigmoids: a weight of four branches stays within (0.109, 0.475).
Differs from the paper: every convolution sees all input channels, as in the authors' code, whose published
sizes follow from it. Default groups need C % 64 == 0, or are reduced with fit_groups. Presets:
    official  the authors' code, which joins the branches in reversed order; equal up to a permutation of the
              next layer's weights, for loading theirs
    paper     the text: the input is split among the branches (split_input)
    large     kernels and groups that meet the published size of EPSANet Large; its kernels are unpublished
"""

from __future__ import annotations

from math import gcd
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import canonical_hidden, check_divides, check_odd, he_init, hidden_width
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS = {
    "official": {"order": "reversed"},
    "paper": {"split_input": True},
    "large": {"kernels": (3, 5, 5, 7), "groups": (32, 32, 32, 32)},
}


class SEWeight(nn.Module):
    """SE's weights alone; (B, C, H, W) -> (B, C, 1, 1); 2Ch + h + C parameters, h = max(C // ratio, 1)."""

    def __init__(self, channels: int, *, ratio: int = 16) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.fc2(self.fc1(F.adaptive_avg_pool2d(x, 1)).relu())
        return weights.sigmoid()


@block("psa", slot="conv")
class PSA(nn.Module):
    """Multi-scale convolution with attention between scales; (B, C, H, W) -> (B, out, H/stride, W/stride).

    Parameters: sum_i k_i^2 C (out / S) / g_i + 2wh + h + w, w = out / S, h = max(w // ratio, 1).

    Args:
        channels, out_channels, stride: as of the convolution it replaces.
        kernels: one odd size per branch; S is their number.
        groups: of each branch's convolution.
        fit_groups: reduce each groups to its greatest divisor common with the branch's channels; what was
            built is in `self.groups`, and in the arch's spelling.
        order: of the branches in the output, as given or `reversed`.
        split_input: each branch sees its own C / S of the input channels instead of all.
        ratio: of the SE shared by the branches.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        kernels: tuple[int, ...] = (3, 5, 7, 9),
        groups: tuple[int, ...] = (1, 4, 8, 16),
        fit_groups: bool = False,
        order: Literal["given", "reversed"] = "given",
        split_input: bool = False,
        ratio: int = 16,
    ) -> None:
        super().__init__()
        out = out_channels or channels
        self.groups = branch_groups(channels, out, kernels, groups, fit_groups, split_input)
        self.reverse = order == "reversed"
        self.split_input = split_input
        seen = channels // len(kernels) if split_input else channels
        width = out // len(kernels)
        self.convs = nn.ModuleList(
            nn.Conv2d(seen, width, kernel, stride, kernel // 2, groups=group, bias=False)
            for kernel, group in zip(kernels, self.groups, strict=True)
        )
        self.se = SEWeight(width, ratio=ratio)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        count = len(self.convs)
        maps: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            branch = conv(x.chunk(count, 1)[i] if self.split_input else x)
            maps.insert(0 if self.reverse else i, branch)
        stacked = torch.stack(maps, 1)  # (B, S, w, H', W')
        weights = torch.unflatten(self.se(stacked.flatten(0, 1)), 0, (-1, count))  # (B, S, w, 1, 1)
        weighed: Tensor = stacked * weights.softmax(1)
        return weighed.flatten(1, 2)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Groups as they are built, the SE's hidden width in one spelling; refuses what cannot be built."""
        keys = ("kernels", "groups", "fit_groups", "split_input")
        groups = branch_groups(channels, channels, *(options[key] for key in keys))
        # A unit's first convolution may have half the input channels; groups that fit those too need no fitting.
        half = channels // 2 // len(groups) if options["split_input"] else channels // 2
        fit = options["fit_groups"] and any(half % group for group in groups)
        width = channels // len(options["kernels"])
        ratio = canonical_hidden(width, hidden_width(width, options["ratio"]))["ratio"]
        return {**options, "groups": groups, "fit_groups": fit, "ratio": ratio}


def branch_groups(
    channels: int, out: int, kernels: tuple[int, ...], groups: tuple[int, ...], fit: bool, split_input: bool
) -> tuple[int, ...]:
    """Groups of each branch, checked against the widths or, with `fit`, reduced to them; `BlockError`."""
    count = len(kernels)
    if not count or len(groups) != count:
        raise BlockError(f"psa needs one of groups per kernel, got kernels {kernels} and groups {groups}")
    for kernel in kernels:
        check_odd(kernel, "each of psa's kernels")
    check_divides(count, out, f"psa with {count} kernels needs channels divisible by {count}, got {out}")
    if split_input:
        check_divides(count, channels, f"split_input shares channels among {count} kernels, got {channels}")
    common = gcd(channels // count if split_input else channels, out // count)
    if fit:
        return tuple(gcd(group, common) for group in groups)
    for kernel, group in zip(kernels, groups, strict=True):
        advice = f"choose divisors of {common}, or fit_groups to have them reduced"
        what = (
            f"psa: groups={group} of kernel {kernel} does not divide {common}, the most that fits; {advice}"
        )
        check_divides(group, common, what)
    return tuple(groups)
