"""The properties that a block is checked for: each returns a fact, or raises `Failed` with what is wrong.

In the order they are tried; a new one is a function here under `@_property`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from attnsearch.blocks.registry import Slot
from attnsearch.core.errors import AttnsearchError
from attnsearch.tools.block_subject import Failed, Skipped, Subject, in_one_line
from attnsearch.tools.operations import RACING, SYNCING, Operations

SIZES = ((8, 8), (7, 5), (3, 10), (1, 6), (1, 1))  # square, odd, wide, one row, one place
WIDTHS = (4, 8, 16, 24, 32)
BFLOAT16_ERROR = 0.1  # of the output's norm; bfloat16 keeps 8 bits, a rounding is up to 0.004
FLOAT16_ERROR = 0.03  # of the output's norm; float16 keeps 11 bits, a rounding is up to 0.0005
INIT_STATE = frozenset(vars(nn.Module()))  # what every module holds, registered or not

Property = Callable[[Subject], str]
PROPERTIES: dict[str, tuple[Property, tuple[Slot, ...]]] = {}


def _property(
    name: str, slots: tuple[Slot, ...] = ("attention", "conv", "neck")
) -> Callable[[Property], Property]:
    def add(check: Property) -> Property:
        PROPERTIES[name] = (check, slots)
        return check

    return add


def builds(subject: Subject) -> str:
    """Tried before all properties: without it none can be."""
    model = subject.block()
    return f"{sum(p.numel() for p in model.parameters()):,} parameters at {subject.channels} channels"


# -- shapes ----------


@_property("shape")
def _keeps_shape(subject: Subject) -> str:
    """The output has the contract's shape and is finite at every size, in train and eval mode."""
    return _at_all_sizes(subject, batch=2)


@_property("batch of one")
def _takes_one_image(subject: Subject) -> str:
    """The last batch of an epoch may hold one image: statistics over the batch are then undefined."""
    return _at_all_sizes(subject, batch=1)


@_property("stride", slots=("conv",))
def _strides(subject: Subject) -> str:
    """With stride 2 and other output channels it puts out what a 3x3 convolution would."""
    return _at_all_sizes(subject, batch=2, out_channels=2 * subject.channels, stride=2)


def _at_all_sizes(subject: Subject, batch: int, **shape: int) -> str:
    channels, stride = shape.get("out_channels", subject.channels), shape.get("stride", 1)
    for training in (True, False):
        model = subject.block(shape=shape).train(training)
        for height, width in SIZES:
            where = f"batch {batch} of {height}x{width} in {'train' if training else 'eval'} mode"
            expected = (batch, channels, math.ceil(height / stride), math.ceil(width / stride))
            try:
                out = subject.run(model, subject.maps(batch, height, width))
            except Exception as error:
                raise Failed(f"{where}: {in_one_line(error)}") from error
            if tuple(out.shape) != expected:
                raise Failed(f"{where}: expected {expected}, got {tuple(out.shape)}")
            if not out.isfinite().all():
                raise Failed(f"{where}: the output is not finite")
    return f"{len(SIZES)} sizes from 1x1 to 8x8, train and eval"


@_property("widths")
def _serves_or_refuses_widths(subject: Subject) -> str:
    """At every width it builds with no empty layer, or says in a `BlockError` why it cannot."""
    served, refused = [], []
    for channels in sorted({*WIDTHS, subject.channels}):
        try:
            model = subject.block(channels=channels, stirred=False)
        except AttnsearchError:
            refused.append(str(channels))
            continue
        except Exception as error:
            raise Failed(
                f"at {channels} channels: {in_one_line(error)}; refuse such a width with a BlockError"
            ) from error
        for name, parameter in model.named_parameters():
            if parameter.numel() == 0:
                shape = tuple(parameter.shape)
                raise Failed(
                    f"at {channels} channels {name} is empty, {shape}: a layer of width zero sees nothing"
                )
        served.append(str(channels))
    return f"serves {', '.join(served)}" + (f"; refuses {', '.join(refused)}" if refused else "")


# -- parameters and state ----------


@_property("gradient")
def _passes_gradient(subject: Subject) -> str:
    """A loss on the output moves every parameter and reaches the input."""
    unreached: set[str] = set()
    for training in (True, False):  # a bias before a batch norm moves in eval mode only
        model = subject.block().train(training)
        maps = [m.requires_grad_() for m in subject.maps(4, 6, 5)]
        out = subject.run(model, maps)
        if not out.requires_grad:
            raise Failed("the output is cut off from the input and from the parameters")
        torch.autograd.backward((out * torch.randn_like(out)).sum())
        if any(m.grad is None or not m.grad.any() for m in maps):
            raise Failed("no gradient reaches the input")
        silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        unreached = silent if training else unreached & silent
    inert = set(getattr(model, "inert_parameters", ()))
    if unreached - inert:
        raise Failed(f"no gradient reaches {', '.join(sorted(unreached - inert))}")
    count = len(list(model.parameters()))
    declared = f", {', '.join(sorted(inert & unreached))} declared inert" if inert & unreached else ""
    return f"the input and {count - len(inert & unreached)} of {count} parameters{declared}"


