"""Feature maps as the arrays that the kernels know, and maps with a second handle for their shortcut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SECOND = "_attnsearch_second"


def grid(x: Tensor | None) -> Any:
    """(B, C, H, W) -> (B, H, W, C), the same memory; bfloat16 as uint16. None stays None."""
    if x is None:
        return None
    x = x.detach().permute(0, 2, 3, 1)
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def rows(x: Tensor | None) -> Any:
    """(B, C, H, W) -> (B H, W C), likewise."""
    return None if x is None else grid(x).reshape(x.shape[0] * x.shape[2], -1)


def both(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor | None]:
    """Gradients of a map and of its second handle, of which one may be missing, in the maps' own order."""
    g, *more = (g.contiguous(memory_format=torch.channels_last) for g in gradients if g is not None)
    return g, more[0] if more else None


def with_second(y: Tensor, second: Tensor) -> Tensor:
    """y, which remembers that `second` is the same map with a gradient of its own.

    A residual unit's branch reads one and its addition the other, so that both gradients reach the backward pass of
    whatever made the map, which adds them while they are in a register.
    """
    if y.requires_grad:
        setattr(y, _SECOND, (second, y._version))
    return y


def second_of(x: Tensor) -> Tensor:
    """The second handle, to be read in place of x; x itself if it has none or was changed in place since."""
    remembered = getattr(x, _SECOND, None)
    return x if remembered is None or remembered[1] != x._version else remembered[0]
