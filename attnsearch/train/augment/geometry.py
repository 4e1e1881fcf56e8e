"""Operations on the places of pixels: every image of a batch through an affine map of its own, in one pass.

A map says for a pixel of the result where it comes from: `source = matrix @ place + shift` in pixels, the middle of the
first pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TRIES = 10  # rectangles that are drawn for an image before the whole of it is taken, as torchvision has it


def sampled(images: Tensor, maps: Tensor, mode: str, beyond: str) -> Tensor:
    """uint8 images (N, C, H, W) through maps (N, 2, 3).

    Args:
        mode: `bilinear` or `nearest`.
        beyond: what lies outside an image: `zeros` or `border`.
    """
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    moved = F.grid_sample(
        pixels, _grid(maps, *images.shape[2:]), mode=mode, padding_mode=beyond, align_corners=False
    )
    return moved.round_().to(torch.uint8)


def _grid(maps: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W, 2) sources of the pixels, from -1 to 1 over an image; `F.affine_grid` takes four times as long."""
    x = torch.arange(width, device=maps.device) + 0.5
    y = torch.arange(height, device=maps.device) + 0.5
    grid = torch.empty(len(maps), height, width, 2, device=maps.device)
    for axis, size in enumerate((width, height)):
        across, down, shift = (2 / size * maps[:, axis]).unbind(1)
        columns, rows = across[:, None] * x, down[:, None] * y + (shift - 1)[:, None]
        torch.add(columns[:, None, :], rows[:, :, None], out=grid[..., axis])
    return grid


def random_resized_crop(images: Tensor, generator: torch.Generator, least: float) -> Tensor:
    """A rectangle of an area of `least` to 1 and a ratio of 3:4 to 4:3, scaled to the whole image."""
    count, _, height, width = images.shape
    box, fits = rectangles(images, generator, (least, 1.0), 4 / 3)
    whole = torch.tensor([0.0, 0.0, width, height], device=images.device)
    left, top, wide, high = torch.where(fits[:, None], box, whole).unbind(1)
    maps = torch.zeros(count, 2, 3, device=images.device)
    maps[:, 0, 0], maps[:, 0, 2] = wide / width, left
    maps[:, 1, 1], maps[:, 1, 2] = high / height, top
    return sampled(images, maps, "bilinear", "border")


def rectangles(
    images: Tensor, generator: torch.Generator, area: tuple[float, float], ratio: float
) -> tuple[Tensor, Tensor]:
    """A rectangle in each image: (N, 4) left, top, width and height in pixels, and (N,) whether one was found.

    Args:
        area: least and largest share of the image.
        ratio: width over height is between its inverse and itself, evenly on a logarithmic scale.
    """
    count, _, height, width = images.shape
    drawn = torch.rand(4, count, TRIES, generator=generator, device=generator.device).to(images.device)
    size = (area[0] + (area[1] - area[0]) * drawn[0]) * height * width
    shape = torch.exp((2 * drawn[1] - 1) * math.log(ratio))
    wide, high = (size * shape).sqrt(), (size / shape).sqrt()
    fits = (wide <= width) & (high <= height)
    first = fits.int().argmax(1, keepdim=True)
    wide, high, x, y = (values.gather(1, first)[:, 0] for values in (wide, high, drawn[2], drawn[3]))
    return torch.stack([x * (width - wide), y * (height - high), wide, high], 1), fits.any(1)


def shear_x(amount: Tensor, height: int, width: int) -> Tensor:
    """Rows moved by `amount` pixels for each pixel down, the upper edge staying where it is."""
    maps = _identity(amount)
    maps[:, 0, 1] = amount
    return maps


def shear_y(amount: Tensor, height: int, width: int) -> Tensor:
    """Columns moved by `amount` pixels for each pixel to the right, the left edge staying where it is."""
    maps = _identity(amount)
    maps[:, 1, 0] = amount
    return maps


def shift_x(pixels: Tensor, height: int, width: int) -> Tensor:
    """To the right by whole pixels."""
    maps = _identity(pixels)
    maps[:, 0, 2] = -pixels
    return maps


def shift_y(pixels: Tensor, height: int, width: int) -> Tensor:
    """Downwards by whole pixels."""
    maps = _identity(pixels)
    maps[:, 1, 2] = -pixels
    return maps


def rotate(degrees: Tensor, height: int, width: int) -> Tensor:
    """About the centre, against the clock."""
    angle = torch.deg2rad(degrees)
    maps = _identity(degrees)
    maps[:, 0, 0] = maps[:, 1, 1] = angle.cos()
    maps[:, 0, 1], maps[:, 1, 0] = -angle.sin(), angle.sin()
    centre = torch.tensor([width / 2, height / 2], device=degrees.device)
    maps[:, :, 2] = centre - maps[:, :, :2] @ centre
    return maps


def _identity(values: Tensor) -> Tensor:
    return torch.eye(2, 3, device=values.device).repeat(len(values), 1, 1)
