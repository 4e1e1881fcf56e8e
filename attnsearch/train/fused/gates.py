"""What gates do to a map, in as few passes over it as can be: a product waits until it is known what becomes of it.

A gate pools a map x, computes weights w from the pools and multiplies. Written out, each of these steps reads the whole
map, most write one, and backward all do so again. Here

- x * w is a `Product`: an unallocated tensor, computed only if its values are read. Another gate's pools are
  taken of x and w as they are read; a residual addition multiplies, adds and activates in one pass;
- backward, a map's readers give it no gradient each. They note their terms of it in `PendingTerms`, all of them small
  but the gradient of the product, and one pass computes the sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnsearch.train.fused.arrays import both, grid, optional_grid, optional_rows, rows
from attnsearch.train.fused.passes import LinePools

F32 = np.float32


class Shared:
    """A map that is read several times, handed `through` what collects its gradient; the pools taken so far."""

    def __init__(self, x: Tensor) -> None:
        self.of, self.pending = x, PendingTerms()
        self.through: Tensor = _Accumulated.apply(x, self.pending)  # type: ignore[no-untyped-call]
        self.pools: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def pooled(self, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Means and maxima over places (2, 3), over channels (1,), or over lines (2,) or (3,)."""
        if dims not in self.pools:
            if dims == (1,):
                made = _ChannelPools.apply(self.through, None, Gates(self.of), self.pending)  # type: ignore[no-untyped-call]
            elif dims == (2, 3):
                made = _PlacePools.apply(self.through, self.pending)  # type: ignore[no-untyped-call]
            else:
                self.through, *made = LinePools.apply(self.through, *dims)  # type: ignore[no-untyped-call]
            self.pools[dims] = made[0], made[1]
        return self.pools[dims]


