"""The compiled kernels against torch, in float32 to rounding, and in bfloat16 to one of its steps."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attnsearch.blocks.cbam import CBAM
from attnsearch.blocks.cbam_lite import CBAMLite
from attnsearch.blocks.channel_gate import ChannelGate
from attnsearch.blocks.eca import ECA
from attnsearch.blocks.se import SE
from attnsearch.blocks.spatial_gate import SpatialGate
from attnsearch.build.ops import add_relu, gated, gated_add_relu, norm_add_relu, norm_relu
from attnsearch.build.resnet import build
from attnsearch.core.trial import Recipe
from attnsearch.space.arch import Arch
from attnsearch.train import fused
from attnsearch.train.fit import fit
from attnsearch.train.images import DeviceData

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def feature_map(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def conv(kernel: int) -> nn.Module:
    torch.manual_seed(3)
    return nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)


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


class GatedUnits(nn.Module):
    """A gate before an addition, whose shortcut its branch reads too, and behind another, read twice in its turn."""

    def __init__(self, make: Callable[[], nn.Module], frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.gates = nn.ModuleList(make() for _ in range(2))
        for i, parameter in enumerate(self.gates.parameters()):
            # Some norms' weights start at zero, where a gate would not depend on its input.
            nn.init.uniform_(parameter, -1, 1, generator=torch.Generator().manual_seed(i))
            parameter.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        x = norm_relu(self.norms[0], x)
        x = gated_add_relu(self.gates[0], self.norms[1](x.sin()), x)
        x = gated(self.gates[1], add_relu(x.cos(), x))
        return add_relu(x.sin(), x)


GATES: dict[str, Callable[[], nn.Module]] = {
    "se": lambda: SE(6, ratio=2),
    "eca": lambda: ECA(6, kernel=3),
    "channel gate": lambda: ChannelGate(6, ratio=2),
    "channel gate with norms": lambda: ChannelGate(6, ratio=2, mlp="independent"),
    "channel gate, ties to one": lambda: ChannelGate(6, ratio=2, ties="one"),
    "spatial gate": lambda: SpatialGate(6, kernel=3),
    "deep spatial gate": lambda: SpatialGate(6, kernel=3, spatial="deep_residual"),
    "cbam lite": lambda: CBAMLite(6, ratio=2),
    **{
        f"cbam, {fusion}": partial(CBAM, 6, ratio=2, fusion=fusion)
        for fusion in ("serial", "serial_sc", "parallel", "parallel_mean", "product")
    },
}
Case = tuple[Callable[[], nn.Module], tuple[int, ...], float]
OPERATIONS: dict[str, Case] = {
    "residual": (Residual, (5, 6, 7, 4), 0.0),
    "norm": (lambda: nn.BatchNorm2d(6), (5, 6, 7, 4), 0.0),
    "norm far from zero": (lambda: nn.BatchNorm2d(6), (5, 6, 7, 4), 100.0),
    "convolution of planes": (lambda: conv(7), (3, 2, 9, 8), 0.0),
    "convolution of narrow planes": (lambda: conv(7), (3, 2, 5, 2), 0.0),
    "convolution of a pixel": (lambda: conv(3), (3, 2, 1, 1), 0.0),
    **{name: (partial(GatedUnits, make), (8, 6, 5, 4), 0.0) for name, make in GATES.items()},
    "frozen cbam": (lambda: GatedUnits(GATES["cbam, serial"], frozen=True), (3, 6, 5, 4), 0.0),
    "cbam at one place": (lambda: GatedUnits(GATES["cbam, serial"]), (3, 6, 1, 1), 0.0),
}


def values_and_gradients(operation: nn.Module, x: Tensor, compiled: bool) -> list[Tensor]:
    with fused.kernels() if compiled else nullcontext():
        y = operation(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    parameters = [p for p in operation.parameters() if p.requires_grad]
    buffers = [b.double() for b in operation.buffers()]
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *parameters]), *buffers]


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_torchs(name: str) -> None:
    """To rounding; where torch's own float32 is further off, as behind norms of few values, to ten times that."""
    make, shape, offset = OPERATIONS[name]
    x = (feature_map(*shape).detach() + offset).requires_grad_()
    ours, torchs = (values_and_gradients(make(), x, compiled) for compiled in (True, False))
    reference = values_and_gradients(make().double(), x.detach().double().requires_grad_(), compiled=False)
    for a, b, exact in zip(ours, torchs, reference, strict=True):
        known = 10 * float((b.double() - exact).abs().max())
        atol = max(known, 1e-5 if offset == 0 else 1e-3)
        torch.testing.assert_close(a.double(), exact.double(), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("name", ["channel gate", "spatial gate", "cbam, serial"])
def test_ties_share_the_gradient_of_a_maximum(name: str) -> None:
    """On whole numbers nearly every maximum is reached more than once."""
    gate = GatedUnits(GATES[name]).gates[0]
    x = (2 * feature_map(3, 6, 5, 4).detach()).round().requires_grad_()

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = gate

        def forward(self, x: Tensor) -> Tensor:
            return gated(self.gate, x)

    ours = values_and_gradients(Alone(), x, compiled=True)
    torch.testing.assert_close(ours[:-3], values_and_gradients(Alone(), x, compiled=False)[:-3])


def test_a_backward_pass_that_ends_early_leaves_the_next_one_right() -> None:
    gate, x = GatedUnits(GATES["cbam, serial"]).gates[0].eval(), feature_map(3, 6, 5, 4)
    weight = next(gate.parameters())
    with fused.kernels():
        loss = gated_add_relu(gate, x.sin(), x).sum()
    (first,) = torch.autograd.grad(loss, weight, retain_graph=True)
    both = torch.autograd.grad(loss, (weight, x))
    expected = torch.autograd.grad(gated_add_relu(gate, x.sin(), x).sum(), (weight, x))
    torch.testing.assert_close((first, *both), (expected[0], *expected))


def passes(x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Maps of every kind of pass, and a sum of them that gives all one gradient, or views of it."""
    torch.manual_seed(3)
    norms, gate = [nn.BatchNorm2d(6) for _ in range(4)], SE(6, ratio=2)
    maps = [norm_relu(norms[0], x.sin()), norm_add_relu(norms[1], x.cos(), x), add_relu(x.exp(), x)]
    maps += [gated_add_relu(gate, x, x), gated(gate, x)]
    total: Tensor = sum(maps) + norms[3](x).view(x.shape)
    return maps, total * feature_map(3, 6, 5, 4, seed=3).detach()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_that_somebody_else_holds_is_not_written_over(compiled: bool) -> None:
    """The maps' gradients are one tensor: of each other, of a hook, of who asked for it, and of who gave it."""
    x, kept = feature_map(3, 6, 5, 4), list[Tensor]()
    with fused.kernels() if compiled else nullcontext():
        maps, out = passes(x)
    for y in maps:
        y.register_hook(kept.append)
    outside = feature_map(3, 6, 5, 4, seed=2).detach()
    before, expected = outside.clone(), outside * feature_map(3, 6, 5, 4, seed=3).detach()
    gradients = torch.autograd.grad(out, [x, *maps], outside)
    torch.testing.assert_close([*kept, *gradients[1:], outside], [expected] * 10 + [before], rtol=0, atol=0)
    plain = x.detach().requires_grad_()
    torch.testing.assert_close(gradients[0], torch.autograd.grad(passes(plain)[1], plain, outside)[0])


def test_a_gradient_that_a_hook_keeps_is_not_written_over() -> None:
    kept: list[Tensor] = []
    with fused.kernels():
        y = norm_relu(nn.BatchNorm2d(6), feature_map(3, 6, 5, 4))
    y.register_hook(kept.append)
    (y * y).sum().backward()
    torch.testing.assert_close(kept, [2 * y.detach()])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_map_changed_in_place_is_refused_as_torch_refuses_it(compiled: bool) -> None:
    """A ReLU's backward reads its output."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values_and_gradients(Residual(changed=True), feature_map(5, 6, 7, 4), compiled)


def test_a_shortcut_changed_in_place_is_read_as_it_is() -> None:
    """Its second handle knows nothing of the change."""
    x = feature_map(3, 6, 5, 4)

    def changed(x: Tensor) -> Tensor:
        y = add_relu(x.sin(), x)
        return add_relu(x, y.detach().mul_(2) + y)

    with fused.kernels():
        ours = changed(x)
    torch.testing.assert_close(ours, changed(x))


def test_what_is_watched_is_called() -> None:
    """A hook on a gate, on a part of it or on a norm sees what it would see of torch's."""
    seen: list[str] = []
    x, gate, norm = feature_map(3, 6, 5, 4), CBAM(6, ratio=2), nn.BatchNorm2d(6)
    gate.channel.register_forward_hook(lambda *_: seen.append("channel"))
    norm.register_forward_hook(lambda *_: seen.append("norm"))
    with fused.kernels():
        gated_add_relu(gate, norm_relu(norm, x), x)
    assert seen == ["norm", "channel"]


@pytest.mark.parametrize("block", ["none", "cbam"])
def test_validation_is_torchs(block: str) -> None:
    model = small(block).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
    x = feature_map(8, 3, 16, 16).detach()
    with torch.inference_mode():
        expected = model(x)
        with fused.kernels():
            torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_the_kernels_are_what_computes() -> None:
    x, norm, gate = feature_map(4, 6, 5, 4), nn.BatchNorm2d(6), SE(6, ratio=2)
    with fused.kernels():
        made = [norm(x), norm_relu(norm, x), norm_add_relu(norm, x, x), add_relu(x, x)]
        made += [gated(gate, x), gated_add_relu(gate, x, x), conv(7)(feature_map(3, 2, 9, 8))]
    for y, name in zip(made, ("Norm", "Norm", "Norm", "AddRelu", "Gated", "Gated", "Unsqueeze"), strict=True):
        assert name in str(y.grad_fn)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_stays_visible(bad: float, dtype: torch.dtype) -> None:
    x = feature_map(2, 4, 3, 3, dtype=dtype).detach()
    x[1, 2, 1, 1] = bad
    x.requires_grad_()
    with fused.kernels(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        results = [norm_relu(nn.BatchNorm2d(4), x), add_relu(x, x)]
        results += [gated(gate, x) for gate in (SE(4), ChannelGate(4), SpatialGate(4), CBAM(4))]
    assert [not bool(y.isfinite().all()) for y in results] == [True] * len(results)


def test_bfloat16_agrees_to_one_step() -> None:
    x = feature_map(8, 16, 6, 6, dtype=torch.bfloat16)
    norm = nn.BatchNorm2d(16)
    ours = values_and_gradients(copy.deepcopy(norm), x, compiled=True)
    torchs = values_and_gradients(copy.deepcopy(norm), x, compiled=False)
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("fault", [ImportError("no Numba"), RuntimeError("no locator available")])
def test_without_kernels_torch_trains(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def refuse(name: str) -> None:
        raise fault

    fused.available.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("attnsearch.train.fused.importlib.import_module", refuse)
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
        with fused.kernels() if compiled else nullcontext():
            loss = model(x).square().sum()
        gradients.append(
            torch.cat([g.double().flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
        )
    exact, torchs, ours = gradients
    assert (ours - exact).norm() <= 10 * (torchs - exact).norm() + 1e-6 * exact.norm()


FRESH = """
import hashlib, numpy as np
from attnsearch.train.images import DeviceData
from attnsearch.train.fused import norm_kernels as kernels
drawn = np.random.default_rng(0)
def some(*shape): return drawn.standard_normal(shape).astype(np.float32)
x, y, g, out = some(64, 512), some(64, 512), some(64, 512), some(64, 512)
stats = kernels.norm(x, some(16), some(16), (some(16), some(16)), 0.1, 1e-5, True, None, y)
parameters = kernels.norm_back(g, None, x, None, stats, True, None, out)
print(hashlib.sha256(b"".join(a.tobytes() for a in (stats, y, parameters, out))).hexdigest())
"""


def test_what_has_just_been_compiled_rounds_as_what_was_read_from_the_disk(tmp_path: Path) -> None:
    """Otherwise a first run could not be repeated."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    printed = [
        subprocess.run(
            [sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbc"))
    assert printed[0].stdout == printed[1].stdout != ""


def test_a_trial_is_the_same_twice_and_after_another() -> None:
    recipe, data = Recipe(epochs=2, batch_size=32, lr=0.05), images()

    def trial(block: str) -> list[float]:
        return [e.train_loss for e in fit(small(block), data, recipe, seed=7)]

    first = trial("cbam")
    trial("se")
    assert trial("cbam") == first
