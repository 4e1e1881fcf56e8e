"""PMFS: pool the maps of several stages to one size, join them, attend to channels, then to positions.

Zhong et al., "PMFSNet: Polarized Multi-scale Feature Self-attention Network", 2024, arXiv:2401.07579; the
block its code names GlobalPMFSBlock_AP_Separate. D(a -> b) is norm, ReLU, depthwise, pointwise; c = n w:
    x = concat_i D(C_i -> w)(max-pool(map_i)), n maps
    y = D(c -> c)(x) * sigmoid(layernorm(conv(Q K)))
        Q = D(c -> c)(x), K = D(c -> 1)(x), softmax over positions
    z = V * sigmoid(K Q), each position of each of n branches
        Q, V = D(c -> n width)(y), K = D(c -> n width)(y), mean over positions and branches, then softmax
    out = D(c -> C_n)(D(n width -> c)(z))
Differs from the paper: value_width may differ from key_width (the code reshapes values by the key's width).
Where no pooling kernels are given they follow from the maps' sizes, and a window cut by the border counts.
`official`: width 64; `tiny`: 48. Nothing is added to the deepest map here: a host does so where it needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS = {"official": {}, "tiny": {"width": 48}}
_CONVS: dict[str, type[nn.Conv2d] | type[nn.Conv3d]] = {"2d": nn.Conv2d, "3d": nn.Conv3d}


@block("pmfs", slot="neck")
class PMFS(nn.Module):
    """Maps [(B, C_i, H_i, W_i)], shallow to deep -> (B, C_n, H_n, W_n); in 3-D with a third extent.

    Args:
        in_channels: C_i of each map.
        width: channels w of each map before they are joined (`ch` in the code).
        key_width, value_width: channels of keys and values in each branch (`ch_k`, `ch_v`); None takes width.
        kernels: of the max-pooling of each map, stride alike; None derives them from the maps.
        dim: `2d` images or `3d` volumes.

    Raises `BlockError` for maps of other channels or extents, or that do not pool to one size.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        width: int = 64,
        key_width: int | None = None,
        value_width: int | None = None,
        kernels: tuple[int, ...] | None = None,
        dim: Literal["2d", "3d"] = "2d",
    ) -> None:
        super().__init__()
        self.channels, self.kernels = tuple(in_channels), kernels
        self.branches = count = len(self.channels)
        key, value = (width if one is None else one for one in (key_width, value_width))
        _check(count, min(width, key, value), kernels)
        self.rank = {"2d": 2, "3d": 3}[dim]
        joined = width * count
        self.reduce = nn.ModuleList(_separable(dim, channels, width, 3) for channels in self.channels)
        self.channel_query = _separable(dim, joined, joined, 1)
        self.channel_key = _separable(dim, joined, 1, 1)
        self.channel_value = _separable(dim, joined, joined, 1)
        self.channel_score = _CONVS[dim](joined, joined, 1)
        self.channel_norm = nn.LayerNorm([joined] + [1] * self.rank)
        self.spatial_query = _separable(dim, joined, count * key, 1)
        self.spatial_key = _separable(dim, joined, count * key, 1)
        self.spatial_value = _separable(dim, joined, count * value, 1)
        self.spatial_out = _separable(dim, count * value, joined, 1)
        self.out = _separable(dim, joined, self.channels[-1], 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        if len(maps) != self.branches:
            raise BlockError(f"pmfs was built for {self.branches} maps, got {len(maps)}")
        for one, channels in zip(maps, self.channels, strict=True):
            if one.dim() != self.rank + 2 or one.shape[1] != channels:
                wanted = f"{channels} channels and {self.rank} extents"
                raise BlockError(f"pmfs: expected a map with {wanted}, got {tuple(one.shape)}")
        pooled = _pool_alike(maps, self.kernels)
        x = torch.cat([reduce(one) for reduce, one in zip(self.reduce, pooled, strict=True)], 1)
        x = self._attend_to_positions(self._attend_to_channels(x))
        return self.out(x)  # type: ignore[no-any-return]

    def _attend_to_channels(self, x: Tensor) -> Tensor:
        """(B, c, ...) -> the same shape, each channel weighed by its agreement with the key's positions."""
        query = self.channel_query(x).flatten(2)  # (B, c, P), P positions
        key = self.channel_key(x).flatten(2).softmax(2).transpose(1, 2)  # (B, P, 1)
        agreement = torch.matmul(query, key).reshape(*x.shape[:2], *[1] * self.rank)  # (B, c, 1, 1)
        score = self.channel_norm(self.channel_score(agreement)).sigmoid()
        return self.channel_value(x) * score  # type: ignore[no-any-return]

    def _attend_to_positions(self, x: Tensor) -> Tensor:
        """(B, c, ...) -> the same shape, each branch's position weighed by its agreement with the key."""
        split = (self.branches, -1)
        query = self.spatial_query(x).flatten(2).unflatten(1, split)  # (B, n, key_width, P)
        key = self.spatial_key(x).flatten(2).unflatten(1, split).mean((1, 3)).softmax(1)  # (B, key_width)
        value = self.spatial_value(x).flatten(2).unflatten(1, split)  # (B, n, value_width, P)
        # Said outright, for counters of operations.
        key = key[:, None, None].expand(-1, self.branches, -1, -1)
        agreement = torch.matmul(key, query)  # (B, n, 1, P)
        weighed = (value * agreement.sigmoid()).flatten(1, 2)  # (B, n value_width, P)
        return self.spatial_out(weighed.reshape(*weighed.shape[:2], *x.shape[2:]))  # type: ignore[no-any-return]

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Widths of keys and values that equal `width` are left out."""
        widths = ("key_width", "value_width")
        return {**options, **{key: None for key in widths if options[key] == options["width"]}}


def _separable(dim: str, channels: int, out: int, kernel: int) -> nn.Sequential:
    """Norm, ReLU, depthwise, pointwise: 2C + k^d C + C out + out parameters."""
    conv = _CONVS[dim]
    return nn.Sequential(
        BatchNorm(channels),
        nn.ReLU(),
        conv(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        conv(channels, out, 1),
    )


def _check(count: int, narrowest: int, kernels: tuple[int, ...] | None) -> None:
    if not count:
        raise BlockError("pmfs: in_channels is empty, it needs the channels of each map")
    if narrowest < 1:
        raise BlockError(f"pmfs: widths must be at least 1, got {narrowest}")
    if kernels is not None and (len(kernels) != count or min(kernels) < 1):
        raise BlockError(f"pmfs: kernels {tuple(kernels)} are not one size for each of {count} maps")


def _pool_alike(maps: Sequence[Tensor], kernels: tuple[int, ...] | None) -> list[Tensor]:
    """Max-pool every map to one size, the deepest's unless kernels are given; else `BlockError`."""
    pooled = [_max_pool(one, maps[-1], kernels[i] if kernels else None) for i, one in enumerate(maps)]
    sizes, reached = ([tuple(one.shape[2:]) for one in some] for some in (maps, pooled))
    if any(size != reached[-1] for size in reached):
        raise BlockError(f"pmfs: maps of sizes {sizes} pool to {reached}; they must become one size")
    return pooled


def _max_pool(x: Tensor, deepest: Tensor, kernel: int | None) -> Tensor:
    """Non-overlapping windows, one axis after the other: amax has a deterministic backward in 2-D and 3-D.

    A given kernel drops the rest that fills no window, as pooling layers do; a derived one keeps it.
    """
    for axis in range(2, x.dim()):
        length, target = x.shape[axis], deepest.shape[axis]
        window = kernel or -(-length // target)
        if kernel:
            x = x.narrow(axis, 0, length // window * window)
        elif length % window:
            after = [0, 0] * (x.dim() - 1 - axis) + [0, -length % window]
            x = F.pad(x, after, value=-torch.inf)
        x = torch.unflatten(x, axis, (-1, window)).amax(axis + 1)
    return x
