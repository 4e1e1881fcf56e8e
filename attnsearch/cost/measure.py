"""What a network costs: counted from its operations, or measured on a device.

    measure(model, image)      parameters, MACs, FLOPs, activations, bytes: exact, in milliseconds
    measure_made(make, image)  the same of a network that is made for nothing else
    count_block(name, ...)     the same for one block at one map size
    latency(model, image)      median time of a forward pass, with its quartiles
    peak_memory(model, image)  of a forward pass or a training step

Counts are taken for a batch of 1 in eval mode, on a copy of the model, weightless but where computing is cheaper;
the model itself is only read. The rules stand in `attnsearch.cost.counting`.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

from attnsearch.blocks import registry
from attnsearch.blocks.registry import Value
from attnsearch.build.create import create_block, create_neck
from attnsearch.core.costs import LIMITED
from attnsearch.core.errors import CostError
from attnsearch.cost.counting import AttentionFunctions, OperationCounter, Tally
from attnsearch.cost.latency import Latency, Memory, latency, peak_memory
from attnsearch.cost.meta import Image, inputs, materialize, meta_copy, preserve_rng_state

FvcoreCount = tuple[int, Mapping[str, int]]  # total, calls of what it leaves out
COMPUTED = 64 * 64  # places up to which a pass is computed faster than torch works out its shapes


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
        flops: 2 x macs + element-wise work, by the rules of `attnsearch.cost.counting`.
        activations: output elements of convolutions and matrix products (fvcore's definition).
        bytes_moved: bytes that all operations read and write in the tensors' types, each operation for
            itself, as eager PyTorch moves them when no cache helps. An expanded dimension is read once;
            indices are left out.
        uncounted: operations that add nothing to MACs and FLOPs, with their number of calls: those without arithmetic
            (copies, padding, tensors made), and those in `unknown`.
        unknown: operations that no rule covers, whose work is missing from every count but `params`.
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
    unknown: Mapping[str, int] = field(default_factory=dict)
    _lazy: LazyValue = field(kw_only=True, repr=False, compare=False)

    @property
    def fvcore(self) -> int:
        """The total of fvcore itself, `FlopCountAnalysis.total()`; traced on first use (0.1 to 2 s)."""
        return self._fvcore()[0]

    @property
    def fvcore_uncounted(self) -> Mapping[str, int]:
        """Operations that fvcore's total leaves out, with their number of calls."""
        return self._fvcore()[1]

    def as_dict(self, *, fvcore: bool = False) -> dict[str, int]:
        """The plain numbers by the names of `attnsearch.core.costs.COSTS`."""
        names = (*LIMITED, *(("fvcore",) if fvcore else ()))
        return {name: getattr(self, name) for name in names}

    def _fvcore(self) -> FvcoreCount:
        return self._lazy.result()

    def __add__(self, other: Cost) -> Cost:
        """Costs of parts add up: network = network without a block + the block at its map size."""
        return _combine(self, other, 1)

    def __sub__(self, other: Cost) -> Cost:
        """What one network costs more than another."""
        return _combine(self, other, -1)


class LazyValue:
    """A count taken when first asked for; what it needs is let go with it."""

    def __init__(self, count: Callable[[], FvcoreCount]) -> None:
        self._count: Callable[[], FvcoreCount] | None = count
        self._result: FvcoreCount = (0, {})

    def result(self) -> FvcoreCount:
        if self._count is not None:
            self._result = self._count()
            self._count = None
        return self._result

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyValue, (Constant(self.result()),)


@dataclass(frozen=True)
class Constant:
    """A count that has been taken; unlike a closure it can be sent to another process."""

    value: FvcoreCount

    def __call__(self) -> FvcoreCount:
        return self.value


def measure(model: nn.Module, image: Image = (3, 224, 224), *, computed: bool = False) -> Cost:
    """Count one forward pass of `model`.

    Args:
        model: on any device, the meta device included. It is left as it was found: flags, buffers, gradients,
            hooks.
        image: shape without the batch, (C, H, W) or (C, D, H, W), or a list of shapes for a neck that takes
            a list.
        computed: on a true copy rather than by shapes alone. It spares the second in which torch loads what works out
            shapes, and pays on small images, and where fvcore's total will be asked for, whose tracer computes too.

    Raises:
        CostError: the model does not run on this shape.
    """
    network = (copy.deepcopy(model) if computed else meta_copy(model)).eval()
    try:
        counter = _count(network, image)
    except CostError:
        raise
    except Exception:  # a pass that looks at values fails on the meta device: a true copy says why
        network = copy.deepcopy(model).eval()
        counter = _count_for_real(network, image)
    total = counter.total
    return Cost(
        params=_params(model),
        macs=total.macs,
        flops=2 * total.macs + total.elementwise,
        activations=total.activations,
        bytes_moved=total.bytes_moved,
        uncounted=dict(sorted((counter.negligible + counter.unknown).items())),
        unknown=dict(sorted(counter.unknown.items())),
        by_block={path: _share(network.get_submodule(path), work) for path, work in counter.by_path.items()},
        _lazy=LazyValue(lambda: _fvcore(network, image)),
    )


