"""Costs: golden networks, and two spellings of one computation that must give one number."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import ActivationCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnsearch import create_block, create_model
from attnsearch.blocks import registry
from attnsearch.core.costs import COSTS
from attnsearch.core.errors import CostError, EnvironmentFault
from attnsearch.cost.counting import ELEMENTWISE
from attnsearch.cost.measure import (
    Cost,
    count_block,
    explain_unknown,
    latency,
    measure,
    measure_made,
    peak_memory,
)

IMAGE = (8, 6, 6)


class Apply(nn.Module):
    """A function as a module, with some parameters to use."""

    def __init__(self, function, **parts: nn.Module):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts.values())


def cost_of(function, image=IMAGE, **parts: nn.Module) -> Cost:
    return measure(Apply(function, **parts), image)


# ----------------------------------------------------------------- golden networks


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout))


class Unit(nn.Module):
    """Basic (expansion 1) or bottleneck (4) unit of a ResNet v1.5."""

    def __init__(self, cin: int, planes: int, stride: int, expansion: int):
        super().__init__()
        out, relu = planes * expansion, nn.ReLU()
        if expansion == 1:
            self.branch = nn.Sequential(conv_bn(cin, planes, 3, stride), relu, conv_bn(planes, planes, 3))
        else:
            inner = (conv_bn(cin, planes, 1), relu, conv_bn(planes, planes, 3, stride), relu)
            self.branch = nn.Sequential(*inner, conv_bn(planes, out, 1))
        self.shortcut = conv_bn(cin, out, 1, stride) if stride > 1 or cin != out else None

    def forward(self, x: Tensor) -> Tensor:
        same = self.shortcut(x) if self.shortcut else x
        return F.relu(self.branch(x) + same)


def resnet(units, expansion=1, width=64, classes=1000, cifar_stem=False, mean=False) -> nn.Sequential:
    stem = (
        [conv_bn(3, width, 3), nn.ReLU()]
        if cifar_stem
        else [conv_bn(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    )
    layers, cin = stem, width
    for stage, count in enumerate(units):
        for i in range(count):
            stride = 2 if stage and not i else 1
            layers.append(Unit(cin, width << stage, stride, expansion))
            cin = (width << stage) * expansion
    pool = Apply(lambda x: x.mean((2, 3))) if mean else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(cin, classes))


CIFAR = {"classes": 10, "cifar_stem": True}
# Torchvision's networks, and CIFAR-size ones: size, params, macs, fvcore's total.
GOLDEN = {
    "resnet18": (resnet((2, 2, 2, 2)), 224, 11_689_512, 1_814_073_344, 1_819_065_856),
    "resnet34": (resnet((3, 4, 6, 3)), 224, 21_797_672, 3_663_761_408, 3_671_262_720),
    "resnet50": (resnet((3, 4, 6, 3), 4), 224, 25_557_032, 4_089_184_256, 4_111_512_576),
    "resnet18_cifar": (resnet((2, 2, 2, 2), mean=True, **CIFAR), 32, 11_173_962, 555_422_720, 556_651_520),
    "resnet50_cifar": (
        resnet((3, 4, 6, 3), 4, mean=True, **CIFAR),
        32,
        23_520_842,
        1_297_829_888,
        1_304_694_784,
    ),
    "resnet20": (resnet((3, 3, 3), width=16, **CIFAR), 32, 272_474, 40_813_184, 41_218_688),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_networks(name):
    model, size, params, macs, fvcore = GOLDEN[name]
    cost = measure(model, (3, size, size))
    assert (cost.params, cost.macs, cost.fvcore) == (params, macs, fvcore)


def test_macs_are_half_of_what_pytorch_counts():
    model = resnet((1, 1, 1), 4, width=16, cifar_stem=True).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert 2 * measure(model, (3, 32, 32)).macs == counter.get_total_flops()


# ----------------------------------------------------------------- two spellings, one number


def relu6_gate(x: Tensor) -> Tensor:
    return x * F.relu6(x + 3) / 6


def attention_by_hand(q: Tensor) -> Tensor:
    return (q @ q.transpose(-2, -1) * 0.5).softmax(-1) @ q


def softmax_by_hand(x: Tensor) -> Tensor:
    e = (x - x.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


def norm_by_hand(x: Tensor) -> Tensor:
    centred = x - x.mean((1, 2, 3), keepdim=True)
    return centred / centred.square().mean((1, 2, 3), keepdim=True)  # (the root and eps are O(1))


LINEAR, CONV1 = nn.Linear(8, 5), nn.Conv2d(8, 5, 1)
SPELLINGS = {
    "global mean": (
        lambda x: x.mean((2, 3)),
        nn.AdaptiveAvgPool2d(1),
        lambda x: F.avg_pool2d(x, x.shape[2:]),
        lambda x: x.flatten(2).mean(-1),
        lambda x: x.sum((2, 3)),
    ),
    "global max": (
        lambda x: x.amax((2, 3)),
        nn.AdaptiveMaxPool2d(1),
        lambda x: F.max_pool2d(x, x.shape[2:]),
        lambda x: x.flatten(2).max(-1).values,
    ),
    "strip pool": (lambda x: x.mean(3, keepdim=True), nn.AdaptiveAvgPool2d((None, 1)), nn.AvgPool2d((1, 6))),
    "halve": (nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3), lambda x: F.avg_pool2d(x, 2, 2)),
    "halve by max": (nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(3)),
    "multiply": (lambda x: x * x, lambda x: torch.mul(x, x), lambda x: x.square(), lambda x: x**2),
    "gate": (
        lambda x: x * x[:, :, :1, :1],
        lambda x: x * x[:, :, :1, :1].expand_as(x),
        lambda x: x[:, :, :1, :1].expand(-1, -1, 6, 6).mul(x),
        lambda x: torch.einsum("bchw,bc->bchw", x, x[:, :, 0, 0]),
    ),
    "sigmoid": (
        torch.sigmoid,
        nn.Sigmoid(),
        lambda x: x.sigmoid(),
        lambda x: (x * 1.0).sigmoid_() if False else x.sigmoid(),
    ),
    "relu": (F.relu, nn.ReLU(), lambda x: x.clamp(min=0)),
    "silu": (nn.SiLU(), lambda x: x * x.sigmoid()),
    "hardswish": (nn.Hardswish(), relu6_gate),
    "hardsigmoid": (nn.Hardsigmoid(), lambda x: F.relu6(x + 3) / 6),
    "softmax": (nn.Softmax(1), lambda x: x.softmax(1), lambda x: F.softmax(x, 1)),
    "concatenate": (lambda x: torch.cat([x, x[:, :2]], 1), lambda x: torch.cat([x[:, :2], x], 1)),
    "flatten": (lambda x: x.view(1, -1) + 1, lambda x: x.flatten(1) + 1, lambda x: x.reshape(1, 288) + 1),
    "scaled add": (lambda x: torch.add(x, x, alpha=0.5), lambda x: x + 0.5 * x),
    "pointwise": (
        lambda x: CONV1(x),
        lambda x: LINEAR(x.permute(0, 2, 3, 1)),
        lambda x: F.conv2d(x, CONV1.weight) + cast(Tensor, CONV1.bias)[:, None, None],
        lambda x: torch.einsum("oc,bchw->bohw", LINEAR.weight, x) + LINEAR.bias[:, None, None],
    ),
    "attention": (attention_by_hand, lambda q: F.scaled_dot_product_attention(q, q, q)),
}
PAIRS = [(name, i) for name, group in SPELLINGS.items() for i in range(1, len(group))]


@pytest.mark.parametrize(("name", "i"), PAIRS)
def test_two_spellings_one_number(name, i):
    first, other = cost_of(SPELLINGS[name][0]), cost_of(SPELLINGS[name][i])
    assert first.flops > 0 or name == "concatenate"
    assert (other.macs, other.flops) == (first.macs, first.flops)


# ----------------------------------------------------------------- by pencil

PENCIL = {  # (8, 6, 6): 288 elements; macs, flops, activations, bytes moved at 4 bytes per element
    "multiply": (lambda x: x * x, 0, 288, 0, 4 * (288 + 288 + 288)),
    "mean": (lambda x: x.mean((2, 3)), 0, 288, 0, 4 * (288 + 8)),
    "gate": (lambda x: x * x[:, :, :1, :1], 0, 288, 0, 4 * (288 + 8 + 288)),
    "expanded gate": (lambda x: x * x[:, :, :1, :1].expand_as(x), 0, 288, 0, 4 * (288 + 8 + 288)),
    "1x1 convolution": (nn.Conv2d(8, 5, 1), 1440, 2 * 1440 + 180, 180, 4 * (288 + 40 + 5 + 180)),
    "depthwise 3x3": (nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), 2592, 5184, 288, 4 * (288 + 72 + 288)),
    "transposed 2x2/2": (nn.ConvTranspose2d(8, 4, 2, 2, bias=False), 4608, 9216, 576, 4 * (288 + 128 + 576)),
    "batch norm": (nn.BatchNorm2d(8), 0, 576, 0, 4 * (288 + 4 * 8 + 288)),
    "group norm": (nn.GroupNorm(2, 8), 0, 7 * 288, 0, 4 * (288 + 2 * 8 + 288)),
    "group norm without affine": (nn.GroupNorm(2, 8, affine=False), 0, 5 * 288, 0, 4 * (288 + 288)),
    "instance norm": (nn.InstanceNorm2d(8), 0, 5 * 288, 0, 4 * (288 + 288)),
    "max pool 3/2": (nn.MaxPool2d(3, 2, 1), 0, 9 * 72, 0, 4 * (288 + 72)),
    "adaptive pool to 4": (
        nn.AdaptiveAvgPool2d(4),
        0,
        8 * 8 * 8,
        0,
        4 * (288 + 128),
    ),  # windows of 2, 8 per side
    "softmax": (lambda x: x.softmax(1), 0, 5 * 288, 0, 4 * (288 + 288)),
    "bilinear to 12": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 0, 7 * 1152, 0, 4 * 1440),
    "Fourier over channels": (lambda x: torch.fft.rfft(x, dim=1), 0, 5 * 288 * 3 // 2, 0, 4 * 288 + 8 * 180),
    "matrix and vector": (lambda x: x.flatten(1) @ x.flatten(), 288, 576, 1, 4 * (288 + 288 + 1)),
    "standard deviation": (lambda x: x.std((2, 3)), 0, 4 * 288, 0, 4 * (288 + 8)),
    "Euclidean norm": (lambda x: x.norm(dim=(2, 3)), 0, 2 * 288, 0, 4 * (288 + 8)),
    "view": (lambda x: x.flatten(1).unflatten(1, (8, 36)), 0, 0, 0, 0),
    "copy": (lambda x: x.transpose(2, 3).contiguous(), 0, 0, 0, 4 * (288 + 288)),
}


@pytest.mark.parametrize("name", PENCIL)
def test_by_pencil(name):
    function, *expected = PENCIL[name]
    cost = measure(function, IMAGE) if isinstance(function, nn.Module) else cost_of(function)
    assert [cost.macs, cost.flops, cost.activations, cost.bytes_moved] == expected


def test_half_precision_moves_half_the_bytes():
    block = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
    assert 2 * measure(block.bfloat16(), IMAGE).bytes_moved == measure(block.float(), IMAGE).bytes_moved


def test_volumes_and_lists_of_maps():
    assert measure(nn.Conv3d(2, 4, 3, padding=1, bias=False), (2, 5, 6, 7)).macs == 2 * 4 * 27 * 5 * 6 * 7

    class Neck(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 3, 1, bias=False), nn.Conv2d(8, 3, 1, bias=False)

        def forward(self, maps):
            return F.max_pool2d(self.a(maps[0]), 2) + self.b(maps[1])

    cost = measure(Neck(), [(4, 8, 8), (8, 4, 4)])
    assert cost.macs == cost.fvcore == 4 * 3 * 64 + 8 * 3 * 16


# ----------------------------------------------------------------- what a count leaves out


def test_an_unknown_operation_is_listed_and_the_rest_counted_until_it_has_a_rule(monkeypatch):
    cost = cost_of(lambda x: x.erfinv() + x.erfinv())
    assert cost.unknown == cost.uncounted == {"aten::erfinv": 2}
    assert cost.flops == 288  # the sum
    assert "ELEMENTWISE['erfinv']" in explain_unknown(cost.unknown)
    monkeypatch.setitem(ELEMENTWISE, "erfinv", lambda args, out: 20 * out.numel())
    assert cost_of(lambda x: x.erfinv()).flops == 20 * 288


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.LSTM(8, 8), (9, 8), 4_608),  # 9 steps x 4 gates x (8 x 8 + 8 x 8)
        (nn.LSTM(8, 8, 2, batch_first=True, bidirectional=True), (9, 8), 2 * 4_608 + 2 * 6_912),
        (nn.GRU(8, 8), (9, 8), 3_456),  # 3 gates
        (nn.RNN(8, 8), (9, 8), 1_152),
    ],
    ids=["lstm", "lstm, 2 layers, both ways", "gru", "rnn"],
)
def test_recurrent_layers_count_every_step(module, shape, macs, real):
    cost = measure(module, shape, computed=real)
    assert (cost.macs, cost.unknown) == (macs, {})
    assert cost.flops == measure(module, shape, computed=not real).flops  # fused or step by step


def test_bilinear_layers_and_affine_grids_count_their_products():
    bilinear = cost_of(lambda x, layer: layer(x, x), (9, 8), layer=nn.Bilinear(8, 8, 5))
    assert bilinear.macs == 9 * 5 * 8 * 8
    grid = cost_of(lambda x: F.affine_grid(x[:, 0, :2, :3], (1, 3, 4, 5), align_corners=False), (3, 4, 4))
    assert grid.macs == 4 * 5 * 2 * 3


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.clone().as_strided_((1, 288), (288, 1)),
        lambda x: x.unsafe_chunk(2, 1)[0],
        lambda x: x.unsafe_split(1, 1)[0],
        lambda x: torch.unsafe_split_with_sizes(x, [1, x.shape[1] - 1], 1)[0],
        lambda x: x.clone().transpose_(1, 2).squeeze_(0).unsqueeze_(0),
        lambda x: marked(x),
    ],
    ids=["as_strided_", "unsafe_chunk", "unsafe_split", "with sizes", "in-place views", "profiler mark"],
)
def test_what_does_no_arithmetic_is_no_obstacle(view):
    cost = cost_of(view)
    assert (cost.flops, cost.unknown) == (0, {})


def marked(x):
    with torch.profiler.record_function("here"):
        return x.flatten(1)


def test_a_wrapped_model_counts_as_the_one_inside():
    conv = nn.Conv2d(8, 3, 3)
    assert measure(nn.DataParallel(conv), IMAGE).macs == measure(conv, IMAGE).macs
    assert cost_of(lambda x: F.one_hot((x > 0).long(), 2)).unknown == {}


def test_operations_without_arithmetic_are_listed_with_their_calls():
    cost = cost_of(lambda x: torch.cat([x, x], 1).clone().flatten(1).relu())
    assert cost.uncounted == {"aten::cat": 1, "aten::clone": 1}


def test_attention_is_never_free():
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    cost = cost_of(lambda x, mha: mha(x, x, x, need_weights=False)[0], (10, 8), mha=module)
    assert cost.macs == 4 * 10 * 8 * 8 + 2 * 10 * 10 * 8
    assert cost.flops >= 2 * cost.macs + 5 * 2 * 10 * 10


def test_a_pass_that_looks_at_values_is_counted_for_real():
    model = Apply(
        lambda x, conv: conv(x) + torch.rand(1) if x.sum().item() == 0 else x,
        conv=nn.Conv2d(8, 8, 1, bias=False),
    )
    before = torch.get_rng_state()
    assert measure(model, IMAGE).macs == 64 * 36
    assert torch.equal(before, torch.get_rng_state())


def test_a_wrong_shape_is_said():
    with pytest.raises(CostError, match=r"does not run on an image of shape \(1, 28, 28\)"):
        measure(nn.Conv2d(3, 4, 3), (1, 28, 28))
    for image in ((3, 0, 28), (3, 2.5, 28), 224):
        with pytest.raises(CostError, match="whole numbers above 0"):
            measure(nn.Conv2d(3, 4, 3), image)


# ----------------------------------------------------------------- the model stays as found


class Untidy(nn.Module):
    """Draws random numbers, keeps what it saw, changes a buffer, and carries a plain tensor."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout()
        self.register_buffer("calls", torch.zeros(()))
        self.table, self.seen = torch.arange(8.0)[:, None, None], None

    def forward(self, x):
        self.calls += 1
        self.seen = self.drop(self.norm(self.conv(x))) * self.table + torch.rand_like(x[:, :, 2:, 2:])
        return self.seen


