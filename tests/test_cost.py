"""Costs: golden networks, and two spellings of one computation that must give one number."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnsearch.cost import Cost, measure

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

    def __init__(self, cin: int, planes: int, stride: int, expansion: int, option_a: bool):
        super().__init__()
        out, relu = planes * expansion, nn.ReLU()
        if expansion == 1:
            self.branch = nn.Sequential(conv_bn(cin, planes, 3, stride), relu, conv_bn(planes, planes, 3))
        else:
            inner = (conv_bn(cin, planes, 1), relu, conv_bn(planes, planes, 3, stride), relu)
            self.branch = nn.Sequential(*inner, conv_bn(planes, out, 1))
        self.pad = out - cin if option_a else 0
        self.shortcut = conv_bn(cin, out, 1, stride) if (stride > 1 or cin != out) and not option_a else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        same = self.shortcut(x) if self.shortcut else x
        if self.pad:
            same = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.pad))
        return F.relu(self.branch(x) + same)


def resnet(units, expansion=1, width=64, classes=1000, cifar_stem=False, option_a=False) -> nn.Sequential:
    stem = (
        [conv_bn(3, width, 3), nn.ReLU()]
        if cifar_stem
        else [conv_bn(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    )
    layers, cin = stem, width
    for stage, count in enumerate(units):
        for i in range(count):
            stride = 2 if stage and not i else 1
            layers.append(Unit(cin, width << stage, stride, expansion, option_a))
            cin = (width << stage) * expansion
    pool = Apply(lambda x: x.mean((2, 3))) if cifar_stem else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(cin, classes))


# Torchvision's networks, and the CIFAR-size one that pools with .mean(): size, params, macs, fvcore's total.
GOLDEN = {
    "resnet18": (resnet((2, 2, 2, 2)), 224, 11_689_512, 1_814_073_344, 1_819_065_856),
    "resnet34": (resnet((3, 4, 6, 3)), 224, 21_797_672, 3_663_761_408, 3_671_262_720),
    "resnet50": (resnet((3, 4, 6, 3), 4), 224, 25_557_032, 4_089_184_256, 4_111_512_576),
    "resnet18_cifar": (
        resnet((2, 2, 2, 2), classes=10, cifar_stem=True),
        32,
        11_173_962,
        555_422_720,
        556_651_520,
    ),
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
        lambda x: F.conv2d(x, CONV1.weight) + CONV1.bias[:, None, None],
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
