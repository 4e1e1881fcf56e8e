"""PMFSNet, the segmentation network that the neck of `blocks/pmfs.py` was published in; images or volumes.

Zhong et al., "PMFSNet: Polarized Multi-scale Feature Self-attention Network", 2024, arXiv:2401.07579. Three dense
stages halve the map, the neck joins them, and a decoder brings the classes back to the input's size:
`basic` climbs stage by stage, `small` and `tiny` widen three skips to the first stage's size and read them at once.
Widths as in the authors' code (github.com/yykzjh/PMFSNet); `tests/test_golden.py` holds its published sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm
from attnsearch.build.create import create_neck
from attnsearch.core.errors import BlockError, did_you_mean

_CONVS: dict[str, type[nn.Conv2d] | type[nn.Conv3d]] = {"2d": nn.Conv2d, "3d": nn.Conv3d}
_GROWTH = (4, 8, 16)  # channels that each unit of a dense stage adds
_KERNELS = (5, 3, 3)  # of the convolution that halves the map


@dataclass(frozen=True)
class Size:
    """Widths of the stages' entries and skips, units per stage, width of the neck."""

    base: tuple[int, int, int]
    skip: tuple[int, int, int]
    units: tuple[int, int, int]
    neck: int

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each stage's output: its entry and what its units add."""
        return tuple(b + n * g for b, n, g in zip(self.base, self.units, _GROWTH, strict=True))


SIZES = {
    "basic": Size((24, 48, 64), (24, 48, 64), (5, 10, 10), 64),
    "small": Size((24, 24, 24), (12, 24, 24), (5, 10, 10), 48),
    "tiny": Size((24, 24, 24), (12, 24, 24), (3, 5, 5), 48),
}


class PMFSNet(nn.Module):
    """(B, in_channels, H, W) -> scores (B, classes, H, W), in 3-D with a third extent; extents are multiples of 8.

    Args:
        size: `basic`, `small` or `tiny`.
        dim: `2d` images or `3d` volumes.
        classes: of a pixel, the background counted.
        in_channels: of the images; 1 for CT and MR.

    Raises `BlockError` for an unknown size, and in `forward` for extents that do not halve three times.
    """

    def __init__(
        self, size: str = "tiny", *, dim: Literal["2d", "3d"] = "2d", classes: int = 2, in_channels: int = 3
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise BlockError(
                f"PMFSNet: unknown size '{size}'.{did_you_mean(size, SIZES)} Known: {', '.join(SIZES)}"
            )
        self.climbs = size == "basic"
        made = SIZES[size]
        entering = (in_channels, *made.channels)
        self.stages = nn.ModuleList(
            _dense(dim, entering[i], made.base[i], made.units[i], _GROWTH[i], _KERNELS[i], stride=2)
            for i in range(3)
        )
        self.skips = nn.ModuleList(
            _conv(dim, made.channels[i], made.skip[i], 3) for i in range(2 if self.climbs else 3)
        )
        self.neck = create_neck("pmfs", made.channels, width=made.neck, kernels=(4, 2, 1), dim=dim)
        self.decoder = nn.ModuleList(
            _dense(
                dim, made.channels[i + 1] + made.skip[i], made.base[i], made.units[i], _GROWTH[i], 3, stride=1
            )
            for i in ((1, 0) if self.climbs else ())
        )
        if not self.climbs:
            self.decoder.append(_conv(dim, made.channels[2] + made.skip[2], made.skip[2], 3))
        self.out = _conv(dim, made.channels[0] if self.climbs else sum(made.skip), classes, 3)

    def forward(self, x: Tensor) -> Tensor:
        if any(extent % 8 for extent in x.shape[2:]):
            raise BlockError(
                f"PMFSNet halves its map three times: {tuple(x.shape[2:])} are not multiples of 8"
            )
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else x))
        skips = [skip(one) for skip, one in zip(self.skips, maps, strict=False)]
        decode = self._climb if self.climbs else self._widen
        return _enlarge(self.out(decode(self.neck(maps), skips)), 2)

    def _climb(self, deep: Tensor, skips: list[Tensor]) -> Tensor:
        """The neck's map, doubled and joined with a skip, stage by stage."""
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            deep = stage(torch.cat([skip, _enlarge(deep, 2)], 1))
        return deep

    def _widen(self, deep: Tensor, skips: list[Tensor]) -> Tensor:
        """All skips at the first one's size, the deepest read together with the neck's map."""
        deepest = self.decoder[0](torch.cat([deep, skips[2]], 1))
        return torch.cat([skips[0], _enlarge(skips[1], 2), _enlarge(deepest, 4)], 1)


class _Dense(nn.Sequential):
    """Every unit reads all before it, and its output is joined to them (DenseNet)."""

    def forward(self, x: Tensor) -> Tensor:
        for unit in self:
            x = torch.cat([x, unit(x)], 1)
        return x


def _dense(
    dim: str, channels: int, base: int, units: int, growth: int, kernel: int, stride: int
) -> nn.Sequential:
    grown = _Dense(*(_conv(dim, base + i * growth, growth, 3) for i in range(units)))
    return nn.Sequential(_conv(dim, channels, base, kernel, stride), grown)


def _conv(dim: str, channels: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Norm, ReLU, convolution: 2C + k^d C out + out parameters."""
    conv = _CONVS[dim](channels, out, kernel, stride, kernel // 2)
    return nn.Sequential(BatchNorm(channels), nn.ReLU(), conv)


def _enlarge(x: Tensor, times: int) -> Tensor:
    return F.interpolate(x, scale_factor=times, mode="bilinear" if x.dim() == 4 else "trilinear")


__all__ = ["PMFSNet"]
