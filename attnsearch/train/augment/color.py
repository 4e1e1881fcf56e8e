"""Operations on the colours of uint8 images (N, C, H, W), each image with a factor of its own, (N,).

The definitions are those of `torchvision.transforms.functional`, results rounded to the nearest number of 0..255 where
Pillow and torchvision cut the fraction off, so that the two differ by 1 at most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, of red, green and blue


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """0 is black, 1 the image."""
    return _rounded(images.float() * _each(factors))


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """0 is grey, as light as the image on the whole; 1 the image."""
    x = images.float()
    mean = _grey(x).floor_().mean((1, 2, 3), keepdim=True)
    return _blended(mean, x, factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """0 is the image in grey, 1 the image; nothing where there are no colours."""
    if images.shape[1] != 3:
        return images
    x = images.float()
    return _blended(_grey(x).floor_(), x, factors)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Every colour moved on round the circle of hues; nothing where there are no colours."""
    if images.shape[1] != 3:
        return images
    x = images.float()
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    red, green, blue = x.unbind(1)
    safe = chroma.clamp(min=1.0)
    # In sixths of the circle, by which colour is the largest.
    sixths = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = sixths + 6 * turns.view(-1, 1, 1)
    channels = []
    for offset in (5, 3, 1):
        k = (sixths + offset) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return _rounded(torch.stack(channels, 1))


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """0 is the image smoothed by 3 x 3 pixels, the outermost left as they are; 1 the image."""
    if min(images.shape[2:]) < 3:
        return images
    x = images.float()
    channels = x.shape[1]
    kernel = torch.ones(3, 3, device=x.device)
    kernel[1, 1] = 5.0
    smooth = x.clone()
    inner = F.conv2d(x, (kernel / 13).expand(channels, 1, 3, 3), groups=channels)
    smooth[:, :, 1:-1, 1:-1] = inner.round_()
    return _blended(smooth, x, factors)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The first so many bits of every number; bits (N,) of 0..8."""
    masks = (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    return images & _each(masks)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Numbers from the threshold on are taken from 255."""
    return torch.where(images >= _each(thresholds), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel's least number to 0 and its largest to 255; a channel of one number stays."""
    x = images.float()
    least, most = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    scaled = (x - least) * (255 / (most - least).clamp(min=1.0))
    return torch.where(most > least, _rounded(scaled), images)


def equalize(images: Tensor) -> Tensor:
    """Each channel's numbers spread so that they are as frequent as they can be made; Pillow's `ImageOps.equalize`."""
    count, channels, height, width = images.shape
    flat = images.reshape(count * channels, height * width).long()
    histogram = torch.zeros(len(flat), 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(1, flat, torch.ones_like(flat))
    last = histogram.gather(1, flat.amax(1, keepdim=True))  # of the largest number that occurs
    step = (height * width - last) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    new = torch.where(step > 0, table.gather(1, flat), flat)
    return new.to(torch.uint8).view(count, channels, height, width)


def _grey(x: Tensor) -> Tensor:
    """(N, 1, H, W) lightness; of what has no three colours the mean of its channels."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def _blended(start: Tensor, x: Tensor, factors: Tensor) -> Tensor:
    """The way from `start` to x, a factor long, in place of x; in channels-last memory `torch.lerp` is slower."""
    return _rounded(x.sub_(start).mul_(_each(factors)).add_(start))


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _rounded(x: Tensor) -> Tensor:
    return x.clamp_(0, 255).round_().to(torch.uint8)
