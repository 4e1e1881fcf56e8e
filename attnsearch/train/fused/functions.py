"""Norms and residual additions as autograd functions: one pass over memory forward, one or two backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnsearch.train.fused import norm_kernels as kernels
from attnsearch.train.fused.arrays import both, rows


class Norm(torch.autograd.Function):
    """Batch norm by the batch's own statistics, with or without an addition and a ReLU behind it; twice."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, settings: Any, relu: bool
    ) -> tuple[Tensor, Tensor]:
        y, (mean, variance, momentum, eps) = torch.empty_like(x), settings
        small = weight.detach().numpy(), bias.detach().numpy(), (mean.numpy(), variance.numpy())
        ctx.stats = kernels.norm(rows(x), *small, momentum, eps, relu, rows(other), rows(y))
        ctx.relu, ctx.added = relu, other is not None
        ctx.save_for_backward(x, *([y] if ctx.added else []))
        ctx.set_materialize_grads(False)
        return y, y.data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *y = ctx.saved_tensors
        g, more = both(gradients)
        d, out = torch.empty_like(x) if ctx.added else None, torch.empty_like(x)
        maps = rows(g), rows(more), rows(x), rows(y[0] if y else None)
        parameters = kernels.norm_back(*maps, ctx.stats, ctx.relu, rows(d), rows(out))
        by_weight, by_bias = torch.from_numpy(parameters)
        return out, by_weight, by_bias, d, None, None


def by_running_statistics(x: Tensor, norm: Any, eps: float, other: Tensor | None, relu: bool) -> Tensor:
    """The norm (mean, variance, weight, bias) by running statistics, without gradients."""
    mean, variance, weight, bias = norm
    scale = weight.detach() * (variance + eps).rsqrt()
    shift, y = bias.detach() - mean * scale, torch.empty_like(x)
    kernels.scale_shift(rows(x), scale.numpy(), shift.numpy(), relu, rows(other), rows(y))
    return y


class AddRelu(torch.autograd.Function):
    """relu(x + other), twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.empty_like(x)
        kernels.add_relu(rows(x), rows(other), rows(y))
        ctx.save_for_backward(y)
        ctx.set_materialize_grads(False)
        return y, y.data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        g, more = both(gradients)
        out = torch.empty_like(y)
        kernels.relu_back(rows(g), rows(more), rows(y), rows(out))
        return out, out
