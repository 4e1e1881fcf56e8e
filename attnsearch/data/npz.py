"""Images in a NumPy `.npz`: an array of images and one of labels, for each split where there are several.

Arrays are told apart by the words of their names: `x` and `y`, `X_train` and `y_train`, `train_images` and
`train_labels`, `x_valid` ...; those that speak of no split are the training part.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.errors import DataError, unknown
from attnsearch.data.dataset import SPLITS, Pool, Source, in_memory
from attnsearch.data.files import content_digest
from attnsearch.data.labels import class_names, label_values, number_classes
from attnsearch.data.split_names import SPLIT_WORDS, split_of, words

Array = np.ndarray[Any, Any]
IMAGE_WORDS = ("x", "images", "image", "imgs", "img", "data", "inputs", "pixels")
LABEL_WORDS = ("y", "labels", "label", "targets", "target")
MEMORY_SHARE = 0.8  # of what is free, for the arrays


def npz_source(name: str, path: Path, cache: Path | None) -> Source:
    """One `.npz` file."""
    return Source(name, content_digest("npz", path, [path], cache), lambda: open_npz(path))


def open_npz(path: Path) -> Pool:
    """All images and labels of the file; names of the classes from an array `classes`, if there is one.

    Raises:
        DataError: not an `.npz`, Python objects, or arrays that are not images with one label each.
    """
    with _opened(path) as file:
        pairs, lonely = _pairs(path, file.files)
        arrays = {name: _array(path, file, name) for pair in pairs.values() for name in pair}
        names = _names(path, file)
    images = {part: _laid_out(f"{path}: {x}", arrays[x]) for part, (x, _) in pairs.items()}
    raw = {part: label_values(arrays[y], f"{path}: {y}") for part, (_, y) in pairs.items()}
    for part, (x, y) in pairs.items():
        if len(images[part]) != len(raw[part]):
            raise DataError(f"{path}: {x} has {len(images[part])} images, {y} {len(raw[part])} labels")
    if len({values.shape[3] for values in images.values()}) > 1:
        raise DataError(f"{path}: its parts differ in the number of channels")
    common = np.result_type(*images.values())  # one scale of brightness for all parts
    images = {part: values.astype(common, copy=False) for part, values in images.items()}
    classes, labels, named = number_classes(raw, names, str(path))
    channels, warnings = images["train"].shape[3], tuple(f"{x} has no labels; left out" for x in lonely)
    sizes = {part: len(values) for part, values in labels.items()}
    return Pool(
        classes,
        labels,
        in_memory(images),
        channels=channels,
        named=named,
        group_keys=lambda by: _group_keys(path, by, sizes),
        warnings=warnings,
    )


def _group_keys(path: Path, by: str, sizes: dict[str, int]) -> dict[str, list[str]]:
    """The values of the arrays `by` or, for each part, `by_train` or `train_by`.

    Raises:
        DataError: a part without such an array, or one of another length.
    """
    with _opened(path) as file:
        found = {}
        for part, size in sizes.items():
            named = [name for name in file.files if name in (f"{by}_{part}", f"{part}_{by}")]
            named += [by] if by in file.files and len(sizes) == 1 else []
            if not named:
                raise DataError(
                    f"{path}: {unknown('array', by, file.files)}; it names the group of each image"
                )
            values = _array(path, file, named[0]).reshape(-1)
            if len(values) != size:
                raise DataError(f"{path}: {named[0]} has {len(values)} values for {size} images of {part}")
            found[part] = [str(value) for value in values.tolist()]
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a file, which is closed at the end, also where NumPy gives up on it."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not a readable .npz file")
    with path.open("rb") as stream:
        try:
            arrays = np.load(stream, allow_pickle=False)
        except Exception as error:  # zipfile and NumPy raise many kinds on broken bytes
            raise DataError(f"{path}: not a readable .npz file ({error})") from None
        with arrays:
            yield arrays


def _array(path: Path, file: Any, name: str) -> Array:
    """One array, once its header and its place in the archive agree and it fits into memory."""
    try:
        _check_size(path, file.zip, name)
        return np.asarray(file[name])
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds on broken bytes
        if "allow_pickle" in str(error) or "pickle" in str(error):
            raise DataError(
                f"{path}: {name} holds Python objects, which are not read; save plain arrays"
            ) from None
        raise DataError(f"{path}: not a readable .npz file ({error or type(error).__name__})") from None


def _check_size(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    import psutil

    member = name if name in archive.namelist() else f"{name}.npy"
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
    size, stored = math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size
    if not dtype.hasobject and size > stored:
        raise DataError(f"{path}: {name} claims {size:,} bytes, of which {stored:,} are there")
    free = int(psutil.virtual_memory().available * MEMORY_SHARE)
    if size > free:
        raise DataError(f"{path}: {name} needs {size / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free")


def _names(path: Path, file: Any) -> tuple[str, ...]:
    if "classes" not in file.files:
        return ()
    values = _array(path, file, "classes").reshape(-1)
    if values.dtype.kind == "S":
        values = label_values(values, f"{path}: classes")
    return class_names([str(value) for value in values.tolist()])


def _pairs(path: Path, names: Iterable[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """({split: names of its images and labels}, images of splits without labels).

    Raises:
        DataError: no images with labels to train on.
    """
    names = list(names)
    images, labels = _roles(names, IMAGE_WORDS), _roles(names, LABEL_WORDS)
    pairs: dict[str, tuple[str, str]] = {
        part: (images[part], labels[part]) for part in SPLITS if part in images and part in labels
    }
    if "train" not in pairs:
        raise DataError(f"{path}: no arrays x and y (or images and labels); it has: {', '.join(names)}")
    return pairs, [name for part, name in images.items() if part not in pairs]


def _roles(names: Iterable[str], known: tuple[str, ...]) -> dict[str, str]:
    """{split: array} of the arrays named by one of the known words, or by one and a split."""
    found: dict[str, tuple[tuple[bool, int], str]] = {}
    for name in names:
        parts = _array_words(name)
        others = [word for word in parts if word not in SPLIT_WORDS]
        if len(others) != 1 or others[0] not in known or len(parts) > 2:
            continue
        split = split_of(" ".join(parts))
        rank = (split is None, known.index(others[0]))  # `x_train` goes before `x`, `x` before `images`
        if split or len(parts) == 1:
            found[split or "train"] = min(found.get(split or "train", (rank, name)), (rank, name))
    return {split: name for split, (_, name) in found.items()}


def _array_words(name: str) -> list[str]:
    """Words of an array's name; `xtrain` is x and train."""
    parts: list[str] = []
    for word in words(name):
        glued = word[0] in "xy" and word[1:] in SPLIT_WORDS
        parts += [word[0], word[1:]] if glued else [word]
    return parts


def _laid_out(where: str, images: Array) -> Array:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) -> (N, H, W, C), C of 1 or 3."""
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise DataError(
            f"{where} has shape {images.shape}; known are (N, H, W) and (N, H, W, C), C of 1 or 3"
        )
    if images.dtype.kind not in "iufb":
        raise DataError(f"{where} holds {images.dtype}, not numbers")
    return images