def test_measuring_leaves_the_model_as_found():
    model = Untidy()
    model.norm.eval()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    hook = model.register_forward_hook(lambda *_: None)
    before, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    keys, random = [list(vars(module)) for module in model.modules()], torch.get_rng_state()
    cost = measure(model, IMAGE)
    assert cost.fvcore > 0
    peak_memory(model, IMAGE, batch=2, training=True)
    latency(model, IMAGE, repeats=1)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == flags
    assert [list(vars(module)) for module in model.modules()] == keys
    assert model.seen is None
    assert model.conv.weight.grad.sum() == model.conv.weight.numel()
    assert list(model._forward_hooks) == [hook.id]
    assert torch.equal(random, torch.get_rng_state())


def test_values_flags_and_device_do_not_matter():
    model = resnet((1, 1), width=8, cifar_stem=True)
    first = measure(model, (3, 16, 16))
    assert measure(model.eval(), (3, 16, 16)) == first
    assert measure(model.to("meta"), (3, 16, 16)) == first


# ----------------------------------------------------------------- blocks and tables


GATES = [name for name, facts in registry.blocks().items() if facts.slot == "attention"]


@pytest.mark.parametrize("name", GATES)
def test_every_gate_is_countable_and_agrees_with_pytorch(name):
    block = create_block(name, 64).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(torch.zeros(1, 64, 14, 14))
    cost = count_block(name, 64, 14, 14)
    assert 2 * cost.macs == counter.get_total_flops()
    assert cost.flops > 2 * cost.macs
    assert cost is count_block(name, 64, 14, 14, {})


