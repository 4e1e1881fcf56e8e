"""Tables of images, as parquet files and the Hugging Face hub have them: which columns, and what a cell holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.data.dataset import BadImage, Picture

IMAGE_COLUMNS = ("img", "image", "images", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what."""

    image: str
    label: str


def choose_columns(
    where: str, names: Iterable[str], image_typed: Iterable[str], label_typed: Iterable[str]
) -> Columns:
    """Columns by their type where the table states it, else by their name.

    Raises:
        DataError: no column of images, or none of labels.
    """
    names = list(names)
    images = [*image_typed, *(c for c in IMAGE_COLUMNS if c in names)]
    labels = [*label_typed, *(c for c in LABEL_COLUMNS if c in names)]
    if not images or not labels:
        missing, known = ("image", IMAGE_COLUMNS) if not images else ("label", LABEL_COLUMNS)
        raise DataError(f"{where}: no {missing} column ({', '.join(known)}); it has: {', '.join(names)}")
    return Columns(images[0], next((c for c in LABEL_COLUMNS if c in labels), labels[0]))


def picture_of(value: Any, where: str, folder: Path | None) -> Picture:
    """The picture of one cell: encoded bytes, a struct of bytes and path, a path, or rows of pixels.

    Args:
        folder: what paths are relative to and must not lead out of; None allows any path.
    """
    if isinstance(value, list | tuple) and len(value) == 1 and not isinstance(value[0], int | float):
        return picture_of(value[0], where, folder)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _file(value, where, folder)
    if isinstance(value, list | tuple | np.ndarray):
        return _pixels(value, where)
    if value is None:
        return BadImage(f"{where}: no picture")
    return BadImage(f"{where}: {type(value).__name__} is no picture")


def file_of(path: str, folder: Path | None) -> Path | None:
    """The file of a path beside a table; None where it leads out of the folder or is not there."""
    try:
        file = Path(path) if folder is None else (folder / path).resolve()
        inside = folder is None or file.is_relative_to(folder.resolve())
        return file if inside and file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, with null bytes, a loop of links
        return None


def _file(path: str, where: str, folder: Path | None) -> Picture:
    file = file_of(path, folder)
    if file is None:
        beside = f" in {folder}" if folder else ""
        return BadImage(f"{where}: names {path[:200]!r}, and there is no such file{beside}")
    try:
        return file.read_bytes()
    except OSError as error:
        return BadImage(f"{file}: {error.strerror}")


def _pixels(value: Any, where: str) -> Picture:
    """(H, W), (H, W, C) or (C, H, W) as lists."""
    try:
        numbers = np.asarray(value)
    except ValueError:
        return BadImage(f"{where}: lists of several lengths are no picture")
    if numbers.ndim == 3 and numbers.shape[2] not in (1, 3) and numbers.shape[0] in (1, 3):
        numbers = numbers.transpose(1, 2, 0)
    plain = numbers.dtype.kind in "iufb" and numbers.size
    if not plain or numbers.ndim not in (2, 3) or (numbers.ndim == 3 and numbers.shape[2] not in (1, 3)):
        return BadImage(f"{where}: lists of shape {numbers.shape} are no picture")
    return numbers