@_property("input untouched")
def _leaves_input(subject: Subject) -> str:
    """No operation writes into its input, which the shortcut of a residual unit still needs."""
    for training in (True, False):
        model, maps = subject.block().train(training), subject.maps(2, 6, 5)
        versions = [m._version for m in maps]
        with torch.no_grad():
            subject.run(model, maps)
        if versions != [m._version for m in maps]:
            raise Failed("an operation writes into the input in place")
    return "no write in place"


@_property("registered")
def _registers_state(subject: Subject) -> str:
    """All that is trained or kept is known to `parameters()`, `to()` and `state_dict()`."""
    model = subject.block()
    for where, found in _unregistered(model):
        if isinstance(found, nn.Module):
            raise Failed(f"{where} keeps a {type(found).__name__} in a plain container; use nn.ModuleList")
        raise Failed(
            f"{where} keeps a tensor out of parameters() and buffers(); use nn.Parameter or register_buffer"
        )
    other = subject.block()
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.zero_()
    other.load_state_dict(model.state_dict())
    _assert_same(subject, model.eval(), other.eval(), "a copy loaded from the state dict")
    return f"{len(list(model.parameters()))} parameters, {len(list(model.buffers()))} buffers"


def _unregistered(model: nn.Module) -> Iterator[tuple[str, nn.Module | Tensor]]:
    known = {id(held) for held in (*model.parameters(), *model.buffers(), *model.modules())}
    for path, owner in model.named_modules():
        for name, value in vars(owner).items():
            if name not in INIT_STATE:
                where = f"{path}.{name}" if path else name
                yield from ((where, found) for found in _held(value) if id(found) not in known)


