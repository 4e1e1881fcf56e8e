"""Pools of a map over its places or its channels, and what their gradients give the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnsearch.train.fused import gate_kernels as kernels
from attnsearch.train.fused.arrays import grid

F32 = np.float32


def over_places(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, maxima, and how many places reach the maximum, float32 (B, C) each."""
    mean, largest, ties = (torch.empty(x.shape[:2]) for _ in range(3))
    kernels.place_pools(grid(x), mean.numpy(), largest.numpy(), ties.numpy())
    return mean, largest, ties


def over_channels(x: Tensor, gate: Any) -> tuple[Tensor, Tensor]:
    """Means and maxima of x times its gate (B, C), float32 (B, 1, H, W) each."""
    mean, largest = (torch.empty(len(x), 1, *x.shape[2:]) for _ in range(2))
    kernels.channel_pools(grid(x), gate, mean[:, 0].numpy(), largest[:, 0].numpy())
    return mean, largest


def place_terms(x: Tensor, pools: tuple[Tensor, ...] = (), gradients: Any = ()) -> tuple[Any, Any, Any]:
    """What every place, and what each that reaches the maximum gets of the gradients, and that maximum: (B, C) each."""
    if not pools:
        none = np.zeros(x.shape[:2], F32)
        return none, none, np.full_like(none, np.nan)
    (every, share), (_, largest, ties) = gradients, pools
    return every / F32(x[0, 0].numel()), share / np.maximum(ties.numpy(), F32(1)), largest.numpy()


def channel_terms(
    x: Tensor, gate: Any = None, largest: Tensor | None = None, gradients: Any = ()
) -> tuple[tuple[Any, Any, Any, Any], Any]:
    """The same of channels, (B, H, W) each, behind the gate (B, C) before the pools; and the gate's own gradient."""
    places = (len(x), *x.shape[2:])
    small = np.zeros(x.shape[:2], F32)
    if largest is None:
        none = np.zeros(places, F32)
        return (small, none, none, np.full_like(none, np.nan)), small
    (every, share), top, part = (
        (g.reshape(places) for g in gradients),
        largest[:, 0].numpy(),
        np.empty(places, F32),
    )
    kernels.channel_pools_back(grid(x), gate, top, every, share, part, small)
    return (gate, every / F32(x.shape[1]), part, top), small
