"""Gates that weigh a map by what its pools say, with the residual addition behind them, in as few passes as can be.

A map is read once for each pool and once for the product and the addition; backward once for the gradients of the
weights and once for that of the map. What lies between pools and weights is small, a layer or two, and stays torch's:
it runs as the block writes it, with a graph of its own, which the backward pass differentiates in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attnsearch.blocks.cbam import CBAM
from attnsearch.blocks.cbam_lite import CBAMLite
from attnsearch.blocks.channel_gate import ChannelGate
from attnsearch.blocks.eca import ECA
from attnsearch.blocks.se import SE
from attnsearch.blocks.spatial_gate import SpatialGate
from attnsearch.train.fused import gate_kernels as kernels
from attnsearch.train.fused.arrays import both, grid, rows
from attnsearch.train.fused.pooling import channel_terms, over_channels, over_places, place_terms

F32 = np.float32
Weights = Callable[[Tensor, Tensor], Tensor]  # means and maxima -> weights
FORMS = {  # of channel weight c and place weight p, an element is multiplied by k0 + k1 (c + p) + k2 c p
    "serial": (0.0, 0.0, 1.0),
    "product": (0.0, 0.0, 1.0),
    "parallel": (1.0, 1.0, 0.0),
    "parallel_mean": (0.0, 0.5, 0.0),
}


@dataclass(frozen=True)
class PooledGate:
    """What a gate makes of pools.

    `serial` takes the pools over channels of what the channels' weights left.
    """

    by_channel: Weights | None  # over places, (B, C) each -> (B, C, 1, 1)
    by_place: Weights | None = None  # over channels, (B, 1, H, W) each -> (B, 1, H, W)
    fusion: str = "serial"  # a key of `FORMS`


def _cbam(gate: CBAM) -> PooledGate | None:
    shared = gate.channel.ties == gate.spatial.ties == "shared" and gate.fusion in FORMS
    return PooledGate(gate.channel.of_pools, gate.spatial.of_pools, gate.fusion) if shared else None


POOLED: dict[type, Callable[[Any], PooledGate | None]] = {
    SE: lambda gate: PooledGate(lambda mean, largest: gate.weights(mean)),
    ECA: lambda gate: PooledGate(lambda mean, largest: gate.weights(mean)),
    ChannelGate: lambda gate: PooledGate(gate.of_pools) if gate.ties == "shared" else None,
    SpatialGate: lambda gate: PooledGate(None, gate.of_pools) if gate.ties == "shared" else None,
    CBAM: _cbam,
    CBAMLite: lambda gate: PooledGate(gate.channel_weights, gate.spatial_weights),
}


def pooled_gate(gate: nn.Module) -> PooledGate | None:
    """What this gate makes of pools; None for one that is none of these, or that somebody watches."""
    describe = POOLED.get(type(gate))
    return None if describe is None or watched(gate) else describe(gate)


def watched(module: nn.Module) -> bool:
    """Whether hooks hang on the module or its parts: they are called where it is called, and only there."""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())


class Gated(torch.autograd.Function):
    """A map times its gate's weights, or relu(that + other), twice; `parameters` are the gate's with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, other: Tensor | None, gate: PooledGate, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = x.shape
        record, form = any(ctx.needs_input_grad), np.array(FORMS[gate.fusion], F32)
        c, p = np.ones((batch, channels), F32), np.ones((batch, height, width), F32)
        by_channel = by_place = None
        if gate.by_channel is not None:
            pools = over_places(x)
            by_channel = _Small(gate.by_channel, pools, x.dtype, record)
            c = by_channel.weights.detach().float().reshape(c.shape).numpy()
        before = c if gate.fusion == "serial" else np.ones_like(c)
        if gate.by_place is not None:
            by_place = _Small(gate.by_place, over_channels(x, before), x.dtype, record)
            p = by_place.weights.detach().float().reshape(p.shape).numpy()
        y = torch.empty_like(x)
        kernels.scale(grid(x), (c, p), form, grid(other), grid(y))
        ctx.save_for_backward(x, *([] if other is None else [y]))
        ctx.weights, ctx.form, ctx.before, ctx.serial = (c, p), form, before, gate.fusion == "serial"
        ctx.small, ctx.parameters = (by_channel, by_place), parameters
        ctx.set_materialize_grads(False)
        return y, y.data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        x, *y = ctx.saved_tensors
        (c, p), (by_channel, by_place) = ctx.weights, ctx.small
        g, more = both(gradients)
        d = None if more is None and not y else torch.empty_like(x)  # what a ReLU lets pass, or a sum
        g_c, g_p, small = np.empty_like(c), np.empty_like(p), [0] * len(ctx.parameters)
        maps = rows(g), rows(more), rows(y[0] if y else None), grid(x)
        kernels.scale_back(*maps, ctx.weights, ctx.form, rows(d), g_c, g_p)
        places, (over, _) = place_terms(x), channel_terms(x)
        if by_place is not None:
            pools, small = by_place.gradients(g_p, ctx.parameters, small)
            over, serial = channel_terms(x, ctx.before, by_place.pools[1], pools)
            g_c += serial if ctx.serial else 0
        if by_channel is not None:
            pools, small = by_channel.gradients(g_c, ctx.parameters, small)
            places = place_terms(x, by_channel.pools, pools)
        product = grid(g if d is None else d)
        out = torch.empty_like(x)
        kernels.accumulate(product, grid(x), ctx.weights, ctx.form, places, over, grid(out))
        return out, d if y else None, None, *small


class _Small:
    """A gate's layers between pools and weights, with a graph of their own."""

    def __init__(self, function: Weights, pools: Sequence[Tensor], dtype: torch.dtype, record: bool) -> None:
        self.pools = pools
        self.leaves = [pool.to(dtype, copy=True) for pool in pools[:2]]
        with torch.set_grad_enabled(record):
            self.weights = function(*(leaf.requires_grad_(record) for leaf in self.leaves))

    def gradients(
        self, g: Any, parameters: Sequence[Tensor], before: Sequence[Tensor | int]
    ) -> tuple[list[Any], list[Any]]:
        """By both pools, as float32 arrays, and by the parameters, added to those from `before`."""
        wanted = [*self.leaves, *parameters]
        outside = torch.from_numpy(g).view(self.weights.shape).to(self.weights.dtype)
        found = torch.autograd.grad(
            self.weights, wanted, outside, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        pools = [gradient.float().contiguous().numpy() for gradient in found[:2]]
        return pools, [a + b for a, b in zip(found[2:], before, strict=True)]