def with_gates(*names: str | None) -> nn.Sequential:
    """A small network with a gate, or none, behind each of its stages of 16 and 32 channels."""
    stages = (conv_bn(3, 16, 3), conv_bn(16, 32, 3, 2))
    gates = [create_block(name, 16 << i) if name else nn.Identity() for i, name in enumerate(names)]
    return nn.Sequential(*[part for pair in zip(stages, gates, strict=True) for part in pair], nn.ReLU())


@pytest.mark.parametrize("first", ["se", "cbam", "simam"])
@pytest.mark.parametrize("second", ["eca", "mhsa", None])
def test_costs_add_up_over_places(first, second):
    def cost(*names: str | None) -> Cost:
        return measure(with_gates(*names), (3, 8, 8))

    base = cost(None, None)
    table = base + (cost(first, None) - base) + (cost(None, second) - base)
    direct = cost(first, second)
    assert table.as_dict(fvcore=True) == direct.as_dict(fvcore=True)
    assert (table.uncounted, table.fvcore_uncounted) == (direct.uncounted, direct.fvcore_uncounted)
    gate = direct - cost(None, second)
    assert gate.as_dict(fvcore=True) == count_block(first, 16, 8, 8).as_dict(fvcore=True)


def test_the_share_of_each_block():
    model = with_gates("eca", "cbam")
    shares = measure(model, (3, 8, 8)).by_block
    assert {path: share.block for path, share in shares.items()} == {"1": "eca", "3": "cbam"}
    eca = count_block("eca", 16, 8, 8)
    share = shares["1"]
    assert (share.params, share.macs, share.flops) == (eca.params, eca.macs, eca.flops)
    assert share.bytes_moved == eca.bytes_moved


