"""Random numbers of augmentations, all from the generator that is handed in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

QUANTILES = 4096  # of Beta(a, a), between which is interpolated


def by_choice(choices: Tensor, count: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """(choice, rows that made it) for each that was made; choices (N,) stand on the CPU, where asking costs no wait."""
    for choice in range(count):
        rows = (choices == choice).nonzero()[:, 0]
        if len(rows):
            yield choice, rows.to(device, non_blocking=True)


def uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Numbers from 0 to below 1, drawn where the generator lives."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device, non_blocking=True)


def draw(high: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) numbers of 0..high-1, drawn where the generator lives: one on the CPU gives a GPU the same."""
    drawn = torch.randint(high, (count,), generator=generator, device=generator.device)
    return drawn.to(device, non_blocking=True)


def beta(a: float, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) numbers of Beta(a, a), by its quantiles: torch draws it from no generator but its own."""
    place = uniform((count,), generator, device) * QUANTILES
    at = place.long().clamp_(max=QUANTILES - 1)
    table = _quantiles(a, device)
    return torch.lerp(table[at], table[at + 1], place - at)


@lru_cache(maxsize=4)
def _quantiles(a: float, device: torch.device) -> Tensor:
    """(QUANTILES + 1,) of Beta(a, a), kept on the device."""
    from scipy.special import betaincinv

    shares = torch.arange(QUANTILES + 1, dtype=torch.float64) / QUANTILES
    return torch.from_numpy(betaincinv(a, a, shares.numpy())).float().to(device)
