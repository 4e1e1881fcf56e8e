"""Which gradients a backward pass may write over: writing where was just read saves a third of a pass's traffic.

A new map costs twice its size, once to fetch the lines that are about to be overwritten. A gradient that nobody reads
again is as good a place. torch's own engine adds gradients in place by the same rule: by who holds them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor

Holders = tuple[int, int, int]


def spare_maps(gradients: tuple[Tensor | None, ...], like: Tensor) -> Iterator[Tensor]:
    """Maps to write to: of the gradients those that no one else holds, then new ones, as many as are asked for.

    Ask with the very tuple that `backward` was called with, before anything else refers to its gradients. A pass that
    writes to one must have read of it, and of the others, what it needs of them.
    """
    alone = _holders_of_one_that_is_alone()
    free = [
        g
        for g, holders in zip(gradients, _holders(gradients) if alone else (), strict=False)
        if g is not None
        and holders == alone
        and (g.shape, g.dtype) == (like.shape, like.dtype)
        and g.is_contiguous(memory_format=torch.channels_last)
    ]
    return chain(free, (torch.empty_like(like) for _ in repeat(None)))


def _holders(gradients: tuple[Tensor | None, ...]) -> list[Holders | None]:
    """How many hold each tensor from C++, from Python, and its memory: views, arrays and hooks show in one of them."""
    return [
        None
        if g is None
        else (
            g._use_count(),  # type: ignore[attr-defined]
            sys.getrefcount(g),
            torch._C._storage_Use_Count(g.untyped_storage()._cdata),
        )
        for g in gradients
    ]


@cache
def _holders_of_one_that_is_alone() -> Holders | None:
    """What is counted for a gradient that only its backward pass holds; None where torch does not count."""
    try:
        with torch.enable_grad():
            x = _Counted.apply(torch.zeros(2, requires_grad=True))  # type: ignore[no-untyped-call]
            x.mul(2).sum().backward()
    except AttributeError:
        return None
    return _Counted.seen


class _Counted(torch.autograd.Function):
    """X itself; counts who holds its gradient, which the product before it has made."""

    seen: Holders | None = None

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (_Counted.seen,) = _holders(gradients)
        return gradients[0]
