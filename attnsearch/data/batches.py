"""Splits on a device, and the numbers that a network sees of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from attnsearch.data.dataset import Split


def on_device(split: Split, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) uint8 in channels-last memory, and labels (N,) int64, on the device.

    On the CPU nothing is copied: the tensors are the cache's memory-map. Do not write to them.
    """
    images = torch.from_numpy(split.images)
    return images.to(device), torch.from_numpy(split.labels).to(device)


def normalise(
    batch: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Images (N, C, H, W) of 0..255 -> (x / 255 - mean) / std, channels-last; mean, std per channel of 0..1."""
    scale, shift = _affine(tuple(mean), tuple(std), batch.device)
    return torch.addcmul(shift, batch.to(torch.float32), scale).to(dtype, memory_format=torch.channels_last)


@lru_cache(maxsize=16)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(scale, shift) of shape (1, C, 1, 1), kept on the device: making them anew would stall a GPU."""
    centre, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    pair = (1 / (255 * spread), -centre / spread)
    scale, shift = (values.float().view(1, -1, 1, 1).to(device) for values in pair)
    return scale, shift