@dataclass(frozen=True)
class Gates:
    """Weights per channel (B, C, 1, 1), per place (B, 1, H, W), or both, of one map."""

    of: Tensor
    by_channel: Tensor | None = None
    by_place: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, Tensor | None]:
        """Both, or None for one that is missing."""
        return self.by_channel, self.by_place

    def joined(self, more: Gates) -> Gates | None:
        """These and others of the same map, unless both have one of a kind."""
        pairs = list(zip(self.tensors, more.tensors, strict=True))
        if any(mine is not None and other is not None for mine, other in pairs):
            return None
        return Gates(self.of, *(mine if other is None else other for mine, other in pairs))

    @cached_property
    def arrays(self) -> tuple[Any, Any]:
        """float32 (B, C) and (B, H, W); a gate that is missing is 1."""
        batch, channels, height, width = self.of.shape
        return _array(self.by_channel, batch, channels), _array(self.by_place, batch, height, width)

    def gradients(self, by_channel: Tensor, by_place: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Those (B, C) and (B, H, W) as the gates' own; None for one that is missing."""
        return (
            None if self.by_channel is None else by_channel[:, :, None, None].to(self.by_channel.dtype),
            None if self.by_place is None else by_place[:, None].to(self.by_place.dtype),
        )


class Product:
    """A map times its gates, not computed yet."""

    def __init__(self, shared: Shared, gates: Gates) -> None:
        self.shared, self.gates, self.materialized = shared, gates, False
        self._pools: tuple[Tensor, Tensor] | None = None

    def unallocated(self) -> Tensor:
        """A tensor of its shape, at its place in the graph, without memory before `materialize`."""
        gates = self.gates
        return _Product.apply(self.shared.through, *gates.tensors, gates, self.shared.pending)  # type: ignore[no-any-return, no-untyped-call]

    def materialize(self, y: Tensor) -> None:
        """Compute what stands in the unallocated tensor."""
        from attnsearch.train.fused import kernels

        if not self.materialized:
            y = y.detach()
            y.untyped_storage().resize_(y.numel() * y.element_size())
            kernels.scale(grid(self.shared.of), *self.gates.arrays, None, grid(y))
            self.materialized = True

    def computed_from(self, x: Tensor) -> bool:
        """Whether this tensor is the map or one of the gates."""
        return any(x is t for t in (self.shared.of, *self.gates.tensors))

    def times(self, gates: Gates) -> Product | None:
        """The product with a gate more, unless it has one of that kind."""
        combined = None if self.materialized else self.gates.joined(gates)
        return Product(self.shared, combined) if combined else None

    def channel_pools(self) -> tuple[Tensor, Tensor] | None:
        """Means and maxima over channels, (B, 1, H, W), of a map that is weighed by channels."""
        if self.materialized or self.gates.by_place is not None:
            return None
        if self._pools is None:
            shared, gates = self.shared, self.gates
            self._pools = _ChannelPools.apply(shared.through, gates.by_channel, gates, shared.pending)  # type: ignore[no-untyped-call]
        return self._pools

    def add_relu(self, other: Tensor) -> tuple[Tensor, Tensor]:
        """relu(this + other), twice."""
        shared, gates = self.shared, self.gates
        return _ProductAddRelu.apply(shared.through, *gates.tensors, other, gates, shared.pending)  # type: ignore[no-any-return, no-untyped-call]


@dataclass
class PendingTerms:
    """Terms of a map's gradient that its readers note in the backward pass, before they are summed.

    products: gradient of a product (B, C, H, W) with its gates; places: of pools over places; channels: of pools over
    channels, with the gate before them. All but the first are float32 arrays (B, C) and (B, H, W). Each by its reader's
    id: one that comes again, after a backward pass that ended before this map, notes the same anew.
    """

    products: dict[int, tuple[Tensor, Any, Any]] = field(default_factory=dict)
    places: dict[int, tuple[Any, Any, Any]] = field(default_factory=dict)
    channels: dict[int, tuple[Any, Any, Any, Any]] = field(default_factory=dict)

    def accumulate(self, g: Tensor | None, x: Tensor) -> Tensor | None:
        """The gradient by x: g and all pending terms, of which none is left then."""
        from attnsearch.train.fused import kernels

        batch, channels, height, width = x.shape
        none, nowhere = (_filled((batch, channels), v) for v in (0.0, np.nan))
        no_place, at_no_place = (_filled((batch, height, width), v) for v in (0.0, np.nan))
        missing = (None, none, no_place), (none, none, nowhere), (none, no_place, no_place, at_no_place)
        for notes in zip_longest(*(noted.values() for noted in (self.products, self.places, self.channels))):
            small: list[Any] = [
                part for note, gap in zip(notes, missing, strict=True) for part in note or gap
            ]
            d, out = small.pop(0), torch.empty_like(x)
            kernels.accumulate(*[optional_grid(g), grid(x), optional_grid(d), *small, grid(out)])
            g = out
        for noted in (self.products, self.places, self.channels):
            noted.clear()
        return g


class _Accumulated(torch.autograd.Function):
    """The identity; its gradient is the sum of the terms that the readers of x noted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pending: PendingTerms) -> Tensor:
        ctx.save_for_backward(x)
        ctx.pending = pending
        ctx.set_materialize_grads(False)
        return x.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, None]:
        (x,) = ctx.saved_tensors
        g = None if g is None else g.contiguous(memory_format=torch.channels_last)
        return ctx.pending.accumulate(g, x), None


class _PlacePools(torch.autograd.Function):
    """Means and maxima over the places of each channel, (B, C, 1, 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pending: PendingTerms) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        mean, largest, ties = (torch.empty(x.shape[:2]) for _ in range(3))
        kernels.place_pools(grid(x), mean.numpy(), largest.numpy(), ties.numpy())
        ctx.save_for_backward(x)
        ctx.largest, ctx.ties, ctx.pending = largest.numpy(), ties.numpy(), pending
        ctx.set_materialize_grads(False)
        return mean[:, :, None, None].to(x.dtype), largest[:, :, None, None].to(x.dtype, copy=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_mean: Tensor | None, g_largest: Tensor | None) -> tuple[None, None]:
        (x,) = ctx.saved_tensors
        every, share = (_array(g, *x.shape[:2], missing=0.0) for g in (g_mean, g_largest))
        share = share / np.maximum(ctx.ties, F32(1))
        ctx.pending.places[id(ctx)] = every / F32(x[0, 0].numel()), share, ctx.largest
        return None, None


class _ChannelPools(torch.autograd.Function):
    """Means and maxima over the channels of each place of a map times its gate by channels, (B, 1, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gate: Tensor | None, gates: Gates, pending: PendingTerms
    ) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        mean, largest = (torch.empty(len(x), *x.shape[2:]) for _ in range(2))
        kernels.channel_pools(grid(x), gates.arrays[0], mean.numpy(), largest.numpy())
        ctx.save_for_backward(*_tensors(x, gate))
        ctx.gates, ctx.largest, ctx.pending = gates, largest.numpy(), pending
        ctx.set_materialize_grads(False)
        return mean[:, None].to(x.dtype), largest[:, None].to(x.dtype, copy=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *pools: Tensor | None) -> tuple[Tensor | None, ...]:
        from attnsearch.train.fused import kernels

        x, gate = ctx.saved_tensors[0], ctx.gates.arrays[0]
        places, small = (len(x), *x.shape[2:]), torch.empty(x.shape[:2])
        g_mean, g_largest = (_array(g, *places, missing=0.0) for g in pools)
        share = torch.empty(places).numpy()
        kernels.channel_pools_back(grid(x), gate, ctx.largest, g_mean, g_largest, share, small.numpy())
        ctx.pending.channels[id(ctx)] = gate, g_mean / F32(x.shape[1]), share, ctx.largest
        return None, ctx.gates.gradients(small, small)[0], None, None


class _Product(torch.autograd.Function):
    """A tensor without memory that stands for a map times its gates."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        by_channel: Tensor | None,
        by_place: Tensor | None,
        gates: Gates,
        pending: PendingTerms,
    ) -> Tensor:
        ctx.save_for_backward(*_tensors(x, by_channel, by_place))
        ctx.gates, ctx.pending = gates, pending
        y = torch.empty_like(x)
        y.untyped_storage().resize_(0)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        g = g.contiguous(memory_format=torch.channels_last)
        return None, *_gate_gradients(ctx, g, None, None, None), None, None


