"""Images in parquet, in the column layout of the Hugging Face hub.

Columns `img` or `image` (struct of bytes and path, or bytes) and `label` (number or text); class names come
from the schema's feature description.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.data.dataset import SPLITS, Labels, Picture, Pool, Rows, Source
from attnsearch.data.files import content_digest

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS = ("img", "image", "images", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
BATCH = 512


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, and the class names if the schema states them."""

    image: str
    label: str
    names: tuple[str, ...] = ()


def parquet_source(name: str, parts: Mapping[str, list[Path]], cache: Path | None) -> Source:
    """`parts`: {split: files}; a single part is split by us."""
    root = Path(name)
    files = [path for paths in parts.values() for path in paths]
    return Source(name, content_digest("parquet", root, files, cache), lambda: open_parquet(parts))


def parquet_parts(files: list[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names begin with; without such names all are one part."""
    parts = {part: [file for file in files if file.name.startswith(part)] for part in SPLITS}
    found = {str(part): chosen for part, chosen in parts.items() if chosen}
    return found if "train" in found else {"train": files}


def open_parquet(parts: Mapping[str, list[Path]]) -> Pool:
    """Labels and names of all files; images are read batch by batch later.

    Raises:
        DataError: not parquet, or no columns of images and labels.
    """
    columns = _columns(next(iter(parts.values()))[0])
    raw = {part: np.concatenate([_labels(path, columns) for path in paths]) for part, paths in parts.items()}
    classes, labels, named = number_classes(raw, columns.names)

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        return _read(parts[part], columns, rows)

    return Pool(classes, labels, read, named=named)


def number_classes(
    raw: Mapping[str, np.ndarray[Any, Any]], names: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], dict[str, Labels], bool]:
    """(class names, numbers per part, whether the names are words) from labels as they were written.

    Text is numbered in alphabetical order. Numbers are kept where `names` has them, else ranked.

    Raises:
        DataError: a label that is neither, or one beyond the names.
    """
    together = np.concatenate(list(raw.values()))
    if together.dtype.kind in "iub":
        kinds = np.unique(together)
        if names and len(kinds) and not 0 <= kinds[0] <= kinds[-1] < len(names):
            raise DataError(
                f"labels run from {kinds[0]} to {kinds[-1]}, but there are {len(names)} class names"
            )
        if names:
            return names, {part: values.astype(np.int64) for part, values in raw.items()}, True
    elif together.dtype.kind == "U":
        kinds = np.unique(together)
    else:
        raise DataError(f"labels must be whole numbers or text, not {together.dtype}")
    numbers = {part: np.searchsorted(kinds, values).astype(np.int64) for part, values in raw.items()}
    return tuple(str(kind) for kind in kinds), numbers, together.dtype.kind == "U"


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None


def _columns(path: Path) -> Columns:
    schema: pa.Schema = _open(path).schema_arrow
    features = _features(schema)
    images = [c for c in schema.names if features.get(c, {}).get("_type") == "Image"]
    images += [c for c in IMAGE_COLUMNS if c in schema.names]
    labels = [c for c in schema.names if features.get(c, {}).get("_type") == "ClassLabel"]
    labels += [c for c in LABEL_COLUMNS if c in schema.names]
    if not images or not labels:
        missing = "image" if not images else "label"
        known = IMAGE_COLUMNS if not images else LABEL_COLUMNS
        found = ", ".join(schema.names)
        raise DataError(f"{path}: no {missing} column ({', '.join(known)}); it has: {found}")
    label = next((c for c in LABEL_COLUMNS if c in labels), labels[0])
    return Columns(images[0], label, tuple(features.get(label, {}).get("names") or ()))


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """The hub's description of the columns; empty where there is none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _labels(path: Path, columns: Columns) -> np.ndarray[Any, Any]:
    file = _open(path)
    if missing := [name for name in (columns.image, columns.label) if name not in file.schema_arrow.names]:
        raise DataError(f"{path}: no column '{missing[0]}', which the other files have")
    column = file.read([columns.label]).column(0)
    if column.null_count:
        raise DataError(f"{path}: {column.null_count} rows have no {columns.label}")
    values = np.asarray(column.to_pylist() or [], dtype=None if len(column) else np.int64)
    return values


def _read(paths: list[Path], columns: Columns, rows: Rows) -> Iterator[tuple[str, Picture]]:
    """Ascending rows over the files one after another, a batch in memory at a time."""
    start = at = 0
    for path in paths:
        first = start
        for batch in _open(path).iter_batches(BATCH, columns=[columns.image]):
            stop = start + len(batch)
            end = int(np.searchsorted(rows, stop))
            if end > at:
                wanted = batch.column(0).take((rows[at:end] - start).tolist())
                for row, value in zip(rows[at:end], wanted.to_pylist(), strict=True):
                    yield f"{path} row {row - first}", cell_bytes(value)
            start, at = stop, end
            if at == len(rows):
                return


def cell_bytes(value: Any) -> bytes:
    """The encoded picture of one cell; nothing where it is empty or only names a file elsewhere."""
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else b""
