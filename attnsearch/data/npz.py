"""Images in a NumPy `.npz`: `x` and `y` (or `images` and `labels`), also with `_train`, `_val`, `_test`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.data.dataset import SPLITS, Pixels, Pool, Source, in_memory
from attnsearch.data.files import content_digest
from attnsearch.data.images import scale_to_bytes
from attnsearch.data.parquet import number_classes

PAIRS = (("x", "y"), ("images", "labels"))


def npz_source(name: str, path: Path, cache: Path | None) -> Source:
    """One `.npz` file; arrays without a suffix beside `x_test` are the training part."""
    return Source(name, content_digest("npz", path, [path], cache), lambda: open_npz(path))


def open_npz(path: Path) -> Pool:
    """All arrays of the file; names of the classes from an array `classes`, if there is one.

    Raises:
        DataError: not an `.npz`, Python objects, or arrays that are not images with one label each.
    """
    arrays = _arrays(path)
    found: dict[str, tuple[str, str]] = {part: pair for part in SPLITS if (pair := _pair(arrays, part))}
    if "train" not in found:
        raise DataError(f"{path}: no arrays x and y (or images and labels); it has: {', '.join(arrays)}")
    images = {part: _laid_out(f"{path}: {x}", arrays[x]) for part, (x, _) in found.items()}
    pixels = _pixels(path, images)
    raw = {part: arrays[y].reshape(-1) for part, (_, y) in found.items()}
    for part, (x, y) in found.items():
        if len(pixels[part]) != len(raw[part]):
            raise DataError(f"{path}: {x} has {len(pixels[part])} images, {y} {len(raw[part])} labels")
    if len({images.shape[3] for images in pixels.values()}) > 1:
        raise DataError(f"{path}: its parts differ in the number of channels")
    names = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else ()
    classes, labels, named = number_classes(raw, names)
    return Pool(classes, labels, in_memory(pixels), channels=pixels["train"].shape[3], named=named)


def _arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not a readable .npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{path}: holds Python objects, which are not read; save plain arrays") from None
        raise DataError(f"{path}: not a readable .npz file ({error})") from None
    except (OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from None


def _pair(arrays: dict[str, np.ndarray[Any, Any]], part: str) -> tuple[str, str] | None:
    """Names of the images and labels of a part; training arrays may go without a suffix."""
    for suffix in (f"_{part}", "") if part == "train" else (f"_{part}",):
        for x, y in PAIRS:
            if x + suffix in arrays and y + suffix in arrays:
                return x + suffix, y + suffix
    return None


def _laid_out(where: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
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


def _pixels(path: Path, images: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Pixels]:
    """Numbers of any kind -> uint8, all parts on one scale."""
    if all(values.dtype == np.uint8 for values in images.values()):
        return dict(images)
    top = 65_535 if all(values.dtype == np.uint16 for values in images.values()) else None
    low = min(float(values.min()) for values in images.values())
    high = max(float(values.max()) for values in images.values())
    try:
        return {part: scale_to_bytes(values, top=top, bounds=(low, high)) for part, values in images.items()}
    except ValueError as error:
        raise DataError(f"{path} {error}") from None
