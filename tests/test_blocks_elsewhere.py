"""Every gate and conv block in torch.fx, in TorchScript and in half precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.test_blocks import FORMS, GATES, build, random_map, stir

forms = pytest.mark.parametrize(("name", "options"), FORMS, ids=lambda value: str(value) if value else "")
PAIRWISE = ("danet_pam", "nonlocal")  # (H W)^2 scores an image


def ready(name: str, options: dict, training: bool) -> nn.Module:
    return stir(build(name, **options)).train(training)


@pytest.mark.parametrize("training", [False, True])
@forms
def test_traced_by_fx_at_any_size(name: str, options: dict, training: bool) -> None:
    block = ready(name, options, training)
    traced = torch.fx.symbolic_trace(copy.deepcopy(block))
    assert len(list(traced.parameters())) == len(list(block.parameters()))
    for size in ((6, 5), (1, 1), (8, 8)):
        x = random_map(2, 64, *size)
        torch.testing.assert_close(traced(x), block(x))


@forms
def test_scripted_at_any_size(name: str, options: dict) -> None:
    block = ready(name, options, training=False)
    scripted = torch.jit.script(block)
    for size in ((6, 5), (1, 1), (8, 8)):
        x = random_map(2, 64, *size)
        torch.testing.assert_close(scripted(x), block(x))
    scripted.train()(random_map(1, 64, 1, 1))


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "deviation"),
    [
        (56, 8.0),
        pytest.param(256, 8.0, marks=pytest.mark.slow),
        pytest.param(256, 1.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("name", "options"), GATES, ids=lambda value: str(value) if value else "")
def test_half_precision_stays_within_one_percent(
    name: str, options: dict, size: int, deviation: float
) -> None:
    """Of the largest output, float64 on the same rounded weights and input; pairwise attention on what fits it."""
    if name.partition(".")[0] in PAIRWISE:
        size, deviation = min(size, 56), 1.0
    torch.manual_seed(0)
    block = build(name, **options).eval().half()
    x = (deviation * random_map(1, 64, size, size)).half()
    exact = copy.deepcopy(block).double()(x.double())
    out = block(x)
    assert out.dtype == torch.float16
    assert ((out.double() - exact).abs().max() / exact.abs().max()).item() < 0.01