def test_a_cost_travels_to_another_process():
    cost = measure(with_gates("se", None), (3, 8, 8))
    sent = pickle.loads(pickle.dumps(cost))
    assert sent == cost
    assert (sent.fvcore, sent.fvcore_uncounted) == (cost.fvcore, cost.fvcore_uncounted)


# ----------------------------------------------------------------- measured on a device


def test_memory_by_pencil():
    layer = nn.Linear(500, 500, bias=False)  # weight 10^6 bytes, a row of 500 2000 bytes
    assert peak_memory(layer, (500,)).peak_mb == pytest.approx((10**6 + 2000 + 2000) / 1e6)
    chain = nn.Sequential(*[nn.Sequential(nn.Sigmoid()) for _ in range(10)])
    assert peak_memory(chain, (1000,)).peak_mb == pytest.approx(3 * 4000 / 1e6)  # image, one in, one out
    assert peak_memory(chain, (1000,), batch=7).peak_mb == pytest.approx(7 * 3 * 4000 / 1e6)


def test_memory_of_training_by_pencil():
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1000))

        def forward(self, x):
            return x + self.bias

    chain = nn.Sequential(Shift(), *[nn.Sigmoid() for _ in range(10)])
    # image, parameter, ten outputs kept for the backward pass, and there the gradient that comes and the one
    # that goes while the last output still stands: 14 maps of 4000 bytes, and a few scalars
    assert peak_memory(chain, (1000,), training=True).peak_mb == pytest.approx(14 * 4000 / 1e6, abs=50 / 1e6)


