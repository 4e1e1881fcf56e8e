"""The compiled kernels against torch, in float32 to rounding, and in bfloat16 to one of its steps."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import axis_means
from attnsearch.build import ops
from attnsearch.build.ops import add_relu, norm_add_relu, norm_relu
from attnsearch.build.resnet import build
from attnsearch.core.trial import Recipe
from attnsearch.space.arch import Arch
from attnsearch.train import fused
from attnsearch.train.fit import DeviceData, fit

pytest.importorskip("numba")
from attnsearch.train.fused import Fast, dispatch


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And products wait in the blocks of this file as in those of the package."""
    monkeypatch.setattr(dispatch, "OURS", (*dispatch.OURS, __name__))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def feature_map(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def conv() -> nn.Module:
    torch.manual_seed(3)
    return nn.Conv2d(2, 1, 7, padding=3, bias=False)


def line(kernel: tuple[int, int], dilation: int = 1, bias: bool = True) -> nn.Module:
    torch.manual_seed(3)
    padding = kernel[0] // 2 * dilation, kernel[1] // 2 * dilation
    return nn.Conv2d(6, 6, kernel, padding=padding, dilation=dilation, groups=6, bias=bias)


class Gated(nn.Module):
    """What a unit with CBAM does behind its branch, and the next addition, or the map and both products read again."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.norm, self.again = nn.BatchNorm2d(6), again

    def forward(self, x: Tensor) -> Tensor:
        shortcut = norm_relu(self.norm, x)
        x = x.sin()
        y = x * (x.mean((2, 3), keepdim=True) - x.amax((2, 3), keepdim=True)).sigmoid()
        z = y * torch.cat((y.mean(1, keepdim=True), y.amax(1, keepdim=True)), 1).sum(1, True).sigmoid()
        out = add_relu(z, shortcut)
        return out + x * y * z if self.again else add_relu(out.sin(), out)


class Within(nn.Module):
    """A module as a unit's gate."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gated(self.gate, x)


def profiled(x: Tensor) -> Tensor:
    over_width, over_height = axis_means(x.sin())
    return over_width * over_height.transpose(2, 3).exp()


def gated(x: Tensor) -> Tensor:
    """Both kinds of pool and both kinds of product, on one map and on its product."""
    y = x * (x.mean((2, 3), keepdim=True) - x.amax((2, 3), keepdim=True)).sigmoid()
    y = y * (y.mean(1, keepdim=True) + 2 * y.amax(1, keepdim=True)).sigmoid() + x * x.mean(1, keepdim=True)
    return y * (x.mean(2, keepdim=True) * x.amax(3, keepdim=True) + x.amax(2)[:, :, None])


class Residual(nn.Module):
    """Two additions of a map that its own branch reads too; `changed` alters that map in place between."""

    def __init__(self, changed: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.changed = changed

    def forward(self, x: Tensor) -> Tensor:
        x = norm_relu(self.norms[0], x)
        y = norm_add_relu(self.norms[1], x * x, x)
        if self.changed:
            y.mul_(2)
        return add_relu(y.sin(), y)


class Shortcut(nn.Module):
    """A map that a branch reads whole and a strided convolution in part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.norm, self.conv = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1, stride=(2, 3), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = norm_relu(self.norm, x)
        return self.conv(x) * x.mean()  # type: ignore[no-any-return]


OPERATIONS = {
    "residual": (Residual, (5, 6, 7, 4), 0.0),
    "norm": (lambda: nn.BatchNorm2d(6), (5, 6, 7, 4), 0.0),
    "norm far from zero": (lambda: nn.BatchNorm2d(6), (5, 6, 7, 4), 100.0),
    "a gated unit": (lambda: Within(Gated()), (3, 6, 5, 4), 0.0),
    "a gated unit read again": (lambda: Within(Gated(again=True)), (3, 6, 5, 4), 0.0),
    "a strange gated unit": (Gated, (3, 6, 5, 4), 0.0),
    "profiles": (lambda: profiled, (3, 6, 5, 4), 0.0),
    "gates": (lambda: gated, (3, 6, 5, 4), 0.0),
    "one channel": (lambda: gated, (3, 1, 5, 4), 0.0),
    "one place": (lambda: gated, (3, 6, 1, 1), 0.0),
    "a shortcut": (Shortcut, (3, 6, 7, 5), 0.0),
    "convolution of planes": (conv, (3, 2, 9, 8), 0.0),
    "convolution of rows": (lambda: line((1, 5)), (3, 6, 4, 9), 0.0),
    "convolution of dilated rows": (lambda: line((1, 3), 2), (3, 6, 5, 8), 0.0),
    "convolution of dilated columns": (lambda: line((3, 1), 3, bias=False), (3, 6, 9, 5), 0.0),
    "convolution of short columns": (lambda: line((7, 1), 2), (3, 6, 4, 5), 0.0),
}


def values_and_gradients(operation: object, x: Tensor, fast: bool) -> list[Tensor]:
    assert callable(operation)
    with Fast() if fast else nullcontext():
        y = operation(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    parameters = list(operation.parameters()) if isinstance(operation, nn.Module) else []
    buffers = [b.double() for b in operation.buffers()] if isinstance(operation, nn.Module) else []
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *parameters]), *buffers]


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_torchs(name: str) -> None:
    make, shape, offset = OPERATIONS[name]
    x = (feature_map(*shape).detach() + offset).requires_grad_()
    ours = values_and_gradients(make(), x, fast=True)
    exact = make().double() if isinstance(make(), nn.Module) else make()
    reference = values_and_gradients(exact, x.detach().double().requires_grad_(), fast=False)
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-5 if offset == 0 else 1e-3)


def test_a_backward_pass_that_ends_early_leaves_the_next_one_right() -> None:
    x, weights = feature_map(3, 6, 5, 4), feature_map(3, 6, 1, 1, seed=1)
    with Fast():
        y = x.sin()
        loss = add_relu(y * (weights + y.mean((2, 3), keepdim=True)), x).sum()
    (first,) = torch.autograd.grad(loss, weights, retain_graph=True)
    both = torch.autograd.grad(loss, (weights, x))
    plain = x.detach().requires_grad_()
    y = plain.sin()
    expected = torch.relu(y * (weights + y.mean((2, 3), keepdim=True)) + plain).sum()
    torch.testing.assert_close((first, *both), (both[0], *torch.autograd.grad(expected, (weights, plain))))


def passes(x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Maps whose gradients their passes may write over, and a sum of them that gives all one gradient, or views."""
    norms = [nn.BatchNorm2d(6) for _ in range(4)]
    maps = [norm_relu(norms[0], x.sin()), norm_add_relu(norms[1], x.cos(), x), add_relu(x.exp(), x)]
    maps.append(add_relu(x * x.mean((2, 3), keepdim=True), x))
    return maps, (sum(maps) + norms[3](x).view(x.shape)) * feature_map(3, 6, 5, 4, seed=3).detach()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_that_somebody_else_holds_is_not_written_over(compiled: bool) -> None:
    """The maps' gradients are one tensor: of each other, of a hook, of who asked for it, and of who gave it."""
    x, kept = feature_map(3, 6, 5, 4), list[Tensor]()
    with Fast() if compiled else nullcontext():
        maps, out = passes(x)
    for y in maps:
        y.register_hook(kept.append)
    given = feature_map(3, 6, 5, 4, seed=2).detach()
    before, expected = given.clone(), given * feature_map(3, 6, 5, 4, seed=3).detach()
    found = torch.autograd.grad(out, [x, *maps], given)
    torch.testing.assert_close([*kept, *found[1:], given], [expected] * 8 + [before], rtol=0, atol=0)
    plain = x.detach().requires_grad_()
    torch.testing.assert_close(found[0], torch.autograd.grad(passes(plain)[1], plain, given)[0])


def test_a_gradient_that_a_hook_keeps_is_not_written_over() -> None:
    kept: list[Tensor] = []
    with Fast():
        y = norm_relu(nn.BatchNorm2d(6), feature_map(3, 6, 5, 4))
    y.register_hook(kept.append)
    (y * y).sum().backward()
    torch.testing.assert_close(kept, [2 * y.detach()])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_map_changed_in_place_is_refused_as_torch_refuses_it(compiled: bool) -> None:
    """A ReLU's backward reads its output."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values_and_gradients(Residual(changed=True), feature_map(5, 6, 7, 4), compiled)


@pytest.mark.parametrize("block", ["none", "cbam"])
def test_validation_is_torchs(block: str) -> None:
    model = small(block).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
    x = feature_map(8, 3, 16, 16).detach()
    with torch.inference_mode():
        expected = model(x)
        with Fast():
            torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_the_kernels_are_what_computes() -> None:
    x = feature_map(4, 6, 5, 4)
    norm = nn.BatchNorm2d(6)
    with Fast():
        made = [
            norm(x),
            norm_relu(norm, x),
            add_relu(x, x),
            x.mean((2, 3)),
            x * x.amax((2, 3), True),
        ]
        made.append(conv()(feature_map(3, 2, 9, 8)))
        made.append(line((3, 1), 2)(x[:, :, :4].contiguous(memory_format=torch.channels_last)))
    names = [str(y.grad_fn) for y in made]
    for name, ours in zip(
        names, ("Norm", "Norm", "AddRelu", "Squeeze", "Product", "PlanesConv", "Permute"), strict=True
    ):
        assert ours in name


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.sin()


READERS = {
    "an operation": lambda y, x, gate: y + 1,
    "a list": lambda y, x, gate: torch.cat([x, y]),
    "a number": lambda y, x, gate: torch.tensor(y.sum().item()),
    "an array": lambda y, x, gate: torch.from_numpy(y.numpy().copy()),
    "a part": lambda y, x, gate: y[1:, :, 0],
    "a function of one's own": lambda y, x, gate: Sine.apply(y),
    "a convolution": lambda y, x, gate: torch.conv2d(y, torch.ones(2, 6, 3, 3)),
    "a norm": lambda y, x, gate: nn.BatchNorm2d(6).eval()(y),
    "nothing": lambda y, x, gate: y,
    "after a change of it": lambda y, x, gate: y.relu_(),
    "after a change of the map": lambda y, x, gate: (x.mul_(2), y)[1],
    "after a change of the gate": lambda y, x, gate: (gate.mul_(2), y)[1],
    "after an addition": lambda y, x, gate: add_relu(y, x) + y,
    "twice added": lambda y, x, gate: add_relu(y, y),
    "gates of one kind": lambda y, x, gate: y * x.amax((2, 3), keepdim=True),
    "gates of both kinds": lambda y, x, gate: y * x.amax(1, keepdim=True) * x.amax((2, 3), keepdim=True),
    "places": lambda y, x, gate: y.mean((2, 3)),
    "channels of both": lambda y, x, gate: (y * x.mean(1, keepdim=True)).amax(1),
    "as a gate": lambda y, x, gate: (x[:, :, :1, :1] * gate).sigmoid() * x,
}


@pytest.mark.parametrize("reader", READERS)
@torch.no_grad()
def test_a_product_that_waits_has_its_values_for_whoever_reads_them(reader: str) -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            gate = x.mean((2, 3), keepdim=True)
            return READERS[reader](x * gate, x, gate)

    results = []
    for context in (nullcontext(), Fast()):
        with context:
            results.append(ops.gated(Gate(), feature_map(3, 6, 5, 4).detach()))
    torch.testing.assert_close(results[1], results[0])


class Halving(nn.Module):
    """A gate that may break down, and that keeps its product."""

    broken = False

    def forward(self, x: Tensor) -> Tensor:
        self.y = x * x.mean(1, keepdim=True)
        if self.broken:
            raise ZeroDivisionError
        return self.y


def test_a_fault_in_the_model_leaves_no_product_without_values() -> None:
    x, gate = feature_map(3, 6, 5, 4), Halving()
    gate.broken = True
    with suppress(ZeroDivisionError), Fast():
        ops.gated(gate, x)
    torch.testing.assert_close(gate.y, x * x.mean(1, keepdim=True))


@pytest.mark.parametrize("ours", [True, False])
def test_a_product_waits_only_in_blocks_of_the_package(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that torch cannot override would find a product without memory."""
    if not ours:
        monkeypatch.setattr(dispatch, "OURS", ("attnsearch.", "torch.nn."))
    x, gate = feature_map(3, 6, 5, 4), Halving()
    with Fast() as fast_mode:
        y = ops.gated(gate, x)
        waiting = [not product.materialized for product in fast_mode._products.values()]
    assert waiting == [ours]
    torch.testing.assert_close(y, x * x.mean(1, keepdim=True))


def test_ties_share_the_gradient_of_a_maximum() -> None:
    x = torch.tensor([[3.0, 3.0, 1.0, 3.0]]).view(1, 1, 2, 2).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    with Fast():
        (x.amax((2, 3)) * 6).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [2.0, 2.0, 0.0, 2.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_stays_visible(bad: float, dtype: torch.dtype) -> None:
    x = feature_map(2, 4, 3, 3, dtype=dtype).detach()
    x[1, 2, 1, 1] = bad
    x.requires_grad_()
    with Fast():
        results = [
            norm_relu(nn.BatchNorm2d(4), x),
            add_relu(x, x),
            x.mean(1),
            x.amax((2, 3)),
            x.amax(1),
        ]
    assert [not bool(y.isfinite().all()) for y in results] == [True] * len(results)


def test_bfloat16_agrees_to_one_step() -> None:
    x = feature_map(8, 16, 6, 6, dtype=torch.bfloat16)
    norm = nn.BatchNorm2d(16)
    ours = values_and_gradients(copy.deepcopy(norm), x, fast=True)
    torchs = values_and_gradients(copy.deepcopy(norm), x, fast=False)
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("fault", [ImportError("no Numba"), RuntimeError("no locator available")])
def test_without_kernels_torch_trains(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def refuse(name: str) -> None:
        raise fault

    fused.available.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(fused.importlib, "import_module", refuse)
        assert not fused.available()
    try:
        assert fit(small("cbam"), images(), Recipe(epochs=1, batch_size=32, lr=0.05), seed=7)
    finally:
        fused.available.cache_clear()


def images() -> DeviceData:
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (160, 3, 16, 16), dtype=torch.uint8, generator=drawn)
    labels = torch.randint(0, 4, (160,), generator=drawn)
    halves = pixels[:128], labels[:128], pixels[128:], labels[128:]
    return DeviceData(*halves, mean=(0.5,) * 3, std=(0.25,) * 3, augment=("flip", "crop"))


def small(block: str) -> nn.Module:
    stage = {} if block == "none" else {"attention": {"block": block}}
    return build(Arch.from_dict({"host": {"name": "resnet8"}, "stages": [stage] * 3}), classes=4, seed=5)


@pytest.mark.parametrize("block", ["cbam", "se", "eca", "simam", "coordatt", "triplet"])
def test_a_network_trains_as_without(block: str) -> None:
    """First gradients agree with those in float64 as well as torch's own float32 does, times ten."""
    gradients = []
    for dtype, compiled in ((torch.float64, False), (torch.float32, False), (torch.float32, True)):
        model = small(block).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = feature_map(8, 3, 16, 16).detach().to(dtype, memory_format=torch.channels_last)
        with Fast() if compiled else nullcontext():
            loss = model(x).square().sum()
        gradients.append(
            torch.cat([g.double().flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
        )
    exact, torchs, ours = gradients
    assert (ours - exact).norm() <= 10 * (torchs - exact).norm() + 1e-6 * exact.norm()


FRESH = """
import hashlib, numpy as np
from attnsearch.train.fused import kernels
drawn = np.random.default_rng(0)
def some(*shape): return drawn.standard_normal(shape).astype(np.float32)
x, y, g, out = some(64, 512), some(64, 512), some(64, 512), some(64, 512)
stats = kernels.norm(x, some(16), some(16), (some(16), some(16)), 0.1, 1e-5, True, None, y)
parameters = kernels.norm_back(g, None, x, None, stats, True, None, out)
print(hashlib.sha256(b"".join(a.tobytes() for a in (stats, y, parameters, out))).hexdigest())
"""


def test_what_has_just_been_compiled_rounds_as_what_was_read_from_the_disk(tmp_path: Path) -> None:
    """Otherwise a first run could not be repeated."""
    given = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", FRESH], env=given, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbc"))
    assert said[0].stdout == said[1].stdout != ""


def test_a_trial_is_the_same_twice_and_after_another() -> None:
    recipe, data = Recipe(epochs=2, batch_size=32, lr=0.05), images()

    def trial(block: str) -> list[float]:
        return [e.train_loss for e in fit(small(block), data, recipe, seed=7)]

    first = trial("cbam")
    trial("se")
    assert trial("cbam") == first
