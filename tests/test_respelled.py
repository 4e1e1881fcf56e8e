"""Every block in other words: what it calls is replaced by another spelling, and its cost must not move."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnsearch import create_block, create_neck
from attnsearch.blocks import registry
from attnsearch.cost.measure import measure


def mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Move what is averaged to the end, flatten it, average."""
    dims = [d % x.dim() for d in (range(x.dim()) if dim is None else [dim] if isinstance(dim, int) else dim)]
    moved = x.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims)).mean(-1)
    return moved.reshape([1 if d in dims else n for d, n in enumerate(x.shape)]) if keepdim else moved


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    sizes = (output_size,) * 2 if isinstance(output_size, int) else output_size
    dims = [d for d, size in zip((-2, -1), sizes, strict=True) if size == 1]
    if len(dims) < 2 and any(size not in (1, None, n) for size, n in zip(sizes, x.shape[-2:], strict=True)):
        return NotImplemented
    return x.sum(dims, keepdim=True) if not dims else x.mean(dims, keepdim=True)


def adaptive_max_pool2d(x: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    return x.amax((-2, -1), keepdim=True) if output_size in (1, (1, 1)) else NotImplemented


def pool_whole_map(x: Tensor, kernel_size: Any, *_: Any, **__: Any) -> Tensor:
    whole = tuple(x.shape[-2:])
    return x.mean((-2, -1), keepdim=True) if kernel_size in (whole, x.shape[-2:]) else NotImplemented


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    maps = x.reshape(-1, x.shape[-1], 1, 1)
    return F.conv2d(maps, weight[:, :, None, None], bias).reshape(*x.shape[:-1], len(weight))


def conv2d(x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, *rest: Any) -> Tensor:
    one_by_one = weight.shape[2:] == (1, 1) and weight.shape[1] == x.shape[1] and stride in (1, (1, 1))
    if not one_by_one or x.shape[1] == 1:  # einsum over one channel has nothing to add: it multiplies only
        return NotImplemented
    out = torch.einsum("oc,bchw->bohw", weight.flatten(1), x)
    return out if bias is None else out + bias[:, None, None]


def softmax(x: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
    e = (x - x.amax(dim, keepdim=True)).exp()
    return e / e.sum(dim, keepdim=True)


def matmul(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("...ij,...jk->...ik", x, y) if x.dim() == y.dim() > 2 else NotImplemented


def multiply(x: Any, y: Any) -> Tensor:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        return NotImplemented
    x, y = torch.broadcast_tensors(x, y)
    return torch.mul(y, x)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


def spelled(function: Callable[..., Any], *names: Any) -> dict[Any, Callable[..., Any]]:
    return dict.fromkeys(names, function)


OTHER_WORDS = {
    **spelled(mean, torch.mean, Tensor.mean),
    **spelled(adaptive_avg_pool2d, F.adaptive_avg_pool2d),
    **spelled(adaptive_max_pool2d, F.adaptive_max_pool2d),
    **spelled(pool_whole_map, F.avg_pool2d),
    **spelled(linear, F.linear),
    **spelled(conv2d, F.conv2d),
    **spelled(softmax, torch.softmax, Tensor.softmax, F.softmax),
    **spelled(matmul, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm),
    **spelled(multiply, torch.mul, Tensor.mul, Tensor.__mul__),
    **spelled(attention, F.scaled_dot_product_attention),
    **spelled(torch.special.expit, torch.sigmoid, Tensor.sigmoid, F.sigmoid),
    **spelled(lambda x, inplace=False: x.clamp(min=0), torch.relu, Tensor.relu, F.relu),
    **spelled(lambda x, inplace=False: x * F.relu6(x + 3) / 6, F.hardswish),
    **spelled(lambda x, inplace=False: F.relu6(x + 3) / 6, F.hardsigmoid),
    **spelled(lambda x, inplace=False: x * x.sigmoid(), F.silu),
    **spelled(lambda x, start=0, end=-1: x.reshape(*_flat(x, start, end)), torch.flatten, Tensor.flatten),
}


def _flat(x: Tensor, start: int, end: int) -> list[int]:
    start, end = start % x.dim(), end % x.dim()
    return [*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]]


class Respell(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.changed: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        other = OTHER_WORDS.get(func)
        out = NotImplemented if other is None else other(*args, **(kwargs or {}))
        if out is NotImplemented:
            return func(*args, **(kwargs or {}))
        self.changed[func.__name__] += 1
        return out


class InOtherWords(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.changed: Counter[str] = Counter()

    def forward(self, x: Any) -> Tensor:
        with Respell() as mode:
            out: Tensor = self.block(x)
        self.changed = mode.changed
        return out


MAPS = [(16, 8, 8), (32, 4, 4), (64, 2, 2)]
BLOCKS = [(name, facts.slot) for name, facts in registry.blocks().items()]


@pytest.mark.parametrize(("name", "slot"), BLOCKS)
@torch.no_grad()
def test_a_block_in_other_words_costs_the_same(name: str, slot: str) -> None:
    neck = slot == "neck"
    torch.manual_seed(0)
    block = (create_neck(name, [c for c, *_ in MAPS]) if neck else create_block(name, 64)).eval().double()
    image: Any = MAPS if neck else (64, 14, 14)
    x: Any = [torch.randn(2, *shape).double() for shape in MAPS] if neck else torch.randn(2, *image).double()
    other = InOtherWords(block)
    torch.testing.assert_close(other(x), block(x))  # they are the same function
    assert other.changed, "no call of this block has another spelling here: add one"
    said, respelled = measure(block, image), measure(other, image)
    assert (respelled.macs, respelled.flops) == (said.macs, said.flops), other.changed
