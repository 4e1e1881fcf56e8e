"""What a network costs: counted from its operations, or measured on a device.

    measure(model, image)      parameters, MACs, FLOPs, activations, bytes: exact, in milliseconds
    count_block(name, ...)     the same for one block at one map size
    latency(model, image)      median time of a forward pass, with its quartiles
    peak_memory(model, image)  of a forward pass or a training step

Counts are taken for a batch of 1 in eval mode, on a weightless copy of the model; the model itself is only
read. The rules stand in `attnsearch.counting`.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch import registry
from attnsearch.counting import AttentionFunctions, OperationCounter, Tally
from attnsearch.errors import CostError
from attnsearch.registry import Value

Shape = tuple[int, ...]
Image = Sequence[int] | Sequence[Sequence[int]]  # one shape without the batch, or one per map of a list


@dataclass(frozen=True)
class Share:
    """The part of the total that falls to one block of the network."""

    block: str
    params: int
    macs: int
    flops: int
    bytes_moved: int


@dataclass(frozen=True)
class Cost:
    """Counts of one forward pass of one image in eval mode.

    Args:
        params: elements of all parameters.
        macs: multiply-adds of convolutions and matrix products (linear, matmul, einsum, attention).
        flops: 2 x macs + element-wise work, by the rules of `attnsearch.counting`.
        activations: output elements of convolutions and matrix products (fvcore's definition).
        bytes_moved: bytes that all operations read and write in the tensors' types, each operation for
            itself, as eager PyTorch moves them when no cache helps. An expanded dimension is read once;
            indices are left out.
        uncounted: operations without arithmetic (copies, padding, tensors made), with their number of calls.
        by_block: for each registered block in the network, by path, its share. Blocks inside blocks are part
            of the outer one.
    """

    params: int
    macs: int
    flops: int
    activations: int
    bytes_moved: int
    uncounted: Mapping[str, int] = field(default_factory=dict)
    by_block: Mapping[str, Share] = field(default_factory=dict)
    _traced: Traced | None = field(default=None, repr=False, compare=False)

    @property
    def fvcore(self) -> int:
        """The total of fvcore itself, `FlopCountAnalysis.total()`; traced on first use (0.1 to 2 s)."""
        return self._fvcore()[0]

    @property
    def fvcore_uncounted(self) -> Mapping[str, int]:
        """Operations that fvcore's total leaves out, with their number of calls."""
        return self._fvcore()[1]

    def as_dict(self, *, fvcore: bool = False) -> dict[str, int]:
        """The plain numbers by the names of `attnsearch.units.COSTS`."""
        names = ("params", "macs", "flops", "activations", "bytes_moved", *(("fvcore",) if fvcore else ()))
        return {name: getattr(self, name) for name in names}

    def _fvcore(self) -> tuple[int, Mapping[str, int]]:
        if self._traced is None:
            raise CostError("fvcore's total belongs to a measured network, not to a sum of costs")
        return self._traced.result()

    def __add__(self, other: Cost) -> Cost:
        return _combine(self, other, 1)

    def __sub__(self, other: Cost) -> Cost:
        return _combine(self, other, -1)


def measure(model: nn.Module, image: Image = (3, 224, 224)) -> Cost:
    """Count one forward pass of `model`.

    Args:
        model: on any device, the meta device included. It is left as it was found: flags, buffers, gradients,
            hooks.
        image: shape without the batch, (C, H, W) or (C, D, H, W), or a list of shapes for a neck that takes
            a list.

    Raises:
        CostError: the model holds an operation that no rule covers, or does not run on this shape.
    """
    ghost = _ghost(model)
    try:
        counter = _count(ghost, image, torch.device("meta"))
    except (
        RuntimeError,
        NotImplementedError,
        TypeError,
        ValueError,
    ):  # values decide: only a real pass can tell
        ghost = copy.deepcopy(model).eval()
        counter = _count_for_real(ghost, image)
    if counter.unknown:
        raise CostError(_unknown(counter.unknown))
    total = counter.total
    return Cost(
        params=_params(model),
        macs=total.macs,
        flops=2 * total.macs + total.elementwise,
        activations=total.activations,
        bytes_moved=total.bytes_moved,
        uncounted=dict(sorted(counter.negligible.items())),
        by_block={path: _share(ghost.get_submodule(path), work) for path, work in counter.by_path.items()},
        _traced=Traced(ghost, image),
    )


def count_block(
    name: str,
    channels: int | Sequence[int],
    height: int,
    width: int,
    options: Mapping[str, Value] | None = None,
) -> Cost:
    """Cost of one block on a map of (channels, height, width); remembered, so a table may ask often.

    A neck takes the channels of each map, shallow to deep; `height` and `width` are the shallowest map's,
    each next map has half of them.
    """
    said = tuple(sorted((key, tuple(v) if isinstance(v, list) else v) for key, v in (options or {}).items()))
    return _count_block(name, channels if isinstance(channels, int) else tuple(channels), height, width, said)


@cache
def _count_block(
    name: str, channels: int | Shape, height: int, width: int, options: tuple[tuple[str, Value], ...]
) -> Cost:
    registry.check_options(registry.info(name), dict(options))
    with torch.device("meta"):
        block = registry.load(name)(channels, **dict(options))
    if isinstance(channels, int):
        return measure(block, (channels, height, width))
    return measure(block, [(c, height >> i, width >> i) for i, c in enumerate(channels)])


# ----------------------------------------------------------------------------- counting


def _ghost(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose tensors have shapes and no values: tens of times quicker than a true copy."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                if nn.parameter.is_lazy(tensor):
                    raise CostError("the model has lazy parameters: run it once on an image, then measure")
                memo[id(tensor)] = _ghost_tensor(tensor)
    return copy.deepcopy(model, memo).eval()


def _ghost_tensor(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _count(model: nn.Module, image: Image, device: torch.device) -> OperationCounter:
    inputs = _inputs(model, image, device)
    counter = OperationCounter()
    with torch.no_grad(), _watch_blocks(model, counter), _spelled_out(), AttentionFunctions(counter), counter:
        model(inputs)
    return counter


def _count_for_real(model: nn.Module, image: Image) -> OperationCounter:
    device = next((tensor.device for tensor in _state(model)), torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            return _count(model, image, device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CostError(f"the model does not run on an image of shape {image!r}: {error}") from error


@contextmanager
def _watch_blocks(model: nn.Module, counter: OperationCounter) -> Iterator[None]:
    """Tell the counter which outermost registered block runs."""
    handles = []
    for path, module in _outermost_blocks(model):
        enter = lambda *_, path=path: counter.inside.append(path)  # noqa: E731
        leave = lambda *_: counter.inside.pop()  # noqa: E731
        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _outermost_blocks(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        below = f"{path}.{name}" if path else name
        if hasattr(type(child), "block_name"):
            yield below, child
        else:
            yield from _outermost_blocks(child, below)


@contextmanager
def _spelled_out() -> Iterator[None]:
    """Keep `nn.MultiheadAttention` from its fused kernel, which no counter can look into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _inputs(model: nn.Module, image: Image, device: torch.device, batch: int = 1) -> Any:
    dtype = next((t.dtype for t in _state(model) if t.is_floating_point()), torch.get_default_dtype())
    shapes = _shapes(image)
    maps = [torch.zeros((batch, *shape), dtype=dtype, device=device) for shape in shapes]
    return maps if _is_list(image) else maps[0]


def _shapes(image: Image) -> list[Shape]:
    shapes = [tuple(n) if isinstance(n, Sequence) else n for n in (image if _is_list(image) else [image])]
    for shape in shapes:
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise CostError(f"a shape is whole numbers above 0, such as (3, 224, 224); got {image!r}")
    return shapes  # type: ignore[return-value]


def _is_list(image: Image) -> bool:
    return len(image) > 0 and isinstance(image[0], Sequence)


def _state(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _share(block: nn.Module, work: Tally) -> Share:
    name = str(type(block).block_name)  # type: ignore[attr-defined]
    return Share(name, _params(block), work.macs, 2 * work.macs + work.elementwise, work.bytes_moved)


def _unknown(found: Mapping[str, int]) -> str:
    names = ", ".join(f"{name} ({calls} calls)" for name, calls in sorted(found.items()))
    return (
        f"no rule says what this work costs: {names}. Write it with counted operations, or give it a rule: "
        "attnsearch.counting.ELEMENTWISE['name'] = lambda args, out: operations"
    )


def _combine(left: Cost, right: Cost, sign: int) -> Cost:
    calls = {
        name: left.uncounted.get(name, 0) + sign * right.uncounted.get(name, 0)
        for name in sorted({*left.uncounted, *right.uncounted})
    }
    return Cost(
        params=left.params + sign * right.params,
        macs=left.macs + sign * right.macs,
        flops=left.flops + sign * right.flops,
        activations=left.activations + sign * right.activations,
        bytes_moved=left.bytes_moved + sign * right.bytes_moved,
        uncounted={name: n for name, n in calls.items() if n},
    )


class Traced:
    """fvcore's count of a weightless network, taken when first asked for; the network is let go with it."""

    def __init__(self, model: nn.Module, image: Image) -> None:
        self._trace: Callable[[], tuple[int, dict[str, int]]] | None = lambda: _fvcore(model, image)
        self._result: tuple[int, dict[str, int]] = (0, {})

    def result(self) -> tuple[int, dict[str, int]]:
        if self._trace is not None:
            self._result, self._trace = self._trace(), None
        return self._result

    def __reduce__(self) -> Any:
        return _known, self.result()


def _known(total: int, uncounted: dict[str, int]) -> Traced:
    traced = Traced(nn.Identity(), (1,))
    traced._result, traced._trace = (total, uncounted), None
    return traced


def _materialise(model: nn.Module) -> None:
    """Zeros in place of every shape: fvcore's tracer does not run on the meta device."""

    def zeros(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor

    model._apply(zeros)  # type: ignore[no-untyped-call]
    for module in model.modules():
        vars(module).update({k: zeros(v) for k, v in vars(module).items() if isinstance(v, Tensor)})


def _fvcore(model: nn.Module, image: Image) -> tuple[int, dict[str, int]]:
    from fvcore.nn import FlopCountAnalysis

    _materialise(model)
    device = next((tensor.device for tensor in _state(model)), torch.device("cpu"))
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad(), _spelled_out():
        warnings.simplefilter(
            "ignore"
        )  # the tracer warns of every Python number that a forward pass computes
        analysis = FlopCountAnalysis(model, (_inputs(model, image, device),))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(analysis.total()), dict(sorted(analysis.unsupported_ops().items()))


__all__ = ["Cost", "Share", "count_block", "measure"]
