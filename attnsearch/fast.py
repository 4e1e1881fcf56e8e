"""Training passes on one CPU thread without needless trips to memory: `with Fast(): model(x)`.

The mode stands between a model and torch. Batch norms, additions, pools and broadcast products over channels-last maps
are computed by `attnsearch.kernels`, with their own backward passes. Whatever else a model does is left to torch, and
so is all of it on other devices, in other dtypes and without gradients. Blocks stay written as their formulas; values
agree with torch's to rounding.

A gate reads its map twice: it pools x, then multiplies x. Here the pool also hands x through, and the product takes
that x, so that in the backward pass both gradients meet in one loop instead of in separate maps that are then added.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnsearch.host import add_relu, norm_relu


@cache
def available() -> bool:
    """Whether the kernels can be compiled here: nothing but speed, and rounding, depends on it."""
    try:
        importlib.import_module("attnsearch.kernels")
    except ImportError:  # Numba lags behind new versions of Python and NumPy
        return False
    except (
        RuntimeError
    ):  # it finds no folder that it may cache in; compiling in every process is not worth it
        return False
    return True


class Fast(TorchFunctionMode):
    """Computes what `attnsearch.kernels` can; enter it around the forward pass alone."""

    def __init__(self) -> None:
        super().__init__()
        self._relu = False  # a ReLU waits behind the norm that is about to be computed
        self._pooled: _Pooled | None = None  # the map that was pooled last

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        method = _HANDLED.get(func)
        if method is not None:
            done = method(self, *args, **(kwargs or {}))
            if done is not None:
                return done
        return func(*args, **(kwargs or {}))

    def __exit__(self, *error: Any) -> None:
        self._pooled = None
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def norm_relu(self, norm: nn.Module, x: Tensor) -> Tensor | None:
        if type(norm) is not nn.BatchNorm2d or not norm.training:
            return None
        self._relu = True
        with self:
            y: Tensor = norm(x)
        if self._relu:  # the norm was left to torch
            self._relu = False
            return torch.relu(y)
        return y

    def batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor | None:
        if not training or weight is None or bias is None or weight.dtype != torch.float32 or not _suits(x):
            return None
        if x.shape[0] * x.shape[2] * x.shape[3] < 2:
            return None
        relu, self._relu = self._relu, False
        y, mean, variance = _Norm.apply(x, weight, bias, eps, relu)  # type: ignore[no-untyped-call]
        if running_mean is not None and running_var is not None:
            count = x.numel() // x.shape[1]
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var), momentum)
        return y  # type: ignore[no-any-return]

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor | None:
        if not _suits(x) or not _suits(other) or x.shape != other.shape or x.dtype != other.dtype:
            return None
        return _AddRelu.apply(x, other)  # type: ignore[no-any-return, no-untyped-call]

    def mean(self, x: Tensor, dim: Any = None, keepdim: bool = False, **rest: Any) -> Tensor | None:
        return None if rest else self._pool(x, dim, keepdim, 0)

    def amax(self, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor | None:
        return self._pool(x, dim, keepdim, 1)

    def average_pool(self, x: Tensor, output_size: Any) -> Tensor | None:
        return self._pool(x, (2, 3), True, 0) if output_size in (1, (1, 1)) else None

    def multiply(self, x: Any, other: Any) -> Tensor | None:
        if not (isinstance(x, Tensor) and isinstance(other, Tensor)):
            return None
        if x.dim() != 4 or other.dim() != 4 or x.shape == other.shape or x.dtype != other.dtype:
            return None
        x, gate = (x, other) if x.numel() >= other.numel() else (other, x)
        batch, channels, height, width = x.shape
        if not _suits(x):
            return None
        if gate.shape == (batch, channels, 1, 1) or gate.shape == (batch, 1, height, width):
            if self._pooled is not None and self._pooled.of is x:
                x = self._pooled.through
            return _Scale.apply(x, gate)  # type: ignore[no-any-return, no-untyped-call]
        return None

    def conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        *rest: Any,
    ) -> Tensor | None:
        """A convolution of two maps to one, as in a spatial gate: torch's takes longer than the rest of the gate."""
        kernel = weight.shape[2]
        plain = (
            bias is None
            and stride == (1, 1)
            and padding == (kernel // 2, kernel // 2)
            and rest == ((1, 1), 1)
        )
        known = x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32) and weight.requires_grad
        if not (plain and known and type(x) is Tensor and torch.is_grad_enabled() and x.numel()):
            return None
        if weight.shape[:2] != (1, 2) or weight.shape[3] != kernel or weight.dtype != torch.float32:
            return None
        return _PlanesConv.apply(x, weight)  # type: ignore[no-any-return, no-untyped-call]

    def _pool(self, x: Tensor, dim: Any, keepdim: bool, which: int) -> Tensor | None:
        dims = _DIMS.get(dim if isinstance(dim, int) else tuple(dim) if dim is not None else None)
        if dims is None or not isinstance(x, Tensor) or not _suits(x):
            return None
        if self._pooled is None or self._pooled.of is not x:
            self._pooled = _Pooled(x)
        pooled = self._pooled.over(dims)[which]
        return pooled if keepdim else pooled.squeeze(dims)


