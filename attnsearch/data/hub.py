"""Data sets of the Hugging Face hub, `hf:NAME`, through the `datasets` library where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.errors import DataError, EnvironmentFault
from attnsearch.data.dataset import BadImage, Picture, Pool, Rows, Source
from attnsearch.data.parquet import LABEL_COLUMNS, cell_bytes, number_classes

PART_NAMES = {"train": "train", "validation": "val", "val": "val", "valid": "val", "test": "test"}


def hub_source(name: str) -> Source:
    """`name` is `hf:OWNER/SET`, or `hf:OWNER/SET:CONFIG`. The library downloads and keeps the files.

    Raises:
        EnvironmentFault: `datasets` is not installed.
        DataError: no such data set, or it is not one of images with classes.
    """
    try:
        import datasets
    except ImportError:
        raise EnvironmentFault(f"{name} needs an extra: pip install 'attnsearch[hf]'") from None
    path, _, config = name.removeprefix("hf:").partition(":")
    try:
        loaded = datasets.load_dataset(path, config or None)
    except Exception as error:  # the library has no base class for what a name or a network can cause
        raise DataError(f"{name}: {str(error).splitlines()[0] if str(error) else error!r}") from None
    parts = {PART_NAMES[split]: loaded[split] for split in loaded if split in PART_NAMES}
    if "train" not in parts:
        raise DataError(f"{name}: has no split 'train'; it has: {', '.join(loaded)}")
    digest = " ".join(f"{part} {table._fingerprint}" for part, table in sorted(parts.items()))
    return Source(name, f"{name} {digest}", lambda: hub_pool(name, parts, datasets.Image(decode=False)))


def hub_pool(name: str, parts: dict[str, Any], undecoded: Any) -> Pool:
    """Images stay encoded until they are asked for, one at a time."""
    features = parts["train"].features
    image = next((c for c, kind in features.items() if type(kind).__name__ == "Image"), None)
    labels = [c for c, kind in features.items() if type(kind).__name__ == "ClassLabel" or c in LABEL_COLUMNS]
    if image is None or not labels:
        raise DataError(f"{name}: no image or no label column; it has: {', '.join(features)}")
    label = next((c for c in LABEL_COLUMNS if c in labels), labels[0])
    names = tuple(getattr(features[label], "names", None) or ())
    raw = {part: np.asarray(table[label][:]) for part, table in parts.items()}
    classes, numbers, named = number_classes(raw, names)
    tables = {part: table.cast_column(image, undecoded) for part, table in parts.items()}

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        for row in rows:
            yield _picture(f"{name} {part} row {row}", tables[part][int(row)][image])

    return Pool(classes, numbers, read, named=named)


def _picture(where: str, cell: dict[str, Any]) -> tuple[str, Picture]:
    """The encoded file of one cell; the library keeps some in its tables, some as files beside them."""
    if cell.get("bytes") or not cell.get("path"):
        return where, cell_bytes(cell)
    path = Path(cell["path"])
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        return str(path), BadImage(f"{path}: {error.strerror}")
