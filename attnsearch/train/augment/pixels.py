"""Mirror, shift, and blacken or fill a part of every image; uint8 images (N, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnsearch.train.augment import geometry
from attnsearch.train.augment.draws import draw, uniform

ERASED = (0.02, 0.33)  # share of the area
ERASED_RATIO = 1 / 0.3


def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every image left to right, or not, with even odds."""
    mirrored = draw(2, len(batch), generator, batch.device).bool()
    return torch.where(mirrored[:, None, None, None], batch.flip(3), batch)


def crop(batch: Tensor, generator: torch.Generator, pad: int | None = None) -> Tensor:
    """Shift every image by up to `pad` pixels each way, black where nothing was: pad and crop.

    `pad` is an eighth of the height, so 4 of 32: the custom on CIFAR since He et al. 2016.
    """
    count, channels, height, width = batch.shape
    pad = max(1, height // 8) if pad is None else pad
    top = draw(2 * pad + 1, count, generator, batch.device)
    left = draw(2 * pad + 1, count, generator, batch.device)
    padded = F.pad(batch.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad)).contiguous()
    # Every row of the result is one run of bytes in a padded row; runs gather many times faster than pixels.
    rows = torch.arange(height, device=batch.device)
    starts = (torch.arange(count, device=batch.device) * (height + 2 * pad) + top)[:, None] + rows
    starts = (starts * (width + 2 * pad) + left[:, None]).flatten()
    runs = padded.view(-1).as_strided(
        (padded.numel() // channels - width + 1, width * channels), (channels, 1)
    )
    return runs[starts].view(count, height, width, channels).permute(0, 3, 1, 2)


def cutout(batch: Tensor, generator: torch.Generator, hole: int | None = None) -> Tensor:
    """Blacken one square of every image, centred anywhere, so that it may reach beyond the border.

    DeVries and Taylor 2017, arXiv:1708.04552. `hole` is a quarter of the height, so 8 of 32.
    """
    count, _, height, width = batch.shape
    hole = max(1, height // 4) if hole is None else hole
    top = draw(height, count, generator, batch.device)[:, None] - hole // 2
    left = draw(width, count, generator, batch.device)[:, None] - hole // 2
    y, x = torch.arange(height, device=batch.device), torch.arange(width, device=batch.device)
    inside_y, inside_x = (y >= top) & (y < top + hole), (x >= left) & (x < left + hole)
    inside = (inside_y[:, :, None] & inside_x[:, None, :])[..., None]
    return batch.permute(0, 2, 3, 1).masked_fill(inside, 0).permute(0, 3, 1, 2)


def random_erasing(batch: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """A rectangle of 2 to 33 % of the area filled with even noise, in so many of the images."""
    count, channels, height, width = batch.shape
    boxes, fits = geometry.rectangles(batch, generator, ERASED, ERASED_RATIO)
    erased = fits & (uniform((count,), generator, batch.device) < probability)
    left, top, wide, high = boxes.round().unbind(1)
    inside = inside_of(left, top, left + wide, top + high, height, width) & erased[:, None, None, None]
    noise = torch.randint(
        256, (count, height, width, channels), generator=generator, dtype=torch.uint8, device=generator.device
    )
    return torch.where(inside, noise.permute(0, 3, 1, 2).to(batch.device), batch)


def inside_of(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor, height: int, width: int) -> Tensor:
    """(N, 1, H, W) whether a pixel lies in its image's rectangle; ends in whole pixels, the last ones left out."""
    x, y = torch.arange(width, device=left.device), torch.arange(height, device=left.device)
    across = (x >= left[:, None]) & (x < right[:, None])
    down = (y >= top[:, None]) & (y < bottom[:, None])
    return (down[:, :, None] & across[:, None, :])[:, None]
