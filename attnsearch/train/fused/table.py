"""What the kernels compute in place of torch: a function for each of `build.ops`, which answers None to decline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnsearch.build import ops
from attnsearch.train.fused.arrays import second_of, with_second
from attnsearch.train.fused.functions import AddRelu, Norm, by_running_statistics
from attnsearch.train.fused.gates import Gated, pooled_gate, watched


class Fused(TorchFunctionMode):
    """Within it the kernels compute what is in `TABLE` and of a kind they know; torch computes the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ours = TABLE.get(func)
        y = None if ours is None else ours(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if y is None else y


def norm_add_relu(norm: nn.Module | None, x: Tensor, shortcut: Tensor) -> Tensor | None:
    if norm is None:
        return add_relu(x, shortcut)
    return norm_relu(norm, x, second_of(shortcut)) if _alike(x, shortcut) else None


def norm_relu(norm: Any, x: Tensor, other: Tensor | None = None) -> Tensor | None:
    if type(norm) is not nn.BatchNorm2d or watched(norm) or norm.momentum is None:
        return None
    small = {name: getattr(norm, name) for name in ("weight", "bias", "training", "momentum", "eps")}
    y = batch_norm(x, norm.running_mean, norm.running_var, other=other, relu=True, **small)
    if y is not None and norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return y


def batch_norm(
    x: Tensor, mean: Any, variance: Any, other: Tensor | None = None, relu: bool = False, **norm: Any
) -> Tensor | None:
    """`F.batch_norm` by its keywords; behind it an addition, or none, and a ReLU, or none."""
    known = mean, variance, norm["weight"], norm["bias"]
    if not _suits(x) or any(t is None or t.dtype != torch.float32 for t in known):
        return None
    if not norm["training"]:
        return None if torch.is_grad_enabled() else by_running_statistics(x, known, norm["eps"], other, relu)
    if x.numel() // x.shape[1] < 2:
        return None
    settings = mean, variance, norm["momentum"], norm["eps"]
    return with_second(*Norm.apply(x, *known[2:], other, settings, relu))  # type: ignore[no-untyped-call]


def add_relu(x: Tensor, shortcut: Tensor) -> Tensor | None:
    if type(x) is Tensor and x.dim() == 4 and _suits(shortcut):
        x = x.contiguous(memory_format=torch.channels_last)  # a gate may have left it in another order
    if not _alike(x, shortcut):
        return None
    return with_second(*AddRelu.apply(x, second_of(shortcut)))  # type: ignore[no-untyped-call]


def gated(gate: nn.Module, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """The gate, and relu(that + shortcut) where there is one."""
    known = _suits(x) if shortcut is None else _alike(x, shortcut)
    pooled = pooled_gate(gate) if known else None
    with Fused():  # what a gate calls may be known again
        if pooled is None:
            return gate(x) if shortcut is None else ops.add_relu(gate(x), shortcut)
        wanted = [parameter for parameter in gate.parameters() if parameter.requires_grad]
        other = None if shortcut is None else second_of(shortcut)
        return with_second(*Gated.apply(x, other, pooled, *wanted))  # type: ignore[no-untyped-call]


def conv(x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, *rest: Any) -> Any:
    """A k x k convolution of two maps to one, as in a spatial gate, along columns whose channels are the rows' pixels.

    Torch's own takes longer than the rest of the gate. Channels (map, pixel) to pixels it is a dense convolution over
    the height, by weights that are bands: 32 / 7 times the arithmetic at 32 pixels and k = 7, in a third of the time.
    """
    kernel, width = weight.shape[2], x.shape[-1]
    pad = kernel // 2
    plain = bias is None and stride == (1, 1) and padding == (pad, pad) and rest == ((1, 1), 1)
    if not (plain and kernel % 2 and weight.shape == (1, 2, kernel, kernel) and x.dim() == 4 and width <= 64):
        return None
    padded = F.pad(weight[0], (width - 1 - pad, width - 1 - pad))  # (2, k, 2 W - 1)
    bands = padded.unfold(2, width, 1).flip(2).permute(2, 0, 3, 1)  # (W out, 2, W in, k)
    columns = x.transpose(2, 3).reshape(len(x), 2 * width, -1)  # (B, 2 W, H)
    y = F.conv1d(columns, bands.reshape(width, 2 * width, kernel), padding=pad)  # (B, W, H)
    return y.transpose(1, 2)[:, None]


def _alike(x: Tensor, other: Tensor) -> bool:
    return x.shape == other.shape and x.dtype == other.dtype and _suits(x) and _suits(other)


def _suits(x: Tensor) -> bool:
    """Whether the kernels know this map, and its gradient is wanted or nobody's is."""
    return (
        type(x) is Tensor
        and x.dim() == 4
        and x.device.type == "cpu"
        and x.dtype in (torch.bfloat16, torch.float32)
        and (x.requires_grad or not torch.is_grad_enabled())
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > 0
    )


TABLE: dict[Any, Callable[..., Tensor | None]] = {
    ops.norm_relu: norm_relu,
    ops.norm_add_relu: norm_add_relu,
    ops.add_relu: add_relu,
    ops.gated: gated,
    ops.gated_add_relu: gated,
    F.batch_norm: batch_norm,
    F.conv2d: conv,
}
