"""Training passes on one CPU thread without needless trips to memory: `with Fast(): model(x)`.

The mode stands between a model and torch. Batch norms, additions, pools and broadcast products over channels-last maps
are computed by `attnsearch.kernels`, with their own backward passes; in validation too. Whatever else a model does is
left to torch, and so is all of it on other devices and in other dtypes. Blocks stay written as their formulas; values
agree with torch's to rounding.

Some maps are read twice. A gate pools x, then multiplies x: here the pool also hands x through, and the product takes
that x, so that in the backward pass both gradients meet in one loop instead of in separate maps that are then added. A
residual unit's input goes to its branch and to its addition: the loop that activates it gives it out twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnsearch.host import add_relu, norm_add_relu, norm_relu


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
    """Computes what `attnsearch.kernels` can; enter a new one around each forward pass alone: it holds maps."""

    def __init__(self) -> None:
        super().__init__()
        self._after: _After | None = None  # what waits behind the norm that is about to be computed
        self._pooled: _Pooled | None = None  # the map that was pooled last
        self._twins: dict[int, _Twin] = {}  # of the activated maps, by their id

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

    def norm_relu(self, norm: nn.Module, x: Tensor) -> Tensor | None:
        return self._normed(norm, x, _After(None))

    def norm_add_relu(self, norm: nn.Module, x: Tensor, other: Tensor) -> Tensor | None:
        if not _alike(x, other):
            return None
        return self._normed(norm, x, _After(self._other(other)))

    def _normed(self, norm: nn.Module, x: Tensor, after: _After) -> Tensor | None:
        if type(norm) is not nn.BatchNorm2d:
            return None
        self._after = after
        with self:
            y: Tensor = norm(x)
        if self._after is not None:  # the norm was left to torch
            self._after = None
            return torch.relu(y if after.other is None else y + after.other)
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
        known = (running_mean, running_var, weight, bias)
        if not _suits(x) or any(t is None or t.dtype != torch.float32 for t in known):
            return None
        after = self._after or _After(None, relu=False)
        if not training:
            if torch.is_grad_enabled():
                return None
            self._after = None
            return _scaled_shifted(x, *known, eps, after)  # type: ignore[arg-type]
        if x.shape[0] * x.shape[2] * x.shape[3] < 2:
            return None
        self._after = None
        y, twin = _Norm.apply(
            x, weight, bias, (running_mean, running_var), momentum, eps, after.relu, after.other
        )  # type: ignore[no-untyped-call]
        if after.relu:
            self._twins[id(y)] = _Twin(y, twin)
        return y  # type: ignore[no-any-return]

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor | None:
        if type(x) is Tensor and x.dim() == 4 and _suits(other):
            x = x.contiguous(memory_format=torch.channels_last)  # a gate may have left it in another order
        if not _alike(x, other):
            return None
        y, twin = _AddRelu.apply(x, self._other(other))  # type: ignore[no-untyped-call]
        if y.requires_grad:
            self._twins[id(y)] = _Twin(y, twin)
        return y  # type: ignore[no-any-return]

    def _other(self, x: Tensor) -> Tensor:
        """A shortcut's map: its twin, if it has one and was not changed in place since."""
        twin = self._twins.get(id(x))
        return twin.second if twin is not None and x._version == twin.version else x

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
        """What torch's convolution takes far longer over than the arithmetic is worth."""
        if weight.shape[1] == 1 < weight.shape[0] == x.shape[1]:
            return self._line_conv(x, weight, bias, stride, padding, *rest)
        return self._planes_conv(x, weight, bias, stride, padding, *rest)

    def _line_conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        """A depthwise convolution along one axis: oneDNN's gradients are quick for undilated columns alone.

        A row is turned into a column. Every d-th line of a dilated column stands beside its neighbours if d lines are
        taken for one of d times the width, which in channels-last order moves nothing.
        """
        kernel, row = weight.shape[2:], weight.shape[2] == 1
        taps, step = (kernel[1], dilation[1]) if row else (kernel[0], dilation[0])
        same = tuple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True))
        line = 1 in kernel and taps % 2 == 1 and (step > 1 or (row and taps > 3))
        if not (line and _suits(x) and stride == (1, 1) and padding == same and groups == len(weight)):
            return None
        if x.shape[3 if row else 2] % step:
            return None
        if row:
            x, weight = (
                x.transpose(2, 3).contiguous(memory_format=torch.channels_last),
                weight.transpose(2, 3),
            )
        lines = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        wide = lines.reshape(len(x), lines.shape[1] // step, step * lines.shape[2], -1).permute(0, 3, 1, 2)
        height = wide.shape[2]
        if taps > height:  # nor are they where the kernel is longer than the column
            wide = F.pad(wide, (0, 0, 0, taps - height))
        y = torch.conv2d(wide, weight, bias, 1, (taps // 2, 0), 1, groups)[:, :, :height]
        y = y.permute(0, 2, 3, 1).reshape(lines.shape).permute(0, 3, 1, 2)
        return y.transpose(2, 3).contiguous(memory_format=torch.channels_last) if row else y

    def _planes_conv(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, *rest: Any
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
            self.through, *pools = _Pools.apply(self.through, dims)  # type: ignore[no-untyped-call]
            self.results[dims] = (pools[0], pools[1])
        return self.results[dims]


@dataclass(frozen=True)
class _After:
    """What follows a norm: an addition, or not, and a ReLU, or not."""

    other: Tensor | None
    relu: bool = True


class _Twin:
    """A residual unit's input, twice: its gradients by the branch and by the shortcut meet in one loop."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second, self.version = first, second, first._version


class _Norm(torch.autograd.Function):
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
        from attnsearch import kernels

        y = torch.empty_like(x)
        small = weight.detach().numpy(), bias.detach().numpy(), tuple(t.numpy() for t in running)
        ctx.stats = kernels.norm(_rows(x), *small, momentum, eps, relu, _optional(other), _rows(y))
        ctx.relu, ctx.added = relu, other is not None
        ctx.save_for_backward(x, *([y] if ctx.added else []))
        ctx.set_materialize_grads(False)
        return y, y.view_as(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from attnsearch import kernels

        x, *y = ctx.saved_tensors
        g, more = _both(gradients)
        out, d = torch.empty_like(x), torch.empty_like(x) if ctx.added else None
        sums = _rows(g), _optional(more), _rows(x), _optional(y[0] if y else None)
        parameters = torch.from_numpy(kernels.norm_back(*sums, ctx.stats, ctx.relu, _optional(d), _rows(out)))
        return out, parameters[0], parameters[1], None, None, None, None, d


def _both(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor | None]:
    """Gradients of a map and of its twin, of which one may be missing, in the maps' own order."""
    g, *more = (g.contiguous(memory_format=torch.channels_last) for g in gradients if g is not None)
    return g, more[0] if more else None


def _scaled_shifted(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float, after: _After
) -> Tensor:
    """The norm by running statistics, without gradients."""
    from attnsearch import kernels

    scale = weight * (variance + eps).rsqrt()
    shift = bias - mean * scale
    y = torch.empty_like(x)
    kernels.scale_shift(_rows(x), scale.numpy(), shift.numpy(), after.relu, _optional(after.other), _rows(y))
    return y


class _AddRelu(torch.autograd.Function):
    """relu(x + other), twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        from attnsearch import kernels

        y = torch.empty_like(x)
        kernels.add_relu(_rows(x), _rows(other), _rows(y))
        ctx.save_for_backward(y)
        ctx.set_materialize_grads(False)
        return y, y.view_as(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        from attnsearch import kernels

        (y,) = ctx.saved_tensors
        g, more = _both(gradients)
        out = torch.empty_like(y)
        kernels.add_relu_back(_rows(g), _optional(more), _rows(y), _rows(out))
        return out, out


class _Pools(torch.autograd.Function):
    """x itself, and its means and maxima over `dims`: places (B, C, 1, 1), channels (B, 1, H, W), or one axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, ...]:
        batch, *sizes = x.permute(0, 2, 3, 1).shape
        kept = [1 if axis in dims else size for axis, size in zip((2, 3, 1), sizes, strict=True)]
        mean, largest = (torch.empty(batch, *kept) for _ in range(2))  # in the memory order of the maps
        pool, _, view, shape = _pooling(x, dims)
        pool(view(x), mean.view(shape).numpy(), largest.view(shape).numpy())
        ctx.save_for_backward(x, largest)
        ctx.dims = dims
        ctx.set_materialize_grads(False)
        return x.view_as(x), *(pooled.permute(0, 3, 1, 2).to(x.dtype) for pooled in (mean, largest))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor | None, *pools: Tensor | None) -> tuple[Tensor, None]:
        x, largest = ctx.saved_tensors
        _, pool_back, view, shape = _pooling(x, ctx.dims)
        g = torch.zeros_like(x) if g is None else g.contiguous(memory_format=torch.channels_last)
        small = [
            torch.zeros_like(largest) if p is None else p.permute(0, 2, 3, 1).float().contiguous()
            for p in pools
        ]
        out = torch.empty_like(x)
        arrays = [t.view(shape).numpy() for t in (largest, *small)]
        pool_back(view(x), arrays[0], view(g), arrays[1], arrays[2], view(out))
        return out, None


def _pooling(x: Tensor, dims: tuple[int, ...]) -> tuple[Any, Any, Callable[[Tensor], Any], tuple[int, ...]]:
    """Both kernels over these axes, the shape in which they know a map, and that in which they know its pools."""
    from attnsearch import kernels

    batch, channels, height, width = x.shape
    if dims == (1,):
        return kernels.channel_pools, kernels.channel_pools_back, _pixels, (-1,)
    if dims == (2, 3):
        return kernels.place_pools, kernels.place_pools_back, _images, (batch, channels)
    if dims == (2,):
        return kernels.line_pools, kernels.line_pools_back, _images, (batch, width * channels)
    return kernels.line_pools, kernels.line_pools_back, _lines, (batch * height, channels)


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


def _array(x: Tensor, *shape: int) -> Any:
    flat = x.detach().permute(0, 2, 3, 1).reshape(shape)
    return flat.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else flat.numpy()


def _rows(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch * height, width * channels)


def _optional(x: Tensor | None) -> Any:
    return None if x is None else _rows(x)


def _images(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch, height, width * channels)


def _lines(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch * height, width, channels)


def _pixels(x: Tensor) -> Any:
    batch, channels, height, width = x.shape
    return _array(x, batch * height * width, channels)


def _flat(pooled: Tensor, places: bool) -> Any:
    """(B, C, 1, 1) -> (B, C), and (B, 1, H, W) -> (B H W,)."""
    return pooled.detach().view(pooled.shape[:2] if places else -1).numpy()


_DIMS = {1: (1,), 2: (2,), 3: (3,), (1,): (1,), (2,): (2,), (3,): (3,), (2, 3): (2, 3), (-2, -1): (2, 3)}
_HANDLED: dict[Any, Callable[..., Tensor | None]] = {
    norm_relu: Fast.norm_relu,
    norm_add_relu: Fast.norm_add_relu,
    add_relu: Fast.add_relu,
    F.batch_norm: Fast.batch_norm,
    Tensor.mean: Fast.mean,
    Tensor.amax: Fast.amax,
    Tensor.mul: Fast.multiply,
    F.conv2d: Fast.conv,
    F.adaptive_avg_pool2d: Fast.average_pool,
}
