"""Norms, additions, pools over lines and small convolutions as passes over maps, each with its own backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnsearch.train.fused.arrays import both, columns, lines, optional_rows, planes, rows


class Norm(torch.autograd.Function):
    """Batch norm by the batch's own statistics, with or without an addition and a ReLU behind it; y twice."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
        relu: bool,
        other: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        y = torch.empty_like(x)
        small = weight.detach().numpy(), bias.detach().numpy(), tuple(t.numpy() for t in running)
        ctx.stats = kernels.norm(rows(x), *small, momentum, eps, relu, optional_rows(other), rows(y))
        ctx.relu, ctx.added = relu, other is not None
        ctx.save_for_backward(x, *([y] if ctx.added else []))
        ctx.set_materialize_grads(False)
        return y, y.view_as(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from attnsearch.train.fused import kernels

        x, *y = ctx.saved_tensors
        g, more = both(gradients)
        d, out = torch.empty_like(x) if ctx.added else None, torch.empty_like(x)
        sums = rows(g), optional_rows(more), rows(x), optional_rows(y[0] if y else None)
        parameters = torch.from_numpy(
            kernels.norm_back(*sums, ctx.stats, ctx.relu, optional_rows(d), rows(out))
        )
        return out, parameters[0], parameters[1], None, None, None, None, d


def scaled_shifted(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    relu: bool,
    other: Tensor | None,
) -> Tensor:
    """The norm by running statistics, without gradients."""
    from attnsearch.train.fused import kernels

    scale = weight * (variance + eps).rsqrt()
    shift = bias - mean * scale
    y = torch.empty_like(x)
    kernels.scale_shift(rows(x), scale.numpy(), shift.numpy(), relu, optional_rows(other), rows(y))
    return y


class AddRelu(torch.autograd.Function):
    """relu(x + other), twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        y = torch.empty_like(x)
        kernels.add_relu(rows(x), rows(other), rows(y))
        ctx.save_for_backward(y)
        ctx.set_materialize_grads(False)
        return y, y.view_as(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        (y,) = ctx.saved_tensors
        out = torch.empty_like(y)
        g, more = both(gradients)
        kernels.add_relu_back(rows(g), optional_rows(more), rows(y), rows(out))
        return out, out


class Sampled(torch.autograd.Function):
    """x[:, :, ::down, ::right] in the maps' own order, (B, C, H / down, W / right) rounded up.

    A slice of torch's gives its gradient in another order, which the pass behind it would have to turn.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: int, right: int) -> Tensor:
        ctx.shape, ctx.steps = x.shape, (down, right)
        return x[:, :, ::down, ::right].contiguous(memory_format=torch.channels_last)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        down, right = ctx.steps
        out = torch.empty(ctx.shape, dtype=g.dtype, memory_format=torch.channels_last).zero_()
        out[:, :, ::down, ::right] = g
        return out, None, None


class LinePools(torch.autograd.Function):
    """X itself, and its means and maxima over its height, (B, C, 1, W), or its width, (B, C, H, 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> tuple[Tensor, ...]:
        from attnsearch.train.fused import kernels

        ctx.view = columns if dim == 2 else lines
        batch, *sizes = x.permute(0, 2, 3, 1).shape
        sizes[dim - 2] = 1
        mean, largest = (torch.empty(batch, *sizes) for _ in range(2))  # in the memory order of the maps
        outer = batch if dim == 2 else batch * x.shape[2]
        kernels.line_pools(ctx.view(x), *(t.view(outer, -1).numpy() for t in (mean, largest)))
        ctx.save_for_backward(x, largest)
        ctx.outer = outer
        ctx.set_materialize_grads(False)
        return x.view_as(x), *(pooled.permute(0, 3, 1, 2).to(x.dtype) for pooled in (mean, largest))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor | None, *pools: Tensor | None) -> tuple[Tensor, None]:
        from attnsearch.train.fused import kernels

        x, largest = ctx.saved_tensors
        g = torch.zeros_like(x) if g is None else g.contiguous(memory_format=torch.channels_last)
        small = [
            torch.zeros_like(largest) if p is None else p.permute(0, 2, 3, 1).float().contiguous()
            for p in pools
        ]
        out = torch.empty_like(x)
        arrays = [t.view(ctx.outer, -1).numpy() for t in (largest, *small)]
        kernels.line_pools_back(ctx.view(x), arrays[0], ctx.view(g), arrays[1], arrays[2], ctx.view(out))
        return out, None


class PlanesConv(torch.autograd.Function):
    """A convolution of few maps to one, by weights in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        from attnsearch.train.fused import kernels

        x, out = x.contiguous(), x.new_empty(len(x), 1, *x.shape[2:])
        kernels.planes_conv(planes(x), weight[0].detach().contiguous().numpy(), planes(out)[:, 0])
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        from attnsearch.train.fused import kernels

        x, weight = ctx.saved_tensors
        g_x, g_weight = torch.empty_like(x), torch.zeros(weight.shape)
        maps = planes(g.contiguous())[:, 0], planes(x)
        kernels.planes_conv_back(
            *maps, weight[0].detach().contiguous().numpy(), planes(g_x), g_weight[0].numpy()
        )
        return g_x, g_weight
