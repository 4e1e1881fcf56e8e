"""A row of training images as a network sees them, kept with the study: its report must not need the images."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.seeds import derive
from attnsearch.core.study_attrs import SampleImages
from attnsearch.core.trial import Recipe
from attnsearch.data import Data

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 8
BATCH = 64  # images that these may be mixed with
LARGEST = 128  # pixels of a shown image's height: a study's attributes are read often
LOSSLESS = 64  # pixels; larger ones are JPEG
GAP = 4  # pixels between images


def sample_images(data: Data, recipe: Recipe, seed: int) -> SampleImages:
    """Some training images after the recipe's augmentation, drawn by a purpose of their own from the seed."""
    import torch

    from attnsearch.train.augment import augment, mix

    rows = np.sort(np.random.default_rng(derive(seed, "samples")).permutation(len(data.train))[:BATCH])
    images = torch.from_numpy(data.train.images.transpose(0, 2, 3, 1)[rows].transpose(0, 3, 1, 2))
    labels = torch.from_numpy(data.train.labels[rows])
    order = torch.randperm(
        len(rows), generator=torch.Generator().manual_seed(derive(seed, "samples", "order"))
    )
    images, labels = images[order], labels[order]
    names = data.augment if recipe.augment is None else recipe.augment
    noise = torch.Generator().manual_seed(derive(seed, "samples", "augment"))
    changed, _ = mix(augment(images, names, noise), labels, names, noise, len(data.classes))
    shown = changed[:SHOWN].round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    kind, content = _encoded(_side_by_side(shown))
    return SampleImages(
        kind,
        base64.b64encode(content).decode("ascii"),
        tuple(data.classes[label] for label in labels[:SHOWN].tolist()),
        tuple(names),
    )


def _side_by_side(images: NDArray[np.uint8]) -> Image:
    """(N, H, W, C) in one row on white; what has not three colours by its first channel, in grey."""
    from PIL.Image import Resampling, fromarray

    count, height, width, channels = images.shape
    images = images if channels == 3 else images[..., :1]
    row = np.full((height, count * (width + GAP) - GAP, images.shape[3]), 255, np.uint8)
    for number, image in enumerate(images):
        left = number * (width + GAP)
        row[:, left : left + width] = image
    picture = fromarray(row if row.shape[2] == 3 else row[..., 0])
    if height > LARGEST:
        size = (round(picture.width * LARGEST / height), LARGEST)
        return picture.resize(size, Resampling.BOX)
    return picture


def _encoded(picture: Image) -> tuple[str, bytes]:
    """Format and bytes."""
    kind = "png" if picture.height <= LOSSLESS else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, **({"optimize": True} if kind == "png" else {"quality": 85}))
    return kind, file.getvalue()


__all__ = ["sample_images"]