def test_latency_says_what_it_holds_for():
    class Nap(nn.Module):
        def forward(self, x):
            time.sleep(0.01)
            return x

    found = latency(Nap(), (3, 4, 4), repeats=5, batch=2, dtype=torch.bfloat16)
    assert 10 <= found.q25_ms <= found.median_ms <= found.q75_ms
    assert (found.n, found.batch, found.dtype, found.threads) == (5, 2, "bfloat16", torch.get_num_threads())
    assert found.device


def test_activations_are_those_of_fvcore():
    block = create_block("mhsa", 64).eval()
    x = torch.zeros(1, 64, 14, 14)
    for model, size in ((block, x), (resnet((1, 1), 4, width=16).eval(), torch.zeros(1, 3, 64, 64))):
        reference = ActivationCountAnalysis(model, size).unsupported_ops_warnings(False)
        assert measure(model, tuple(size.shape[1:])).activations == reference.total()


@pytest.mark.parametrize("name", ["cbam_resnet18_cifar", "epsanet50_small", "resnest50"])
def test_a_computed_count_is_that_of_shapes_alone(name):
    model = create_model(name)
    shapes, computed = measure(model, (3, 64, 64)), measure(model, (3, 64, 64), computed=True)
    assert shapes == computed
    assert shapes.fvcore == computed.fvcore


