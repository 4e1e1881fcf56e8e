"""The embedded data sets, made from scikit-learn's 1,797 handwritten digits (UCI, 8×8, ink of 0..16).

`digits` is those images. `cluttered-digits` puts each on a larger noisy colour canvas among fragments of
others, after the cluttered digits of Mnih et al., "Recurrent Models of Visual Attention", NeurIPS 2014: the
class is in a part of the image that has to be found. All arithmetic
is on integers: a seed gives the same bytes everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnsearch.data.dataset import SPLITS, Labels, Pixels, Pool, Rows, Source, in_memory
from attnsearch.data.split import split_three

IMAGES = 8_000
CANVAS = 32
FRAGMENTS = 6
RECIPE = 1  # raise it when any pixel of cluttered-digits changes

Ints = NDArray[np.int64]
CLASSES = tuple("0123456789")


def digits_source(name: str) -> Source:
    """The 8×8 grey digits, split by us."""
    return Source(name, "sklearn digits", _open_digits, augment=("crop",))


def _open_digits() -> Pool:
    ink, labels = _handwritten()
    pixels = (ink * 255 // 16).astype(np.uint8)[..., None]
    note = "scikit-learn's handwritten digits"
    return Pool(CLASSES, {"train": labels}, in_memory({"train": pixels}), channels=1, note=note)


def cluttered_source(name: str, *, images: int, side: int, seed: int) -> Source:
    """So many canvases of side × side pixels; digit images are split first, so none is in two splits."""
    digest = f"cluttered digits, recipe {RECIPE}, {images} images, {side} pixels, seed {seed}"
    return Source(name, digest, lambda: _open_cluttered(images, side, seed), augment=("crop",))


def _open_cluttered(images: int, side: int, seed: int) -> Pool:
    ink, kinds = _handwritten()
    pixels: dict[str, Pixels] = {}
    labels: dict[str, Labels] = {}
    groups: dict[str, Rows] = {}
    share = {"val": images * 15 // 100, "test": images * 15 // 100}
    share["train"] = images - sum(share.values())
    for stream, (split, rows) in enumerate(zip(SPLITS, split_three(kinds, seed), strict=True)):
        rng = np.random.default_rng([seed, stream])
        pixels[split], labels[split], shown = clutter(ink[rows], kinds[rows], share[split], side, rng)
        groups[split] = rows[shown]
    note = "scikit-learn's handwritten digits on cluttered canvases; no digit image is in two splits"
    return Pool(CLASSES, labels, in_memory(pixels), groups=groups, note=note)


def clutter(
    ink: Ints, kinds: Labels, images: int, side: int, rng: np.random.Generator
) -> tuple[Pixels, Labels, Ints]:
    """So many canvases (images, side, side, 3) from digits (N, 8, 8) of 0..16, the class and the digit of each.

    A coloured background of low frequency, halves of six digits 1/4 to 3/8 of the canvas high, then one whole
    digit 3/8 to 9/16 high, each in a colour of its own, then noise. Classes are balanced to one image.
    """
    whole = [_resize(ink, size) for size in range(side * 3 // 8, side * 9 // 16 + 1)]  # [size][digit]
    parts = [_resize(ink, size) for size in range(side // 4, side * 3 // 8 + 1)]
    canvas = _background(images, side, rng)
    labels = rng.permutation(np.arange(images) % len(CLASSES))
    chosen = _one_of_each(labels, kinds, rng)
    draws = rng.integers(1 << 30, size=(images, FRAGMENTS + 1, 5)).tolist()
    colours = rng.integers(160, 256, (images, FRAGMENTS + 1, 3), dtype=np.int32)
    for image, digit in enumerate(chosen):
        for at, (size, other, half, top, left) in enumerate(draws[image]):
            if at < FRAGMENTS:
                patch = _half(parts[size % len(parts)][other % len(ink)], half % 4)
            else:
                patch = whole[size % len(whole)][digit]
            _paint(canvas[image], patch, colours[image, at], top, left)
    for amplitude in (12, 12):
        canvas += rng.integers(-amplitude, amplitude + 1, canvas.shape, dtype=np.int16)
    return canvas.clip(0, 255).astype(np.uint8), labels, chosen


def _one_of_each(labels: Labels, kinds: Labels, rng: np.random.Generator) -> Ints:
    """For every label a digit image of that class, each used as often as the others to one."""
    chosen = np.empty(len(labels), np.int64)
    for kind in range(len(CLASSES)):
        wanted = np.flatnonzero(labels == kind)
        members = rng.permutation(np.flatnonzero(kinds == kind))
        chosen[wanted] = np.resize(members, len(wanted))
    return chosen


def _background(images: int, side: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """(images, side, side, 3) of 16..95: five by five random colours, blended linearly in between."""
    knots = rng.integers(16, 96, (images, 5, 5, 3), dtype=np.int64)
    weights = _linear(5, side)
    rows = np.einsum("ya,iabc->iybc", weights, knots)
    canvas: NDArray[np.int16] = (np.einsum("xb,iybc->iyxc", weights, rows) >> 16).astype(np.int16)
    return canvas


def _paint(
    canvas: NDArray[np.int16], ink: NDArray[np.int16], colour: NDArray[np.int32], top: int, left: int
) -> None:
    """Lay ink (h, w) of 0..256 on the canvas (side, side, 3); its place is taken modulo where it fits."""
    height, width = ink.shape
    top %= canvas.shape[0] - height + 1
    left %= canvas.shape[1] - width + 1
    under = canvas[top : top + height, left : left + width]
    under += ((colour - under) * ink[..., None] >> 8).astype(np.int16)


def _half(ink: NDArray[np.int16], which: int) -> NDArray[np.int16]:
    """The upper, lower, left or right half of a digit."""
    middle = len(ink) // 2
    return (ink[:middle], ink[middle:], ink[:, :middle], ink[:, middle:])[which]


def _resize(ink: Ints, size: int) -> NDArray[np.int16]:
    """Digits (N, 8, 8) of 0..16 -> (N, size, size) of 0..256, linear in both directions."""
    weights = _linear(8, size)
    rows = np.einsum("ya,nab->nyb", weights, ink)
    scaled: NDArray[np.int16] = (np.einsum("xb,nyb->nyx", weights, rows) >> 12).astype(np.int16)
    return scaled


def _linear(knots: int, points: int) -> Ints:
    """(points, knots) weights of linear interpolation in 1/256; every row sums to 256."""
    place = np.arange(points) * (knots - 1) * 256 // max(points - 1, 1)
    left = np.minimum(place >> 8, knots - 2)
    weights = np.zeros((points, knots), np.int64)
    weights[np.arange(points), left + 1] = place - left * 256
    weights[np.arange(points), left] = 256 - (place - left * 256)
    return weights


def _handwritten() -> tuple[Ints, Labels]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64)
