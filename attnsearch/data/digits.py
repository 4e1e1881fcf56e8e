"""The embedded data sets, made from scikit-learn's 1,797 handwritten digits (UCI, 8×8, ink of 0..16).

`digits` is those images. `cluttered-digits` puts each on a larger noisy colour canvas among fragments of
others, after the cluttered digits of Mnih et al., "Recurrent Models of Visual Attention", NeurIPS 2014: the
class is in a part of the image that has to be found. `cued-digits` shows a red and a green digit, and a strip
of colour along the upper edge that says which of them to name: the strip and the digits lie further apart than
a small host's receptive field is wide, so what names the digit has to pass through the whole image. All
arithmetic is on integers: a seed gives the same bytes everywhere.
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

CUED_IMAGES = 9_000
CUED_SIDE = 20
CUED_LEAST = 18  # of the side: below it a digit would have fewer than 7 pixels of the 8 it was written on
CUED_RED = 80  # in a hundred strips: uneven, or a network has no reason to look at colours at first
CUED_ALONE = 20  # in a hundred images show the digit to name and no other
CUED_RECIPE = 2  # raise it when any pixel of cued-digits changes

Ints = NDArray[np.int64]
CLASSES = tuple("0123456789")


def digits_source(name: str) -> Source:
    """The 8×8 grey digits, split by us."""
    return Source(name, "sklearn digits", _open_digits, augment=("crop",), version=1)


def _open_digits() -> Pool:
    ink, labels = _handwritten()
    pixels = (ink * 255 // 16).astype(np.uint8)[..., None]
    note = "scikit-learn's handwritten digits"
    return Pool(CLASSES, {"train": labels}, in_memory({"train": pixels}), channels=1, note=note)


def cluttered_source(name: str, *, images: int, side: int, seed: int) -> Source:
    """So many canvases of side × side pixels; digit images are split first, so none is in two splits."""
    digest = f"cluttered digits, recipe {RECIPE}, {images} images, {side} pixels, seed {seed}"
    return Source(name, digest, lambda: _open_cluttered(images, side, seed), augment=("crop",), version=1)


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


def cued_source(name: str, *, images: int, side: int, seed: int) -> Source:
    """So many images of side × side pixels of `cue`; digit images are split first, so none is in two splits."""
    digest = f"cued digits, recipe {CUED_RECIPE}, {images} images, {side} pixels, seed {seed}"
    return Source(name, digest, lambda: _open_cued(images, side, seed), augment=())


def _open_cued(images: int, side: int, seed: int) -> Pool:
    ink, kinds = _handwritten()
    pixels: dict[str, Pixels] = {}
    labels: dict[str, Labels] = {}
    groups: dict[str, Rows] = {}
    share = {"val": images * 2 // 9, "test": images * 2 // 9}
    share["train"] = images - sum(share.values())
    for stream, (split, rows) in enumerate(zip(SPLITS, split_three(kinds, seed), strict=True)):
        rng = np.random.default_rng([seed, stream])
        pixels[split], labels[split], shown = cue(ink[rows], kinds[rows], share[split], side, rng)
        groups[split] = rows[
            shown
        ]  # by the digit to name; the other one is no answer, in whatever split it was named
    note = (
        "scikit-learn's handwritten digits, one red and one green; a strip of colour far from them says which to "
        "name; no digit image is in two splits"
    )
    return Pool(CLASSES, labels, in_memory(pixels), groups=groups, note=note)


def cue(
    ink: Ints, kinds: Labels, images: int, side: int, rng: np.random.Generator
) -> tuple[Pixels, Labels, Ints]:
    """So many images (images, side, side, 3) from digits (N, 8, 8) of 0..16, the class and the digit of each.

    A strip of a tenth of the side along the upper edge, red in `CUED_RED` of a hundred images and green in the
    others, and along the lower edge, left and right, a digit of the strip's colour, which is the one to name, and
    one of the other colour, which `CUED_ALONE` of a hundred images leave out; 2/5 of the side high, on a dark
    coloured background of low frequency, and noise over all. Classes are balanced to one image.
    """
    height, middle = side * 2 // 5, side // 2
    whole = _resize(ink, height)
    canvas = _background(images, side, rng) >> 1
    labels = rng.permutation(np.arange(images) % len(CLASSES))
    named = _one_of_each(labels, kinds, rng)
    green = (rng.integers(100, size=images) >= CUED_RED).astype(np.int64)
    alone = rng.integers(100, size=images) < CUED_ALONE
    other = rng.integers(len(ink), size=images)
    swapped = rng.integers(2, size=images)
    left = rng.integers(middle - height + 1, size=(images, 2))
    colours = _red_and_green(images, rng)
    for image in range(images):
        canvas[image, : side // 10] = colours[image, green[image]]
        for at, digit in enumerate((named[image], other[image])[: 1 if alone[image] else 2]):
            column = middle * ((swapped[image] + at) % 2) + left[image, at]
            colour = colours[image, (green[image] + at) % 2]
            _paint(canvas[image], whole[digit], colour, side - height, column)
    canvas += rng.integers(-8, 9, canvas.shape, dtype=np.int16)
    return canvas.clip(0, 255).astype(np.uint8), labels, named


def _red_and_green(images: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """(images, 2, 3): a red and a green for each image."""
    colours = rng.integers(0, 81, (images, 2, 3), dtype=np.int32)
    bright = rng.integers(200, 256, (images, 2), dtype=np.int32)
    colours[:, 0, 0], colours[:, 1, 1] = bright[:, 0], bright[:, 1]
    return colours


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
