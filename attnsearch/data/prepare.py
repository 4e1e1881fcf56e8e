"""From a source's pool to arrays: check the classes, split, decode each image once, and take notes."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.choices import RESIZES
from attnsearch.core.text import many
from attnsearch.data.dataset import BadImage, Labels, Pixels, Pool, Rows, class_counts
from attnsearch.data.grouping import with_groups
from attnsearch.data.images import as_channels, decode, fit, raise_bad, size_of
from attnsearch.data.scale import Scales
from attnsearch.data.split import Plan, check_classes, plan_splits
from attnsearch.data.store import Prepared

PROBED = 512  # images whose headers decide the common size
KEPT_AS_IS = 96  # sides up to this are kept where all images share one size
SMALLEST, LARGEST = 32, 64  # of the side chosen for images of mixed or large size
STRIDE = 32  # of an ImageNet ResNet; smaller images carry no detail for it
FORMAT = 3  # of the files in the cache; raise it when they change


@dataclass(frozen=True)
class Options:
    """What changes the images or their split, beside the files themselves."""

    seed: int = 0
    image_size: int | None = None
    min_per_class: int | None = None
    limit: int | None = None
    resize: str = "crop"
    group_by: str | None = None


def prepare(pool: Pool, name: str, options: Options, *, skip_bad: bool, folder: Path | None) -> Prepared:
    """Decode a pool into arrays (N, H, W, C) per split, in `folder` or in memory.

    Bad images are left out and listed in the facts, or else all told in one error.

    Raises:
        DataError: bad images, unless `skip_bad`; too few classes, or too few images of one for every split.
    """
    pool = _without_small_classes(pool, options.min_per_class)
    check_classes(pool.classes, pool.labels, name)
    grouped = options.group_by is not None
    if grouped:
        pool = with_groups(pool, str(options.group_by), name)
    plan = plan_splits(
        pool.labels, seed=options.seed, limit=options.limit, groups=pool.groups if grouped else None
    )
    (height, width), size_note, warnings = _choose_size(pool, plan, options)
    total = sum(len(rows) for _, rows in plan.values())
    arrays: dict[str, tuple[Pixels, Labels]] = {}
    groups: dict[str, list[int]] = {}
    bad: list[str] = []
    scales = Scales(pool)
    for split, (part, rows) in plan.items():
        images = _allocate(folder, split, (len(rows), height, width, pool.channels))
        good = np.zeros(len(rows), bool)
        for at, picture in enumerate(_decoded(pool, scales, part, rows, height, width, options.resize)):
            if isinstance(picture, BadImage):
                bad.append(picture.sentence)
            else:
                images[int(good.sum()) if bad else at] = picture
                good[at] = True
        arrays[split] = _keep(folder, split, images, pool.labels[part][rows][good])
        if pool.groups is not None:
            groups[split] = pool.groups[part][rows][good].tolist()
    if not skip_bad:
        raise_bad(bad, total)
    if bad:
        check_classes(pool.classes, {split: labels for split, (_, labels) in arrays.items()}, name)
    meta = _facts(pool, arrays, (pool.channels, height, width), size_note)
    meta |= {
        "bad": bad,
        "images": total,
        "groups": groups or None,
        "own_val": "val" in pool.labels and (grouped or not groups),
        "warnings": [*pool.warnings, *warnings, *scales.notes, *_copies(arrays)],
    }
    return Prepared(meta, folder, {} if folder else arrays)


def _without_small_classes(pool: Pool, least: int | None) -> Pool:
    """Leave out classes with fewer images than `least` over all parts, and say which."""
    if not least:
        return pool
    sizes = sum(np.bincount(labels, minlength=len(pool.classes)) for labels in pool.labels.values())
    small = np.flatnonzero(np.asarray(sizes) < least)
    if not len(small):
        return pool
    kept = np.setdiff1d(np.arange(len(pool.classes)), small)
    number = np.full(len(pool.classes), -1)
    number[kept] = np.arange(len(kept))
    rows = {part: np.flatnonzero(number[labels] >= 0) for part, labels in pool.labels.items()}
    names = ", ".join(f"'{pool.classes[kind]}'" for kind in small)
    return replace(
        pool,
        classes=tuple(pool.classes[kind] for kind in kept),
        labels={part: number[labels[rows[part]]] for part, labels in pool.labels.items()},
        read=lambda part, chosen: pool.read(part, rows[part][chosen]),
        groups=pool.groups and {part: numbers[rows[part]] for part, numbers in pool.groups.items()},
        group_keys=pool.group_keys and (lambda by: _of_rows(pool, by, rows)),
        warnings=(*pool.warnings, f"left out for having fewer than {many(least, 'image')}: {names}"),
    )


def _of_rows(pool: Pool, by: str, rows: dict[str, Rows]) -> dict[str, list[str]]:
    """The keys of the groups of some rows of each part."""
    assert pool.group_keys is not None
    return {part: [keys[row] for row in rows[part]] for part, keys in pool.group_keys(by).items()}


def _choose_size(pool: Pool, plan: Plan, options: Options) -> tuple[tuple[int, int], str, list[str]]:
    """((H, W), note on resizing, warnings) from the headers of evenly spaced training images.

    Whatever is resized is told, with the reason and how to change it.
    """
    side = options.image_size
    part, rows = plan["train"]
    probed = rows[np.linspace(0, len(rows) - 1, min(PROBED, len(rows))).astype(np.int64)]
    sizes = np.array([size for _, picture in pool.read(part, probed) if (size := size_of(picture))])
    if not len(sizes):
        return (side or SMALLEST,) * 2, "", []
    median = np.median(sizes, axis=0).astype(int)
    shape = f"{median[0]}×{median[1]}"
    one_size = bool((sizes == sizes[0]).all())
    if side is None and one_size and sizes.min() >= SMALLEST // 4 and sizes.max() <= KEPT_AS_IS:
        return (int(sizes[0, 0]), int(sizes[0, 1])), "", []
    chosen = side or int(np.clip(median.min() // 8 * 8, SMALLEST, LARGEST))
    if one_size and tuple(sizes[0]) == (chosen, chosen):
        return (chosen, chosen), "", []
    if median.min() < min(STRIDE, chosen):
        what = f"images are small: {shape} pixels in the median, resized to {chosen}×{chosen}"
    elif (sizes.max(axis=0) < chosen).all():
        largest = "×".join(map(str, sizes.max(axis=0)))
        what = f"all images are smaller than {chosen}×{chosen} (at most {largest}) and enlarged, which adds no detail"
    elif one_size:
        what = f"images of {shape} pixels are resized to {chosen}×{chosen}"
    else:
        what = f"images of mixed sizes ({shape} in the median) resized to {chosen}×{chosen}"
    why = "" if side else f"; without --image-size it is {SMALLEST} to {LARGEST}, for short trainings"
    how = f" ({RESIZES[options.resize]}{why}); --image-size and --resize change it"
    return (
        (chosen, chosen),
        f"resized to {chosen}×{chosen} from {shape} (median), {options.resize}",
        [what + how],
    )


def _decoded(
    pool: Pool, scales: Scales, part: str, rows: Rows, height: int, width: int, resize: str
) -> Iterator[Pixels | BadImage]:
    for path, picture in pool.read(part, rows):
        numbers = decode(path, picture) if isinstance(picture, bytes) else picture
        pixels = numbers if isinstance(numbers, BadImage) else scales.to_bytes(path, numbers)
        yield (
            pixels
            if isinstance(pixels, BadImage)
            else fit(as_channels(pixels, pool.channels), height, width, resize)
        )


def _allocate(folder: Path | None, split: str, shape: tuple[int, ...]) -> Pixels:
    if folder is None:
        return np.empty(shape, np.uint8)
    wanted, free = math.prod(shape), shutil.disk_usage(folder).free
    if wanted > free:  # a mapped file may be larger than its disk; filling it would end in a signal
        raise OSError(errno.ENOSPC, f"{wanted / 1e9:,.1f} GB wanted, {free / 1e9:,.1f} GB free")
    return np.lib.format.open_memmap(folder / f"{split}.npy", mode="w+", dtype=np.uint8, shape=shape)


def _keep(folder: Path | None, split: str, images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
    """Cut off rows that bad images left empty, and write what is not written yet."""
    if len(labels) < len(images):
        images = np.array(images[: len(labels)])
        if folder is not None:
            np.save(folder / f"{split}.npy", images, allow_pickle=False)
    if folder is not None:
        np.save(folder / f"{split}.labels.npy", labels, allow_pickle=False)
        if isinstance(images, np.memmap):
            images.flush()
    return images, labels


def _facts(
    pool: Pool, arrays: dict[str, tuple[Pixels, Labels]], image: tuple[int, int, int], note: str
) -> dict[str, Any]:
    mean, std = channel_statistics(arrays["train"][0])
    return {
        "classes": list(pool.classes),
        "image": list(image),
        "mean": mean,
        "std": std,
        "counts": {split: class_counts(labels, pool.classes) for split, (_, labels) in arrays.items()},
        "note": "; ".join(part for part in (pool.note, note) if part),
        "ignored": pool.ignored,
    }


def channel_statistics(images: Pixels) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (divided by N) per channel of images (N, H, W, C) scaled to 0..1.

    Taken from exact histograms. A channel of one value gets a standard deviation of 1, to be divided by.
    """
    means, deviations = [], []
    for channel in range(images.shape[3]):
        histogram = np.zeros(256, np.int64)
        for start in range(0, len(images), 4096):
            histogram += np.bincount(images[start : start + 4096, ..., channel].ravel(), minlength=256)
        shares = histogram / histogram.sum()
        mean = float(shares @ np.arange(256))
        variance = float(shares @ (np.arange(256) - mean) ** 2)
        means.append(mean / 255)
        deviations.append(variance**0.5 / 255 or 1.0)
    return means, deviations


def _copies(arrays: dict[str, tuple[Pixels, Labels]]) -> list[str]:
    """A warning where val or test images are byte for byte in train too."""
    import hashlib

    def marks(split: str) -> list[bytes]:
        return [hashlib.blake2b(image, digest_size=16).digest() for image in arrays[split][0]]

    train = set(marks("train"))
    found = {split: sum(mark in train for mark in marks(split)) for split in arrays if split != "train"}
    return [
        f"{many(count, f'{split} image')} also in train, pixel for pixel: its accuracy flatters"
        for split, count in found.items()
        if count
    ]