def count_block(
    name: str,
    channels: int | Sequence[int],
    height: int,
    width: int,
    options: Mapping[str, Value] | None = None,
    *,
    out_channels: int | None = None,
    stride: int = 1,
) -> Cost:
    """Cost of one block on a map of (channels, height, width); remembered, so a table may ask often.

    A neck takes the channels of each map, shallow to deep; `height` and `width` are the shallowest map's,
    each next map has half of them. `out_channels` and `stride` are for the conv slot. Names and options, and
    what is raised for them, are those of `create_block` and `create_neck`.
    """
    pairs = tuple(sorted((key, tuple(v) if isinstance(v, list) else v) for key, v in (options or {}).items()))
    widths = channels if isinstance(channels, int) else tuple(channels)
    return _count_block(name, widths, height, width, pairs, out_channels, stride)


@cache
def _count_block(
    name: str,
    channels: int | tuple[int, ...],
    height: int,
    width: int,
    options: tuple[tuple[str, Value], ...],
    out_channels: int | None,
    stride: int,
) -> Cost:
    made, computed = dict[str, Any](options), height * width <= COMPUTED
    if not isinstance(channels, int):
        maps = [(c, height >> i, width >> i) for i, c in enumerate(channels)]
        return measure_made(lambda: create_neck(name, channels, **made), maps, computed=computed)
    if registry.info(registry.expand(name)[0]).slot == "conv":
        made |= {"out_channels": out_channels, "stride": stride}
    shape = (channels, height, width)
    return measure_made(lambda: create_block(name, channels, **made), shape, computed=computed)


def measure_made(make: Callable[[], nn.Module], image: Image, *, computed: bool) -> Cost:
    """Count one forward pass of a network that is made for nothing else; `computed` as in `measure`.

    torch's random generators are left as they were.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if computed else "meta"):
        network = make()
    return measure(network, image, computed=computed)


def _count(model: nn.Module, image: Image) -> OperationCounter:
    x = inputs(model, image)
    counter = OperationCounter()
    with (
        preserve_rng_state(model),
        _plainly(),
        _watch_blocks(model, counter),
        AttentionFunctions(counter),
        counter,
    ):
        model(x)
    return counter


def _count_for_real(model: nn.Module, image: Image) -> OperationCounter:
    try:
        return _count(model, image)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise CostError(f"The model does not run on an image of shape {image!r}: {error}") from error


@contextmanager
def _watch_blocks(model: nn.Module, counter: OperationCounter) -> Iterator[None]:
    """Tell the counter which outermost registered block runs."""
    handles = []
    for path, module in _outermost_blocks(model):

        def enter(*_: Any, path: str = path) -> None:
            counter.inside.append(path)

        def leave(*_: Any) -> None:
            counter.inside.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
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
def _plainly() -> Iterator[None]:
    """Without gradients, in one thread, and without the fused kernel of `nn.MultiheadAttention`.

    No counter can look into that kernel; one image gives two threads little to do but wait for each other.
    """
    fused, threads = torch.backends.mha.get_fastpath_enabled(), torch.get_num_threads()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.set_num_threads(threads)


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _share(block: nn.Module, work: Tally) -> Share:
    name = str(type(block).block_name)  # type: ignore[attr-defined]
    return Share(name, _params(block), work.macs, 2 * work.macs + work.elementwise, work.bytes_moved)


def explain_unknown(found: Mapping[str, int]) -> str:
    """A sentence on operations without a rule: what they are, and how they get one."""
    names = ", ".join(f"{name} ({calls} calls)" for name, calls in sorted(found.items()))
    return (
        f"No rule says what this work costs: {names}. Write it with operations that have one, or add a rule, "
        f"attnsearch.cost.counting.ELEMENTWISE['{min(found).removeprefix('aten::')}'] = lambda args, out: number."
    )


def _combine(left: Cost, right: Cost, sign: int) -> Cost:
    return Cost(
        params=left.params + sign * right.params,
        macs=left.macs + sign * right.macs,
        flops=left.flops + sign * right.flops,
        activations=left.activations + sign * right.activations,
        bytes_moved=left.bytes_moved + sign * right.bytes_moved,
        uncounted=_calls(left.uncounted, right.uncounted, sign),
        unknown=_calls(left.unknown, right.unknown, sign),
        _lazy=LazyValue(lambda: _combine_fvcore(left._fvcore(), right._fvcore(), sign)),
    )


def _combine_fvcore(left: FvcoreCount, right: FvcoreCount, sign: int) -> FvcoreCount:
    return left[0] + sign * right[0], _calls(left[1], right[1], sign)


def _calls(left: Mapping[str, int], right: Mapping[str, int], sign: int) -> dict[str, int]:
    calls = Counter(left)
    for name, count in right.items():
        calls[name] += sign * count
    return {name: count for name, count in sorted(calls.items()) if count}


def _fvcore(model: nn.Module, image: Image) -> FvcoreCount:
    from fvcore.nn import FlopCountAnalysis

    materialize(model)  # fvcore's tracer does not run on the meta device
    with warnings.catch_warnings(), preserve_rng_state(model), _plainly():
        warnings.simplefilter("ignore")  # the tracer's of every Python number that a forward pass computes
        analysis = FlopCountAnalysis(model, (inputs(model, image),))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        return int(analysis.total()), dict(sorted(analysis.unsupported_ops().items()))


__all__ = ["Cost", "Latency", "Memory", "Share", "count_block", "latency", "measure", "peak_memory"]