class _Pooled:
    """A map, itself handed through the pools taken of it so far, and their results."""

    def __init__(self, x: Tensor) -> None:
        self.of = self.through = x
        self.results: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def over(self, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if dims not in self.results:
            self.through, *pools = _Pools.apply(self.through, dims == (2, 3))  # type: ignore[no-untyped-call]
            self.results[dims] = (pools[0], pools[1])
        return self.results[dims]


class _Norm(torch.autograd.Function):
    """Batch norm by the batch's own statistics, with or without a ReLU; also gives mean and variance (C,)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, ...]:
        from attnsearch import kernels

        channels, count = x.shape[1], x.numel() // x.shape[1]
        pivot = x[0, :, 0, 0].float()
        sums = torch.zeros(2, x.shape[3] * channels)
        kernels.norm_sums(_rows(x), _wide(pivot, x), sums[0].numpy(), sums[1].numpy())
        first, second = (sums.view(2, -1, channels).sum(1, dtype=torch.float64) / count).unbind()
        mean, variance = (first + pivot).float(), (second - first * first).clamp_(min=0).float()
        inverse = (variance + eps).rsqrt()
        scale = weight * inverse
        y = torch.empty_like(x)
        kernels.norm_apply(_rows(x), _wide(scale, x), _wide(bias - mean * scale, x), _rows(y), relu)
        ctx.save_for_backward(x, y if relu else x, mean, inverse, scale)
        ctx.relu = relu
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        from attnsearch import kernels

        x, y, mean, inverse, scale = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        channels, count = x.shape[1], x.numel() // x.shape[1]
        maps, middle = (_rows(g), _rows(x), _rows(y)), _wide(mean, x)
        sums = torch.zeros(2, x.shape[3] * channels)
        kernels.norm_back_sums(*maps, middle, sums[0].numpy(), sums[1].numpy(), ctx.relu)
        total, products = sums.view(2, -1, channels).sum(1)
        slope, offset = -scale * inverse**2 * products / count, -scale * total / count
        out = torch.empty_like(x)
        a, b, c = (_wide(v, x) for v in (scale, slope, offset))
        kernels.norm_back(*maps, middle, a, b, c, _rows(out), ctx.relu)
        return out, products * inverse, total, None, None


class _AddRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> Tensor:
        from attnsearch import kernels

        y = torch.empty_like(x)
        kernels.add_relu(_rows(x), _rows(other), _rows(y))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        g = torch.ops.aten.threshold_backward(g, y, 0)
        return g, g


class _Pools(torch.autograd.Function):
    """x itself, and its means and maxima over places (B, C, 1, 1) or over channels (B, 1, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: bool) -> tuple[Tensor, Tensor, Tensor]:
        from attnsearch import kernels

        batch, channels, height, width = x.shape
        shape = (batch, channels, 1, 1) if places else (batch, 1, height, width)
        mean, largest = torch.empty(shape), torch.empty(shape)
        if places:
            kernels.place_pools(_images(x), _flat(mean, places), _flat(largest, places))
        else:
            kernels.channel_pools(_pixels(x), _flat(mean, places), _flat(largest, places))
        ctx.save_for_backward(x, largest)
        ctx.places = places
        ctx.set_materialize_grads(False)
        return x.view_as(x), mean.to(x.dtype), largest.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor | None, *pools: Tensor | None) -> tuple[Tensor, None]:
        from attnsearch import kernels

        x, largest = ctx.saved_tensors
        g = torch.zeros_like(x) if g is None else g.contiguous(memory_format=torch.channels_last)
        g_mean, g_largest = (
            torch.zeros_like(largest) if p is None else p.float().contiguous() for p in pools
        )
        out = torch.empty_like(x)
        small = [_flat(t, ctx.places) for t in (largest, g_mean, g_largest)]
        if ctx.places:
            kernels.place_pools_back(_images(x), small[0], _images(g), small[1], small[2], _images(out))
        else:
            kernels.channel_pools_back(_pixels(x), small[0], _pixels(g), small[1], small[2], _pixels(out))
        return out, None


