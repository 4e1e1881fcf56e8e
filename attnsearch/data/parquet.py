"""Images in parquet, in the column layout of the Hugging Face hub.

Columns `img` or `image` (struct of bytes and path, bytes, paths, or rows of pixels) and `label` (number or
text); class names come from the schema's feature description.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnsearch.core.errors import DataError, unknown
from attnsearch.core.text import many
from attnsearch.data.dataset import Picture, Pool, Rows, Source
from attnsearch.data.files import content_digest
from attnsearch.data.grouping import keys_of_paths
from attnsearch.data.image_columns import Columns, choose_columns, file_of, picture_of
from attnsearch.data.labels import Array, class_names, label_values, number_classes
from attnsearch.data.split_names import split_of

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 512
Parts = dict[str, list[Path]]  # {split: files}


def parquet_source(name: str, files: list[Path], root: Path, cache: Path | None) -> Source:
    """Parquet files as one data set, split by their names where these speak of splits.

    Args:
        root: the folder that the files belong to; pictures named by path lie in it.

    Raises:
        DataError: a file that is not parquet, has no images with labels, or splits without one to train on.
    """
    parts, left_out = parquet_parts(files, root)
    used = [path for paths in parts.values() for path in paths]
    columns = _columns(used[0])
    pictures = [file for path in used for file in _named_files(path, columns.image)]
    digest = content_digest("parquet", root, [*used, *pictures], cache)
    return Source(name, digest, lambda: open_parquet(parts, left_out))


def parquet_files(root: Path) -> list[Path]:
    """Files of one data set in a folder: there or in `data/`, in folders of splits, or in one folder above these.

    Raises:
        DataError: several folders of that kind; they are different sets.
    """
    for place in (root, root / "data"):
        if files := _files_and_splits(place):
            return files
    inner = {
        folder: files
        for folder in sorted(root.iterdir())
        if folder.is_dir()
        and not folder.name.startswith(".")
        and (files := _files_and_splits(folder, direct=False))
    }
    if len(inner) > 1:
        names = ", ".join(folder.name for folder in inner)
        raise DataError(f"{root} holds several sets of parquet files: {names}; name one of these folders")
    return next(iter(inner.values()), [])


def _files_and_splits(place: Path, *, direct: bool = True) -> list[Path]:
    """Parquet files of a folder, and of folders in it that are named for splits."""
    if not place.is_dir():
        return []
    splits = [entry for entry in sorted(place.iterdir()) if split_of(entry.name) and entry.is_dir()]
    files = [file for folder in ([place] if direct else []) + splits for file in sorted(folder.iterdir())]
    return [file for file in files if file.suffix.lower() == ".parquet" and file.is_file()]


def parquet_parts(files: list[Path], root: Path) -> tuple[Parts, list[str]]:
    """({split: files}, names of files left out) by the files' names and their folders'.

    Files that speak of no split are the training part where none is named so; alone they are one piece.
    """
    parts: Parts = {}
    unnamed = []
    for file in files:
        folder = file.parent.name if file.parent not in (root, root / "data") else ""
        if split := split_of(folder) or split_of(file.stem):
            parts.setdefault(split, []).append(file)
        else:
            unnamed.append(file)
    if "train" in parts:
        return parts, [file.name for file in unnamed]
    if len(parts) + bool(unnamed) <= 1:
        return {"train": files}, []
    if not unnamed:
        names = ", ".join(parts)
        raise DataError(f"{root}: parquet files of {names}, but none to train on")
    return {"train": unnamed, **parts}, []


def open_parquet(parts: Parts, left_out: list[str]) -> Pool:
    """Labels and names of all files; images are read batch by batch later.

    Raises:
        DataError: not parquet, or no columns of images and labels.
    """
    first = parts["train"][0]
    columns = _columns(first)
    raw = {part: _joined([_labels(path, columns) for path in paths]) for part, paths in parts.items()}
    where = f"{first}: column {columns.label}"
    classes, labels, named = number_classes(raw, _class_names(first, columns.label), where)

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        return _read(parts[part], columns.image, rows)

    warnings = (f"left out, being of no split: {', '.join(left_out)}",) if left_out else ()

    def group_keys(by: str) -> dict[str, list[str]]:
        found = {part: [_keys(path, columns.image, by) for path in paths] for part, paths in parts.items()}
        if any(by_column for each in found.values() for by_column, _ in each):
            return {part: [key for _, keys in each for key in keys] for part, each in found.items()}
        names = {part: [key for _, keys in each for key in keys] for part, each in found.items()}
        return keys_of_paths(names, by, str(first))

    return Pool(classes, labels, read, named=named, group_keys=group_keys, warnings=warnings)


def _keys(path: Path, image: str, by: str) -> tuple[bool, list[str]]:
    """(whether `by` is a column, its values as text; else the paths of the pictures).

    Raises:
        DataError: no such column and no paths, or a row without a value.
    """
    with _reading(path):
        file = _open(path)
        names = [str(column) for column in file.schema_arrow.names]
        if by in names:
            values = file.read([by]).column(0).to_pylist()
            if None in values:
                raise DataError(f"{path}: {many(values.count(None), 'row')} without {by}")
            return True, [str(value) for value in values]
        cells = file.read([image]).column(0).to_pylist()
    paths = [cell.get("path") if isinstance(cell, dict) else cell for cell in cells]
    found = [name for name in paths if isinstance(name, str)]
    if len(found) < len(paths) or by.isidentifier():  # a plain word is meant as a column
        raise DataError(
            f"{path}: {unknown('column', by, names)}. An expression is matched in the pictures' paths"
        )
    return False, found


def _joined(arrays: list[Array]) -> Array:
    """Labels of one part; files without rows have no say in what labels are."""
    return np.concatenate([values for values in arrays if len(values)] or arrays[:1])


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A sentence for whatever pyarrow raises on broken bytes: its own errors, OSError, ValueError and others."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not a readable parquet file ({reason[:200]})") from None


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path)


def _columns(path: Path) -> Columns:
    with _reading(path):
        schema: pa.Schema = _open(path).schema_arrow
        kinds = {name: feature.get("_type") for name, feature in _features(schema).items()}
        images = [c for c in schema.names if kinds.get(c) == "Image"]
        labels = [c for c in schema.names if kinds.get(c) == "ClassLabel"]
        return choose_columns(str(path), schema.names, images, labels)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """The hub's description of the columns; empty where there is none or it is none."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _class_names(path: Path, label: str) -> tuple[str, ...]:
    with _reading(path):
        feature = _features(_open(path).schema_arrow).get(label, {})
    inner = feature.get("feature")  # of a list of labels
    return class_names(feature.get("names") or (inner.get("names") if isinstance(inner, dict) else None))


