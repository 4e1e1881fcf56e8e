"""Several operations, of which every image gets its own: TrivialAugment, and the colour jitter's four in any order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from attnsearch.train.augment import color, geometry
from attnsearch.train.augment.draws import by_choice, draw, uniform

LEVELS = 31  # strengths of TrivialAugment's operations


def color_jitter(batch: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Brightness, contrast and saturation times 1 - s to 1 + s, hue shifted by up to s / 4, in an order of its own."""
    count = len(batch)
    spread = strength * (2 * uniform((4, count), generator, batch.device) - 1)
    order = uniform((count, 4), generator, torch.device("cpu")).argsort(1)
    steps = (color.brightness, color.contrast, color.saturation, color.hue)
    values = (*(1 + spread[:3]), spread[3] / 4)
    batch = batch.clone()
    for turn in range(4):
        for step, rows in by_choice(order[:, turn], 4, batch.device):
            batch[rows] = steps[step](batch[rows], values[step][rows])
    return batch


def trivial_augment(batch: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """One of `OPERATIONS` for each image, at a random level of its strengths and in a random direction."""
    count, device = len(batch), batch.device
    operation = draw(len(OPERATIONS), count, generator, torch.device("cpu"))
    level = strength * draw(LEVELS, count, generator, device) / (LEVELS - 1)
    sign = 2.0 * draw(2, count, generator, device) - 1
    operations = list(OPERATIONS.values())
    changed = batch.clone()
    for number, rows in by_choice(operation, len(operations), device):
        changed[rows] = operations[number](batch[rows], level[rows], sign[rows])
    return changed


Operation = Callable[[Tensor, Tensor, Tensor], Tensor]  # images, level from 0 to 1, -1 or 1


def _moved(
    make: Callable[[Tensor, int, int], Tensor],
    most: float,
    whole: bool,
    batch: Tensor,
    level: Tensor,
    sign: Tensor,
) -> Tensor:
    amount = (level * most).trunc() if whole else level * most
    return geometry.sampled(batch, make(sign * amount, *batch.shape[2:]), "nearest", "zeros")


def _blended(
    change: Callable[[Tensor, Tensor], Tensor], batch: Tensor, level: Tensor, sign: Tensor
) -> Tensor:
    return change(batch, 1 + sign * 0.99 * level)


# TrivialAugmentWide's, with its strengths; at level 0 the first ten leave an image as it is.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda batch, level, sign: batch,
    "shear_x": partial(_moved, geometry.shear_x, 0.99, False),
    "shear_y": partial(_moved, geometry.shear_y, 0.99, False),
    "shift_x": partial(_moved, geometry.shift_x, 32.0, True),
    "shift_y": partial(_moved, geometry.shift_y, 32.0, True),
    "rotate": partial(_moved, geometry.rotate, 135.0, False),
    "brightness": partial(_blended, color.brightness),
    "saturation": partial(_blended, color.saturation),
    "contrast": partial(_blended, color.contrast),
    "sharpness": partial(_blended, color.sharpness),
    "posterize": lambda batch, level, sign: color.posterize(batch, 8 - (6 * level).round()),
    "solarize": lambda batch, level, sign: color.solarize(batch, 255 * (1 - level)),
    "autocontrast": lambda batch, level, sign: color.autocontrast(batch),
    "equalize": lambda batch, level, sign: color.equalize(batch),
}