class _Scale(torch.autograd.Function):
    """x * gate, the gate (B, C, 1, 1) or (B, 1, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        from attnsearch import kernels

        places = gate.shape[1] == x.shape[1] and gate.shape[2:] == (1, 1)
        wide = gate.float().contiguous()
        y = torch.empty_like(x)
        if places:
            kernels.scale_channels(_images(x), _flat(wide, True), _images(y))
        else:
            kernels.scale_places(_pixels(x), _flat(wide, False), _pixels(y))
        ctx.save_for_backward(x, wide)
        ctx.places, ctx.dtype = places, gate.dtype
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        from attnsearch import kernels

        x, gate = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        out, g_gate = torch.empty_like(x), torch.empty_like(gate)
        small = _flat(gate, ctx.places), _flat(g_gate, ctx.places)
        if ctx.places:
            kernels.scale_channels_back(_images(g), _images(x), small[0], _images(out), small[1])
        else:
            kernels.scale_places_back(_pixels(g), _pixels(x), small[0], _pixels(out), small[1])
        return out, g_gate.to(ctx.dtype)


class _PlanesConv(torch.autograd.Function):
    """A convolution of few maps to one, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        from attnsearch import kernels

        maps = x.float().contiguous()
        out = torch.empty(len(x), 1, *x.shape[2:])
        kernels.planes_conv(maps.numpy(), weight[0].detach().contiguous().numpy(), out[:, 0].numpy())
        ctx.save_for_backward(maps, weight)
        return out.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        from attnsearch import kernels

        maps, weight = ctx.saved_tensors
        g_x, g_weight = torch.empty_like(maps), torch.zeros(weight.shape)
        arrays = g[:, 0].float().contiguous(), maps, weight[0].contiguous(), g_x, g_weight[0]
        kernels.planes_conv_back(*(t.detach().numpy() for t in arrays))
        return g_x.to(g.dtype), g_weight


def _suits(x: Tensor) -> bool:
    """Whether the kernels know this map, and its gradient is wanted."""
    return (
        type(x) is Tensor
        and x.dim() == 4
        and x.device.type == "cpu"
        and x.dtype in (torch.bfloat16, torch.float32)
        and x.requires_grad
        and torch.is_grad_enabled()
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > 0
    )


def _array(x: Tensor, *shape: int) -> Any:
    flat = x.detach().permute(0, 2, 3, 1).reshape(shape)
    return flat.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else flat.numpy()


def _rows(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch * height, width * channels)


def _images(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch, height, width * channels)


def _pixels(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch * height * width, channels)


def _flat(pooled: Tensor, places: bool) -> Any:
    """(B, C, 1, 1) -> (B, C), and (B, 1, H, W) -> (B H W,)."""
    return pooled.detach().view(pooled.shape[:2] if places else -1).numpy()


def _wide(values: Tensor, x: Tensor) -> Any:
    """One number a channel, repeated for each pixel of a row."""
    return values.float().repeat(x.shape[3]).numpy()


_DIMS = {1: (1,), (1,): (1,), (2, 3): (2, 3), (-2, -1): (2, 3)}
_HANDLED: dict[Any, Callable[..., Tensor | None]] = {
    norm_relu: Fast.norm_relu,
    add_relu: Fast.add_relu,
    F.batch_norm: Fast.batch_norm,
    Tensor.mean: Fast.mean,
    Tensor.amax: Fast.amax,
    Tensor.mul: Fast.multiply,
    F.conv2d: Fast.conv,
    F.adaptive_avg_pool2d: Fast.average_pool,
}