def _labels(path: Path, columns: Columns) -> Array:
    with _reading(path):
        file = _open(path)
        for name in (columns.image, columns.label):
            if name not in file.schema_arrow.names:
                raise DataError(f"{path}: no column '{name}', which the other files have")
        column = file.read([columns.label]).column(0)
        if column.null_count:
            raise DataError(f"{path}: {many(column.null_count, 'row')} without {columns.label}")
        return label_values(column.to_pylist(), f"{path}: column {columns.label}")


def _named_files(path: Path, image: str) -> list[Path]:
    """Picture files that a table names instead of holding them."""
    with _reading(path):
        file = _open(path)
        if not _names_files(file, image):
            return []
        cells = file.read([image]).column(image).to_pylist()
    paths = [cell["path"] if isinstance(cell, dict) else cell for cell in cells]
    found = (file_of(name, path.parent) for name in paths if isinstance(name, str))
    return [file for file in found if file]


def _names_files(file: Any, image: str) -> bool:
    """Whether the pictures are text, or structs whose bytes are all missing."""
    import pyarrow as pa

    if image not in file.schema_arrow.names:
        return False  # said where labels are read
    kind = file.schema_arrow.field(image).type
    if not pa.types.is_struct(kind):
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if not kind.get_field_index("path") >= 0:
        return False
    batches = file.iter_batches(1, columns=[image])  # the first picture stands for all
    first = next(batches, None)
    return first is not None and len(first) > 0 and not (first.column(0)[0].as_py() or {}).get("bytes")


def _batches(path: Path, image: str) -> Iterator[Any]:
    with _reading(path):
        for batch in _open(path).iter_batches(BATCH, columns=[image]):
            yield batch.column(0)


def _read(paths: list[Path], image: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
    """Ascending rows over the files one after another, a batch in memory at a time."""
    start = at = 0
    for path in paths:
        first = start
        for column in _batches(path, image):
            stop = start + len(column)
            end = int(np.searchsorted(rows, stop))
            if end > at:
                with _reading(path):
                    cells = column.take((rows[at:end] - start).tolist()).to_pylist()
                for row, value in zip(rows[at:end], cells, strict=True):
                    where = f"{path} row {row - first}"
                    yield where, picture_of(value, f"{where}, column {image}", path.parent)
            start, at = stop, end
            if at == len(rows):
                return
    if at < len(rows):
        raise DataError(f"{paths[-1]}: {len(rows) - at:,} pictures fewer than labels")