class _ProductAddRelu(torch.autograd.Function):
    """relu(x times its gates + other), twice."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        by_channel: Tensor | None,
        by_place: Tensor | None,
        other: Tensor,
        gates: Gates,
        pending: PendingTerms,
    ) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        y = torch.empty_like(x)
        kernels.scale(grid(x), *gates.arrays, grid(other), grid(y))
        ctx.save_for_backward(*_tensors(x, y, by_channel, by_place))
        ctx.gates, ctx.pending = gates, pending
        ctx.set_materialize_grads(False)
        return y, y.view_as(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        d = torch.empty_like(ctx.saved_tensors[0])
        g, more = both(gradients)
        return None, *_gate_gradients(ctx, g, more, ctx.saved_tensors[1], d), d, None, None


def _gate_gradients(
    ctx: Any, g: Tensor, more: Tensor | None, y: Tensor | None, d: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both gates; the map's own is noted as a pending term."""
    from attnsearch.train.fused import kernels

    x = ctx.saved_tensors[0]
    by_channel, by_place = torch.empty(x.shape[:2]), torch.empty(len(x), *x.shape[2:])
    gates, sums = ctx.gates.arrays, (by_channel.numpy(), by_place.numpy())
    maps = rows(g), optional_rows(more), optional_rows(y), grid(x)
    kernels.scale_back(*maps, gates[0], gates[1], optional_rows(d), *sums)
    ctx.pending.products[id(ctx)] = (g if d is None else d, *gates)
    return ctx.gates.gradients(by_channel, by_place)  # type: ignore[no-any-return]


def _tensors(*maybe: Tensor | None) -> list[Tensor]:
    """Those that there are: torch checks in the backward pass that none was changed in place."""
    return [t for t in maybe if t is not None]


def _array(x: Tensor | None, *shape: int, missing: float = 1.0) -> Any:
    return _filled(shape, missing) if x is None else x.detach().float().reshape(shape).contiguous().numpy()


@lru_cache(maxsize=64)
def _filled(shape: tuple[int, ...], value: float) -> Any:
    """An array that is only read. NaN is found again if it is NumPy's: another would equal nothing."""
    return torch.full(shape, value).numpy()
