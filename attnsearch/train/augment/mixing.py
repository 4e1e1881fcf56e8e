"""Mixup and CutMix: images mixed with others of their batch, and labels in the same shares."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from attnsearch.core.augmentations import MIXES, chosen
from attnsearch.train.augment.draws import beta, draw, uniform
from attnsearch.train.augment.pixels import inside_of


def mix(
    batch: Tensor, labels: Tensor, names: Iterable[str], generator: torch.Generator, classes: int
) -> tuple[Tensor, Tensor]:
    """Images mixed with others of their batch, and labels in the same shares.

    Returns:
        float32 images (N, C, H, W) of 0..255 and shares (N, classes); both as they came where no name mixes.
    """
    numbers = {name: number for name, number in chosen(names).items() if name in MIXES}
    if not numbers:
        return batch, labels
    partner = torch.randperm(len(batch), generator=generator, device=generator.device).to(batch.device)
    own = [_MIXES[name](batch, generator, number or 0.0) for name, number in numbers.items()]
    weights, share = own[0]
    if len(own) == 2:
        second = draw(2, len(batch), generator, batch.device).bool()
        weights = torch.where(second[:, None, None, None], own[1][0], weights)
        share = torch.where(second, own[1][1], share)
    images = batch.float()
    hot = F.one_hot(labels, classes).float()
    target = torch.lerp(hot[partner], hot, share[:, None])
    return torch.lerp(images[partner], images, weights), target


def _mixup(batch: Tensor, generator: torch.Generator, a: float) -> tuple[Tensor, Tensor]:
    """Weights of the images' own pixels (N, 1, 1, 1), and share of their own labels (N,)."""
    share = beta(a, len(batch), generator, batch.device)
    return share[:, None, None, None], share


def _cutmix(batch: Tensor, generator: torch.Generator, a: float) -> tuple[Tensor, Tensor]:
    """Weights of the images' own pixels (N, 1, H, W), 0 in a rectangle, and share of their own labels (N,)."""
    count, _, height, width = batch.shape
    side = (1 - beta(a, count, generator, batch.device)).sqrt()
    x, y = uniform((2, count), generator, batch.device)  # the middle
    left, right = ((x + sign * side / 2).mul(width).round() for sign in (-1, 1))
    top, bottom = ((y + sign * side / 2).mul(height).round() for sign in (-1, 1))
    outside = (~inside_of(left, top, right, bottom, height, width)).float()
    return outside, outside.mean((1, 2, 3))  # what the border cuts off is not lost to the label


_MIXES = {"mixup": _mixup, "cutmix": _cutmix}
