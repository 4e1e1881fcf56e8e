"""What a data set is: before decoding a `Source`, after it a `Data` of two splits. Arrays only, no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.text import printable

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class BadImage:
    """A picture that cannot be used, as one sentence that names its file."""

    sentence: str


# An encoded file, numbers (H, W) or (H, W, C), or why there is no picture.
Picture = bytes | NDArray[Any] | BadImage


@dataclass(frozen=True, eq=False)
class Split:
    """Images (N, C, H, W) uint8, a view of (N, H, W, C) memory, and their class numbers (N,) int64.

    Both are usually memory-maps of the cache: processes that open the same data share one copy of it.
    """

    images: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Data:
    """What a search may see of a data set: its train and val split. The test split is behind `open_test`.

    Args:
        name: as the user wrote it.
        classes: names, in the order of the class numbers.
        image: (C, H, W) of every image.
        augment: augmentations that leave the class as it is, used unless a recipe says otherwise.
        mean, std: per channel over the train split, images scaled to 0..1.
        fingerprint: changes with the content of any file and with options that change an image or a split.
        counts: {split: {class: images}}, test included.
        own_val: the validation images were set apart by the data set's owner, so they are not mixed with train.
        groups: {split: (N,)} where several images show one thing, such as canvases of one handwritten digit: its
            number; a group never stands in two splits. None where each image stands for itself.
        note: one sentence on where the images come from and what was done to them.
        warnings: sentences a user should see; ignored: files passed over, such as `.DS_Store`.
    """

    name: str
    classes: tuple[str, ...]
    image: tuple[int, int, int]
    train: Split
    val: Split
    augment: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    counts: Mapping[str, Mapping[str, int]]
    own_val: bool = True
    groups: Mapping[str, Rows] | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()
    ignored: int = 0

    def facts(self) -> dict[str, Any]:
        """Plain JSON values for a study's record: name, classes, image, split sizes, fingerprint, note."""
        sizes = {split: sum(per_class.values()) for split, per_class in self.counts.items()}
        return {
            "name": printable(self.name),
            "classes": list(self.classes),
            "image": list(self.image),
            **sizes,
            "fingerprint": self.fingerprint,
            "note": self.note,
        }

    def summary(self) -> str:
        """One line: `pets: 3 classes, 3×32×32, 700 train + 150 val + 150 test images, 2 files ignored`."""
        size = "×".join(map(str, self.image))
        splits = " + ".join(
            f"{sum(self.counts[split].values()):,} {split}" for split in SPLITS if split in self.counts
        )
        files = "file" if self.ignored == 1 else "files"
        ignored = f", {self.ignored} {files} ignored" if self.ignored else ""
        return f"{printable(self.name)}: {len(self.classes)} classes, {size}, {splits} images{ignored}"


@dataclass(frozen=True)
class Pool:
    """A source opened: labels are known, images are still encoded.

    Args:
        classes: names, in the order of the class numbers.
        labels: class of every row of each part. Parts are those of `SPLITS` that the owner made; one alone is
            split here.
        read: `read(part, rows)` yields `(path, picture)` for ascending rows; a picture is an encoded file
            (bytes) or numbers (H, W) or (H, W, C) of any type.
        channels: 3 for encoded files.
        named: False where class names are mere numbers given by us.
        groups: {part: (N,)} where several images show one thing, see `Data`.
        group_keys: what names the group of each row, {part: [...]}, by what the user says that tells it; None where
            the source cannot.
        note, warnings, ignored: see `Data`.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, Labels]
    read: Callable[[str, Rows], Iterator[tuple[str, Picture]]]
    channels: int = 3
    named: bool = True
    groups: Mapping[str, Rows] | None = None
    group_keys: Callable[[str], dict[str, list[str]]] | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()
    ignored: int = 0


def in_memory(pixels: Mapping[str, NDArray[Any]]) -> Callable[[str, Rows], Iterator[tuple[str, Picture]]]:
    """`Pool.read` of pictures that are decoded already: numbers (N, H, W, C) of each part."""

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        for row in rows:
            yield f"{part} image {row}", pixels[part][row]

    return read


@dataclass(frozen=True)
class Source:
    """Where images come from, found but not read: enough to know whether they are in the cache already.

    Args:
        name: as the user wrote it.
        digest: stands for the content; equal digests mean equal images.
        open: reads labels and class names; everything slow is in here.
        augment: None lets class names and channels decide, see `safe_augmentations`.
        version: of the rules that make arrays of these pictures; raise it when the arrays change. Part of the
            fingerprint, so that studies of sets whose arrays have stayed the same go on.
    """

    name: str
    digest: str
    open: Callable[[], Pool]
    augment: tuple[str, ...] | None = None
    version: int = 3


def safe_augmentations(pool: Pool) -> tuple[str, ...]:
    """Flip and crop for photographs; no flip where a mirror image may be of another class.

    That is: classes named by digits or single letters, by left or right; numbered grey images (MNIST).
    """
    words = {word for name in pool.classes for word in name.lower().replace("-", "_").split("_")}
    characters = all(len(name) == 1 for name in pool.classes)
    if words & {"left", "right"} or (characters if pool.named else pool.channels == 1):
        return ("crop",)
    return ("flip", "crop")


def class_counts(labels: Labels, classes: Iterable[str]) -> dict[str, int]:
    """Images of each class, classes without one included."""
    names = tuple(classes)
    return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))
