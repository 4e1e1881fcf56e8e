"""What happens to the training images of a batch: every image in its own way, all from one generator.

Plain torch and not kornia 0.9: that draws from torch's global generator, so that images would depend on whatever else
drew from it, and takes one operation a batch in its automatic policies. Nor is it faster on the whole. Images a second
on one thread (CPU time, median of 5 turns, Intel Xeon with AVX-512 and other work beside, torch 2.13.0+cpu, `python -m
benchmarks.speed.augment`; kornia's on its float32 images, ours on uint8 as they are kept):

                            32 px   kornia    224 px   kornia
    flip                  165,815   97,306     4,166    2,379
    crop                  138,492        -     3,945        -
    random_resized_crop    50,892   23,083     1,187    1,046
    trivial_augment        23,555   22,067       639      639
    color_jitter            8,530    5,880       153      121
    cutout                112,825        -     2,744        -
    random_erasing         46,378   56,490     1,073    1,529
    mixup                  81,551        -     2,028        -
    cutmix                 53,400        -     1,089        -

Normalising, which every batch needs, goes at 117,770 and 2,627. A ResNet-18 trains on about ten images of 224 px a
second and core, so that even the colour jitter costs less than a tenth of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from attnsearch.core.augmentations import MIXES, chosen
from attnsearch.train.augment import geometry, pixels, policy
from attnsearch.train.augment.mixing import mix


def augment(batch: Tensor, names: Iterable[str], generator: torch.Generator) -> Tensor:
    """Change uint8 images (N, C, H, W) at random, each in its own way; the result is a new tensor if anything is.

    Args:
        names: as a recipe has them, see `core.augmentations`; those that change labels are passed over.
        generator: source of all randomness; its state decides the result, whatever the number of threads.
    """
    for name, number in chosen(names).items():
        if name not in MIXES:
            change = CHANGES[name]
            batch = change(batch, generator) if number is None else change(batch, generator, number)
    return batch


# By the names of `core.augmentations`, whose order they are applied in.
CHANGES: dict[str, Callable[..., Tensor]] = {
    "flip": pixels.flip,
    "crop": pixels.crop,
    "random_resized_crop": geometry.random_resized_crop,
    "trivial_augment": policy.trivial_augment,
    "color_jitter": policy.color_jitter,
    "cutout": pixels.cutout,
    "random_erasing": pixels.random_erasing,
}

__all__ = ["CHANGES", "augment", "mix"]
