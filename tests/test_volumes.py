"""The 3-D form of PMFS inside a ResNet on volumes: size by formula, shapes, and that it learns where a ball is."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from attnsearch.build.volumes import VolumeResNet
from attnsearch.core.errors import BlockError
from attnsearch.cost.measure import measure


def separable(i: int, o: int, kernel: int) -> int:
    """Parameters of norm, depthwise k^3 and pointwise with bias."""
    return 2 * i + kernel**3 * i + i * o + o


def pmfs_parameters(channels: list[int], w: int) -> int:
    """The published formula of GlobalPMFSBlock_AP_Separate in 3-D, keys and values as wide as w."""
    n = len(channels)
    c = n * w
    return (
        sum(separable(i, w, 3) for i in channels)
        + 2 * separable(c, c, 1)  # channel queries and values
        + separable(c, 1, 1)  # channel key
        + c * c + c + 2 * c  # score and layer norm
        + 3 * separable(c, c, 1)  # queries, keys and values of positions
        + separable(c, c, 1)
        + separable(c, channels[-1], 3)
    )  # fmt: skip


def test_the_neck_adds_what_the_formula_says() -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in VolumeResNet(width=32, neck=neck).parameters())
            for neck in ({"width": 64}, None)
        ]
    assert sizes[0] - sizes[1] == pmfs_parameters([32, 64, 128], 64) == 315_297  # upstream's count


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 24, 8), (9, 17, 12)])
def test_any_extents(shape: tuple[int, int, int]) -> None:
    model = VolumeResNet((1, 1, 1), width=8, classes=3, neck={}).train()
    out = model(torch.randn(2, 1, *shape))
    assert out.shape == (2, 3)
    out.square().sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None for g in grads.values())
    assert (
        sum(bool(g is not None and g.abs().sum() > 0) for g in grads.values()) >= len(grads) - 2
    )  # softmax ignores a key's bias


def test_its_macs_are_torchs() -> None:
    with torch.device("meta"):
        model = VolumeResNet((1, 2, 1), width=8, neck={}).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 1, 16, 16, 16))
    assert measure(model, (1, 16, 16, 16)).macs * 2 == counter.get_total_flops()


def test_it_learns_volumes() -> None:
    """Balls against cubes of the same extent in noise, from 128 volumes: 64 new ones, above 0.9."""
    x, y = volumes(192)
    torch.manual_seed(0)
    model = VolumeResNet((1, 1, 1), width=4, classes=2, neck={})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        batch = torch.arange(32) + 32 * (step % 4)
        optimizer.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        correct = (model.eval()(x[128:]).argmax(1) == y[128:]).float().mean().item()
    assert correct > 0.9


def volumes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    chooser = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    centres = torch.rand(count, 3, generator=chooser) * 3 + 4
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij"), -1)  # (12, 12, 12, 3)
    offsets = grid - centres[:, None, None, None]
    ball, cube = offsets.norm(dim=-1) < 4, offsets.abs().amax(-1) < 4
    solid = torch.where(labels[:, None, None, None] == 0, ball, cube).float()
    return (solid + 0.5 * torch.randn(solid.shape, generator=chooser))[:, None], labels


def test_wrong_options() -> None:
    with pytest.raises(BlockError, match="no option 'widht'"):
        VolumeResNet(neck={"widht": 3})
