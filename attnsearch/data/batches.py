"""Splits on a device, and what happens to a batch before the model sees it, always to the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from attnsearch.core.errors import UsageError, unknown
from attnsearch.data.dataset import Split


def on_device(split: Split, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) uint8 in channels-last memory, and labels (N,) int64, on the device.

    On the CPU nothing is copied: the tensors are the cache's memory-map. Do not write to them.
    """
    images = torch.from_numpy(split.images)
    return images.to(device), torch.from_numpy(split.labels).to(device)


def augment(batch: Tensor, names: Iterable[str], generator: torch.Generator) -> Tensor:
    """Change uint8 images (N, C, H, W) at random, each in its own way; the result is a new tensor.

    Args:
        names: of `flip`, `crop` and `cutout`; always applied in that order, whatever theirs.
        generator: source of all randomness; its state decides the result, whatever the number of threads.
    """
    chosen = tuple(names)
    for name in chosen:
        if name not in AUGMENTATIONS:
            raise UsageError(unknown("augmentation", name, AUGMENTATIONS))
    for name, change in AUGMENTATIONS.items():
        if name in chosen:
            batch = change(batch, generator)
    return batch


def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every image left to right, or not, with even odds."""
    mirrored = _draw(2, len(batch), generator, batch.device).bool()
    return torch.where(mirrored[:, None, None, None], batch.flip(3), batch)


def crop(batch: Tensor, generator: torch.Generator, pad: int | None = None) -> Tensor:
    """Shift every image by up to `pad` pixels each way, black where nothing was: pad and crop.

    `pad` is an eighth of the height, so 4 of 32: the custom on CIFAR since He et al. 2016.
    """
    count, channels, height, width = batch.shape
    pad = max(1, height // 8) if pad is None else pad
    top = _draw(2 * pad + 1, count, generator, batch.device)
    left = _draw(2 * pad + 1, count, generator, batch.device)
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
    top = _draw(height, count, generator, batch.device)[:, None] - hole // 2
    left = _draw(width, count, generator, batch.device)[:, None] - hole // 2
    y, x = torch.arange(height, device=batch.device), torch.arange(width, device=batch.device)
    inside_y, inside_x = (y >= top) & (y < top + hole), (x >= left) & (x < left + hole)
    inside = (inside_y[:, :, None] & inside_x[:, None, :])[..., None]
    return batch.permute(0, 2, 3, 1).masked_fill(inside, 0).permute(0, 3, 1, 2)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "crop": crop,
    "cutout": cutout,
}


def normalise(
    batch: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 images (N, C, H, W) -> (x / 255 - mean) / std, channels-last; mean, std per channel of 0..1."""
    scale, shift = _affine(tuple(mean), tuple(std), batch.device)
    return torch.addcmul(shift, batch.to(torch.float32), scale).to(dtype, memory_format=torch.channels_last)


@lru_cache(maxsize=16)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(scale, shift) of shape (1, C, 1, 1), kept on the device: making them anew would stall a GPU."""
    centre, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    pair = (1 / (255 * spread), -centre / spread)
    scale, shift = (values.float().view(1, -1, 1, 1).to(device) for values in pair)
    return scale, shift


def _draw(high: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) numbers of 0..high-1, drawn where the generator lives: one on the CPU gives a GPU the same."""
    drawn = torch.randint(high, (count,), generator=generator, device=generator.device)
    return drawn.to(device, non_blocking=True)