def _held(value: Any) -> Iterator[nn.Module | Tensor]:
    """Modules and tensors in an attribute, inside plain containers too."""
    if isinstance(value, nn.Module | Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _held(entry)
    elif isinstance(value, list | tuple | set):
        for entry in value:
            yield from _held(entry)


@_property("train and eval")
def _keeps_modes_apart(subject: Subject) -> str:
    """A forward pass never moves a parameter, and in eval mode moves nothing."""
    model = subject.block()
    for training, kept in ((True, dict(model.named_parameters())), (False, model.state_dict())):
        before = {name: tensor.detach().clone() for name, tensor in kept.items()}
        with torch.no_grad():
            subject.run(model.train(training), subject.maps(4, 6, 5))
        moved = [name for name, tensor in kept.items() if not torch.equal(tensor, before[name])]
        if moved:
            raise Failed(
                f"a forward pass in {'train' if training else 'eval'} mode changes {', '.join(moved)}"
            )
    return "eval mode changes nothing"


# -- values ----------


@_property("depends on its input", slots=("attention",))
def _gate_depends_on_input(subject: Subject) -> str:
    """A gate that is a constant makes the block affine: f(x + y) + f(0) = f(x) + f(y)."""
    model = subject.block().eval()
    (x,), (y,) = subject.maps(2, 6, 5), subject.maps(2, 6, 5, seed=2)
    with torch.no_grad():
        bend = model(x + y) + model(0 * x) - model(x) - model(y)
        share = (bend.norm() / model(x).norm().clamp(min=1e-12)).item()
    if share < 1e-5:
        raise Failed("the gate is a constant: the output is the input, scaled by what does not depend on it")
    return f"{share:.2g} of the output's norm is not affine"


@_property("deterministic")
def _repeats(subject: Subject) -> str:
    """Equal inputs give equal bits in eval mode, and no operation races on CUDA, forward or backward."""
    model = subject.block().eval()
    with torch.no_grad():
        first, *others = [subject.run(model, subject.maps(2, 6, 5)) for _ in range(3)]
    if not all(torch.equal(first, other) for other in others):
        raise Failed("the same input gives another output in eval mode")
    seen = Operations()
    with seen:
        maps = [m.requires_grad_() for m in subject.maps(2, 6, 5)]
        torch.autograd.backward(subject.run(subject.block().train(), maps).sum())
    if racing := sorted(seen.names & RACING):
        raise Failed(f"{', '.join(racing)} has no deterministic form on CUDA")
    return "three runs equal, no racing operation"


@_property("no wait for a GPU")
def _does_not_sync(subject: Subject) -> str:
    """Nothing in training reads a value or a size from the device, which would wait for all that runs there."""
    maps, model = [m.requires_grad_() for m in subject.maps(2, 6, 5)], subject.block().train()
    with Operations() as seen:
        torch.autograd.backward(subject.run(model, maps).sum())
    if waiting := sorted(seen.names & SYNCING):
        raise Failed(
            f"{', '.join(waiting)} makes the host wait for a GPU: keep values in tensors, and sizes fixed"
        )
    return "no operation that waits"


@_property("bfloat16")
def _runs_in_bfloat16(subject: Subject) -> str:
    """In bfloat16, and under autocast, it runs, stays in type, and stays near float32."""
    model, maps = subject.block().eval(), subject.maps(2, 6, 5)
    with torch.no_grad():
        exact = subject.run(model, maps)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = subject.run(model, maps)
        half = subject.run(model.bfloat16(), [m.bfloat16() for m in maps])
    if half.dtype != torch.bfloat16:
        raise Failed(f"a bfloat16 map comes out as {str(half.dtype).removeprefix('torch.')}")
    worst = max(((out.float() - exact).norm() / exact.norm()).item() for out in (mixed, half))
    if not worst < BFLOAT16_ERROR:  # NaN fails too
        raise Failed(f"{worst:.2g} of the output's norm is lost in bfloat16, more than {BFLOAT16_ERROR}")
    return f"error {worst:.2g} of the output's norm"


@_property("float16")
def _runs_in_float16(subject: Subject) -> str:
    """In float16 it runs, stays in type, and stays near float64, on small maps and on large ones of deviation 8."""
    worst = 0.0
    large = 14 if subject.slot == "neck" else 56  # a neck's shallowest map has four times its rows
    for height, width, scale, stirred in ((6, 5, 1.0, True), (large, large, 8.0, False)):
        model = subject.block(stirred=stirred).eval().half()
        maps = [(scale * m).half() for m in subject.maps(1, height, width)]
        with torch.no_grad():
            half = subject.run(model, maps)
            exact = subject.run(model.double(), [m.double() for m in maps])
        if half.dtype != torch.float16:
            raise Failed(f"a float16 map comes out as {str(half.dtype).removeprefix('torch.')}")
        error = ((half.double() - exact).norm() / exact.norm()).item()
        if not error < FLOAT16_ERROR:  # NaN fails too
            raise Failed(
                f"{error:.2g} of the output's norm is lost in float16 on {height}x{width} maps of deviation {scale:g}, "
                f"more than {FLOAT16_ERROR}; sums over a map may be beyond 65,504: take them in float32"
            )
        worst = max(worst, error)
    return f"error {worst:.2g} of the output's norm"


@_property("channels last")
def _takes_channels_last(subject: Subject) -> str:
    """Memory laid out with channels last gives the same values."""
    model, maps = subject.block().eval(), subject.maps(2, 6, 5)
    last = torch.channels_last
    with torch.no_grad():
        plain = subject.run(model, maps)
        moved = model.to(memory_format=last)  # type: ignore[call-overload]
        out = subject.run(moved, [m.contiguous(memory_format=last) for m in maps])
    return _near(out, plain, "with channels last the output")


# -- what stands outside ----------


@_property("cost countable")
def _is_counted(subject: Subject) -> str:
    """Every operation has a counting rule, and MACs agree with PyTorch's own counter."""
    from attnsearch.cost.measure import explain_unknown, measure

    model, maps = subject.block().eval(), subject.maps(1, 8, 8)
    shapes = [tuple(m.shape[1:]) for m in maps]
    cost = measure(model, shapes if subject.slot == "neck" else shapes[0])
    if cost.unknown:
        raise Failed(explain_unknown(cost.unknown))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        subject.run(model, maps)
    if counter.get_total_flops() != 2 * cost.macs:
        raise Failed(
            f"{cost.macs:,} MACs counted, half of PyTorch's count is {counter.get_total_flops() // 2:,}"
        )
    return f"{cost.macs:,} MACs, {cost.flops:,} FLOPs at 8x8"


@_property("torch.export")
def _exports(subject: Subject) -> str:
    """`torch.export` captures it whole, for any batch, with equal values."""
    model, maps = subject.block().eval(), subject.maps(2, 8, 8)
    arguments, batch = subject.arguments(maps), torch.export.Dim("batch")
    any_batch = tree_map(lambda _: {0: batch}, arguments)
    program = torch.export.export(model, arguments, dynamic_shapes=any_batch)
    with torch.no_grad():
        out, plain = subject.run(program.module(), maps), subject.run(model, maps)
    return _near(out, plain, "the exported program's output")


@_property("ONNX")
def _exports_to_onnx(subject: Subject) -> str:
    """`torch.onnx.export` makes a valid graph, and ONNX's reference evaluator gives equal values."""
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise Skipped("pip install 'attnsearch[onnx]'")
    from attnsearch.export import run_onnx, to_onnx

    model, maps = subject.block().eval(), subject.maps(2, 8, 8)
    out = run_onnx(to_onnx(model, subject.arguments(maps)), maps)
    with torch.no_grad():
        return _near(out, subject.run(model, maps), "the ONNX graph's output")


def _assert_same(subject: Subject, one: nn.Module, other: nn.Module, what: str) -> None:
    maps = subject.maps(2, 6, 5)
    with torch.no_grad():
        if not torch.equal(subject.run(one, maps), subject.run(other, maps)):
            raise Failed(f"{what} gives another output")


def _near(out: Tensor, expected: Tensor, what: str) -> str:
    error = ((out - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not error < 1e-4:  # NaN fails too
        raise Failed(f"{what} differs by {error:.2g} of the largest value")
    return f"difference {error:.1g} of the largest value"
