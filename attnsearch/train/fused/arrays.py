"""Feature maps as the arrays that the kernels know: the same memory, in the order of channels-last maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows(x: Tensor) -> Any:
    """(B, C, H, W) -> (B H, W C)."""
    batch, channels, height, width = x.shape
    return _array(x, batch * height, width * channels)


def optional_rows(x: Tensor | None) -> Any:
    """The same, or None."""
    return None if x is None else rows(x)


def grid(x: Tensor) -> Any:
    """(B, C, H, W) -> (B, H, W, C)."""
    batch, channels, height, width = x.shape
    return _array(x, batch, height, width, channels)


def optional_grid(x: Tensor | None) -> Any:
    """The same, or None."""
    return None if x is None else grid(x)


def columns(x: Tensor) -> Any:
    """(B, C, H, W) -> (B, H, W C): what lies above another is a column."""
    batch, channels, height, width = x.shape
    return _array(x, batch, height, width * channels)


def lines(x: Tensor) -> Any:
    """(B, C, H, W) -> (B H, W, C): what lies beside another is a column."""
    batch, channels, height, width = x.shape
    return _array(x, batch * height, width, channels)


def both(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor | None]:
    """Gradients of a map and of its shortcut view, of which one may be missing, in the maps' own order."""
    g, *more = (g.contiguous(memory_format=torch.channels_last) for g in gradients if g is not None)
    return g, more[0] if more else None


def planes(x: Tensor) -> Any:
    """(B, C, H, W) as it is: one map after the other."""
    return _numbers(x.detach())


def _array(x: Tensor, *shape: int) -> Any:
    return _numbers(x.detach().permute(0, 2, 3, 1)).reshape(shape)


def _numbers(x: Tensor) -> Any:
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()
