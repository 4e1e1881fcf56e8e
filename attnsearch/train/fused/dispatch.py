"""What `Fast` takes over from torch, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from attnsearch.build.ops import add_relu, gated, norm_add_relu, norm_relu
from attnsearch.train.fused.gates import Gates, Product, Shared
from attnsearch.train.fused.passes import AddRelu, Norm, PlanesConv, Sampled, scaled_shifted


class Fast(TorchFunctionMode):
    """Computes what the kernels can; enter a new one around each forward pass alone: it holds maps.

    A residual unit's input is read twice, by its branch and by its addition. The loop that activates it gives it out
    twice, so that both gradients meet in one loop instead of in a map of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._after: _After | None = None  # what waits behind the norm that is about to be computed
        self._depth = 0  # of entries: a method enters again to see what a module calls
        self._deferring = False  # whether products may be deferred
        self._shared: Shared | None = None  # the map that was pooled or gated last
        self._products: MutableMapping[Tensor, Product] = WeakIdKeyDictionary()  # by the unallocated tensor
        self._shortcut_views: dict[int, _ShortcutView] = {}  # of the activated maps, by their id

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        method = _HANDLED.get(func)
        if func not in _WAITING:
            self._materialize((args, kwargs or ()))
        if method is not None:
            done = method(self, *args, **(kwargs or {}))
            if done is not None:
                return done
            self._materialize((args, kwargs or ()))
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> Fast:
        self._depth += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if not self._depth:
            for y, product in self._products.items():  # such as what the model gives out
                product.materialize(y)

    def _materialize(self, values: Any) -> None:
        """Compute the products among these, and those of a map or gate among these: it might be changed in place."""
        if not self._products:
            return
        if isinstance(values, Tensor):
            for y, product in self._products.items():
                if values is y or product.computed_from(values):
                    product.materialize(y)
        elif isinstance(values, Mapping):
            self._materialize(tuple(values.values()))
        elif isinstance(values, tuple | list):
            for value in values:
                self._materialize(value)

    def _materialize_one(self, x: Tensor) -> None:
        """Compute what this tensor stands for, if it is one that waits."""
        product = self._products.get(x)
        if product is not None:
            product.materialize(x)

    def gated(self, gate: nn.Module, x: Tensor) -> Tensor:
        """Defer products inside a block whose every operation is seen here.

        One from elsewhere may call what torch cannot override, such as a scripted function, on an unallocated tensor.
        """
        self._deferring = all(type(part).__module__.startswith(OURS) for part in gate.modules())
        try:
            with self:
                return gate(x)  # type: ignore[no-any-return]
        finally:
            self._deferring = False

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
            return scaled_shifted(x, *known, eps, after.relu, after.other)  # type: ignore[arg-type]
        if x.shape[0] * x.shape[2] * x.shape[3] < 2:
            return None
        self._after = None
        y, view = Norm.apply(
            x, weight, bias, (running_mean, running_var), momentum, eps, after.relu, after.other
        )  # type: ignore[no-untyped-call]
        if after.relu:
            self._shortcut_views[id(y)] = _ShortcutView(y, view)
        return y  # type: ignore[no-any-return]

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor | None:
        self._materialize_one(other)
        product = self._products.get(x)
        if product is not None and not product.materialized and _alike(x, other):
            return self._activated(*product.add_relu(self._other(other)))
        if type(x) is Tensor and x.dim() == 4 and _suits(other):
            x = x.contiguous(memory_format=torch.channels_last)  # a gate may have left it in another order
        if not _alike(x, other):
            return None
        return self._activated(*AddRelu.apply(x, self._other(other)))  # type: ignore[no-untyped-call]

    def _activated(self, y: Tensor, view: Tensor) -> Tensor:
        if y.requires_grad:
            self._shortcut_views[id(y)] = _ShortcutView(y, view)
        return y

    def _other(self, x: Tensor) -> Tensor:
        """A shortcut's map: the shortcut view, if it has one and was not changed in place since."""
        view = self._shortcut_views.get(id(x))
        return view.second if view is not None and x._version == view.version else x

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
        if gate.shape == (batch, channels, 1, 1):
            gates = Gates(x, by_channel=gate)
        elif gate.shape == (batch, 1, height, width):
            gates = Gates(x, by_place=gate)
        else:
            return None
        self._materialize_one(gate)
        waiting = self._products.get(x)
        product = waiting.times(gates) if waiting is not None else None
        if product is None:
            self._materialize_one(x)
            product = Product(self._share(x), gates)
        y = product.unallocated()
        self._products[y] = product
        if not self._deferring:
            product.materialize(y)
        return y

    def _share(self, x: Tensor) -> Shared:
        if self._shared is None or self._shared.of is not x:
            self._shared = Shared(x)
        return self._shared

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
        if weight.shape[2:] == (1, 1) and bias is None:
            return self._sparse_conv(x, weight, stride, padding, *rest)
        if weight.shape[1] == 1 < weight.shape[0] == x.shape[1]:
            return self._line_conv(x, weight, bias, stride, padding, *rest)
        return self._planes_conv(x, weight, bias, stride, padding, *rest)

    def _sparse_conv(
        self, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any = 1, groups: int = 1
    ) -> Tensor | None:
        """A shortcut's convolution, which reads one pixel of four: oneDNN computes the gradient of the other three."""
        if stride in (1, (1, 1)) or padding not in (0, (0, 0)) or groups != 1 or not _suits(x):
            return None
        down, right = (stride, stride) if isinstance(stride, int) else stride
        return torch.conv2d(Sampled.apply(self._other(x), down, right), weight)  # type: ignore[no-untyped-call]

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
        return PlanesConv.apply(x, weight)  # type: ignore[no-any-return, no-untyped-call]

    def _pool(self, x: Tensor, dim: Any, keepdim: bool, which: int) -> Tensor | None:
        dims = _DIMS.get(dim if isinstance(dim, int) else tuple(dim) if dim is not None else None)
        if dims is None or not isinstance(x, Tensor) or not _suits(x):
            return None
        product = self._products.get(x)
        pools = product.channel_pools() if product is not None and dims == (1,) else None
        if pools is None:
            self._materialize_one(x)
            pools = self._share(x).pooled(dims)
        return pools[which] if keepdim else pools[which].squeeze(dims)


@dataclass(frozen=True)
class _After:
    """What follows a norm: an addition, or not, and a ReLU, or not."""

    other: Tensor | None
    relu: bool = True


class _ShortcutView:
    """A residual unit's input, twice: its gradients by the branch and by the shortcut meet in one loop."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second, self.version = first, second, first._version


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


_DIMS = {1: (1,), 2: (2,), 3: (3,), (1,): (1,), (2,): (2,), (3,): (3,), (2, 3): (2, 3), (-2, -1): (2, 3)}
OURS = ("attnsearch.", "torch.nn.")  # modules whose classes call nothing that torch cannot override
_HANDLED: dict[Any, Callable[..., Tensor | None]] = {
    gated: Fast.gated,
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
# These know what a product is whose values are not computed yet.
_WAITING = {gated, Tensor.mul, Tensor.mean, Tensor.amax, F.adaptive_avg_pool2d, add_relu}
