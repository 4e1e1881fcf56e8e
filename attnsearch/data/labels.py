"""Labels as they lie about -> one class number per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.core.text import printable
from attnsearch.data.dataset import Labels

Array = np.ndarray[Any, Any]
EXACT = 2.0**53  # above it a float no longer names one whole number


def label_values(values: Array | list[Any], where: str) -> Array:
    """Labels as one array (N,) of whole numbers or text.

    Read are numbers, whole numbers kept as floats, text and bytes; each also as a list or row of one, and
    one-hot rows.

    Args:
        where: names the column or array in errors.

    Raises:
        DataError: several labels for an image, none, or values that name no class.
    """
    array = _from_list(values, where) if isinstance(values, list) else values
    if array.ndim > 1 and array.size == len(array):
        array = array.reshape(-1)
    if array.ndim == 2:
        array = _from_one_hot(array, where)
    if array.ndim != 1:
        raise DataError(f"{where} has shape {array.shape}; one label for each image is needed")
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind == "S":
        return np.array([value.decode("utf-8", "backslashreplace") for value in array.tolist()], np.str_)
    if array.dtype.kind == "f" and bool((np.abs(array) < EXACT).all() and (array == np.rint(array)).all()):
        return array.astype(np.int64)
    if array.dtype.kind == "u" and len(array) and int(array.max()) < 2**63:
        return array.astype(np.int64)
    if array.dtype.kind not in "iuU":
        raise DataError(f"{where}: labels must be whole numbers or text, not {_kind(array)}")
    return array


def _from_list(values: list[Any], where: str) -> Array:
    """Values of a column; lists among them become rows."""
    if missing := sum(value is None for value in values):
        raise DataError(f"{where}: {missing:,} rows have no label")
    lists = [value for value in values if isinstance(value, list | tuple | np.ndarray)]
    if not lists:
        return np.asarray(values) if values else np.empty(0, np.int64)
    lengths = {len(value) for value in lists}
    if 0 in lengths:
        raise DataError(f"{where}: {sum(not len(value) for value in lists):,} rows have no label")
    if len(lists) < len(values) or len(lengths) > 1:
        raise _several(where, f"1 to {max(lengths)}")
    try:
        return np.asarray(values)
    except ValueError:  # lists in lists, of several lengths
        raise DataError(f"{where} holds lists of lists; one label for each image is needed") from None


def _from_one_hot(rows: Array, where: str) -> Array:
    """(N, K) rows with a single 1 -> (N,) its place."""
    if rows.dtype.kind in "biuf" and bool(((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all()):
        return np.asarray(rows.argmax(1))
    raise _several(where, str(rows.shape[1]))


def _several(where: str, count: str) -> DataError:
    return DataError(f"{where} gives {count} labels to an image; one class for each image is needed")


def _kind(array: Array) -> str:
    if array.dtype.kind == "f":
        return f"fractions ({array.dtype})"
    if array.dtype.kind == "O":
        return " or ".join(sorted({type(value).__name__ for value in array.tolist()}))
    return str(array.dtype)


def class_names(names: object) -> tuple[str, ...]:
    """Names of the classes as a file states them; none where they are not a list of words.

    Words that stand twice get their class number behind them.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return ()
    clean = [printable(name) for name in names]
    times = Counter(clean)
    unique = [name if times[name] == 1 else f"{name} ({number})" for number, name in enumerate(clean)]
    return tuple(unique) if len(set(unique)) == len(unique) else ()


def number_classes(
    raw: Mapping[str, Array], names: tuple[str, ...] = (), where: str = ""
) -> tuple[tuple[str, ...], dict[str, Labels], bool]:
    """(class names, numbers per part, whether the names are words) from arrays of `label_values`.

    Text is numbered in alphabetical order. Numbers are kept where `names` has them, else ranked.

    Raises:
        DataError: numbers in one part and text in another, or a number beyond the names.
    """
    if len({values.dtype.kind == "U" for values in raw.values() if len(values)}) > 1:
        raise DataError(f"{where}: labels are numbers in one part and text in another")
    together = np.concatenate([values for values in raw.values() if len(values)] or [np.empty(0, np.int64)])
    kinds = np.unique(together)
    words = together.dtype.kind == "U"
    if names and not words:
        if len(kinds) and not 0 <= kinds[0] <= kinds[-1] < len(names):
            raise DataError(
                f"{where}: labels run from {kinds[0]} to {kinds[-1]}, but there are {len(names)} class names"
            )
        return names, {part: values.astype(np.int64) for part, values in raw.items()}, True
    numbers = {part: np.searchsorted(kinds, values).astype(np.int64) for part, values in raw.items()}
    return _unique_words(kinds.tolist()), numbers, words


def _unique_words(kinds: Iterable[object]) -> tuple[str, ...]:
    words = [str(kind) for kind in kinds]
    return class_names(words) or tuple(map(repr, words))
