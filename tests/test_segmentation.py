"""PMFSNet against the sizes its authors publish, and that a mask comes out for images and volumes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from attnsearch.build.segmentation import PMFSNet
from attnsearch.core.errors import BlockError
from attnsearch.cost.measure import measure


@pytest.mark.parametrize(
    ("size", "dim", "channels", "params"),
    [("basic", "2d", 3, 987_013), ("tiny", "3d", 1, 634_873), ("tiny", "2d", 3, 330_917)],
)  # the first two published as 0.99 M and 0.63 M
def test_published_sizes(size: str, dim: str, channels: int, params: int) -> None:
    with torch.device("meta"):
        model = PMFSNet(size, dim="3d" if dim == "3d" else "2d", in_channels=channels)
    assert sum(p.numel() for p in model.parameters()) == params


def test_published_operations() -> None:
    """2D-BASIC is published with 2.21 G operations; they count some beside multiply-adds."""
    with torch.device("meta"):
        model = PMFSNet("basic").eval()
    assert measure(model, (3, 224, 224)).macs == pytest.approx(2.21e9, rel=0.05)


@pytest.mark.parametrize("size", ["basic", "small", "tiny"])
@pytest.mark.parametrize("extents", [(16, 24), (16, 8, 24)])
def test_a_score_per_place(size: str, extents: Sequence[int]) -> None:
    model = PMFSNet(size, dim="3d" if len(extents) == 3 else "2d", classes=3, in_channels=1)
    out = model(torch.randn(2, 1, *extents))
    assert out.shape == (2, 3, *extents)
    out.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_it_cannot_take() -> None:
    with pytest.raises(BlockError, match=r"unknown size 'tinny'.*'tiny'"):
        PMFSNet("tinny")
    with pytest.raises(BlockError, match=r"\(16, 20\) are not multiples of 8"):
        PMFSNet("tiny")(torch.randn(1, 3, 16, 20))
