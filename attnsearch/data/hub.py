"""Data sets of the Hugging Face hub, `hf:NAME`, through the `datasets` library where it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attnsearch.core.errors import DataError, EnvironmentFault
from attnsearch.data.dataset import Picture, Pool, Rows, Source
from attnsearch.data.image_columns import choose_columns, picture_of
from attnsearch.data.labels import class_names, label_values, number_classes
from attnsearch.data.split_names import by_split


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
    parts = {split: loaded[found] for split, found in by_split(map(str, loaded)).items()}
    if "train" not in parts:
        raise DataError(f"{name}: has no split 'train'; it has: {', '.join(map(str, loaded))}")
    digest = " ".join(f"{part} {table._fingerprint}" for part, table in sorted(parts.items()))
    return Source(name, f"{name} {digest}", lambda: hub_pool(name, parts, datasets.Image(decode=False)))


def hub_pool(name: str, parts: Mapping[Any, Any], undecoded: Any) -> Pool:
    """Images stay encoded until they are asked for, one at a time."""
    features = parts["train"].features
    kinds = {column: type(kind).__name__ for column, kind in features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    columns = choose_columns(name, features, images, labels)
    where = f"{name}: column {columns.label}"
    raw = {part: label_values(list(table[columns.label]), where) for part, table in parts.items()}
    feature = features[columns.label]
    names = class_names(
        getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    )
    classes, numbers, named = number_classes(raw, names, where)
    tables = {
        part: table.cast_column(columns.image, undecoded) if columns.image in images else table
        for part, table in parts.items()
    }

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        for row in rows:
            place = f"{name} {part} row {row}"
            yield (
                place,
                picture_of(tables[part][int(row)][columns.image], f"{place}, column {columns.image}", None),
            )

    return Pool(classes, numbers, read, named=named)