@pytest.mark.parametrize("computed", [True, False])
def test_a_network_made_to_be_counted_draws_from_no_ones_generator(computed):
    before = torch.get_rng_state()
    cost = measure_made(lambda: nn.Linear(7, 5), (7,), computed=computed)
    assert (cost.params, cost.macs) == (40, 35)
    assert torch.equal(torch.get_rng_state(), before)


def test_mistakes_in_measuring_are_said():
    with pytest.raises(EnvironmentFault, match="Unknown device 'gpu'"):
        latency(nn.Identity(), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentFault, match="'cuda' is not available"):
            peak_memory(nn.Identity(), device="cuda")
    with pytest.raises(CostError, match="at least 1"):
        latency(nn.Identity(), repeats=0)
    with pytest.raises(CostError, match="Expected more than 1 value per channel"):
        peak_memory(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)), (3, 4, 4), training=True)


# ----------------------------------------------------------------- names and units


def test_names_units_and_directions():
    numbers = measure(nn.Conv2d(3, 4, 3), (3, 8, 8)).as_dict(fvcore=True)
    assert set(numbers) == set(COSTS) - {"latency_ms", "memory_mb"}
    assert all(info.unit and info.better == "lower" for info in COSTS.values())


def test_names_come_without_torch():
    code = "import sys, attnsearch.core.costs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_counting_takes_milliseconds():
    model = resnet((3, 4, 6, 3), 4).to("meta")
    measure(model)
    began = time.process_time()
    measure(model)
    assert time.process_time() - began < 0.3
