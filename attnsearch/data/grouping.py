"""Groups: images of one patient, scene or video, which must not stand in two splits.

`--group-by` names what tells them: a column or an array, a folder below the class's, or a regular expression whose
first bracket is matched in a picture's path.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.core.text import many, printable
from attnsearch.data.dataset import Labels, Pool, Rows

Keys = dict[str, list[str]]  # {part: what names the group of each row}
LEVEL = re.compile(r"folder:([1-9]\d*)")


def with_groups(pool: Pool, by: str, name: str) -> Pool:
    """The pool with its rows numbered by group, in the order of their names.

    Raises:
        DataError: the source cannot tell, or a group stands in two of its owner's parts.
    """
    if pool.group_keys is None:
        raise DataError(f"{name}: --group-by is for image folders, parquet files and .npz files")
    keys = pool.group_keys(by)
    _check_apart(keys, name)
    names = sorted({key for part in keys.values() for key in part})
    number = {key: i for i, key in enumerate(names)}
    groups = {part: np.array([number[key] for key in values], np.int64) for part, values in keys.items()}
    _check_enough(pool, groups, name)
    note = f"{many(len(names), 'group')} by {printable(by)}, none of them in two splits"
    return replace(pool, groups=groups, note="; ".join(filter(None, (pool.note, note))))


def _check_apart(keys: Keys, name: str) -> None:
    """Refuse owner's parts that share a group."""
    parts = list(keys)
    for i, first in enumerate(parts):
        for second in parts[i + 1 :]:
            if shared := sorted(set(keys[first]) & set(keys[second])):
                raise DataError(
                    f"{name}: {many(len(shared), 'group')} in both {first} and {second}, as '{printable(shared[0])}'; "
                    "put all images of a group into one split"
                )


def _check_enough(pool: Pool, groups: Mapping[str, Rows], name: str) -> None:
    """Refuse a class with fewer groups than splits that are cut from its part; all such classes are named."""
    needed = 3 if len(groups) == 1 else 1 if "val" in groups else 2
    counts = {
        word: len(np.unique(groups["train"][pool.labels["train"] == kind]))
        for kind, word in enumerate(pool.classes)
    }
    few = [f"class '{word}' is in {many(count, 'group')}" for word, count in counts.items() if count < needed]
    if few:
        raise DataError(f"{name}: {'; '.join(few)}: {needed} are needed, one for each split that is made")


def keys_of_paths(paths: Mapping[str, Sequence[str]], by: str, name: str, depth: int = 1) -> Keys:
    """The group of each picture by its path.

    Args:
        paths: by part, relative to the data set's folder, with slashes.
        by: `folder:N`, the N-th folder below the class's, or a regular expression.
        depth: folders of a path down to the class's own; the last of them is the class.

    Raises:
        DataError: a path without such a folder or without a match, or an expression that is none.
    """
    if level := LEVEL.fullmatch(by):
        at = depth + int(level[1]) - 1
        missing = next((path for each in paths.values() for path in each if path.count("/") <= at), None)
        if missing is not None:
            raise DataError(f"{name}: {printable(missing)} lies in no {by} below its class")
        return {part: [path.split("/")[at] for path in each] for part, each in paths.items()}
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise DataError(f"--group-by {by}: no folder:N, and no regular expression ({error})") from None
    found = {part: [pattern.search(path) for path in each] for part, each in paths.items()}
    unmatched = [
        path for part, each in paths.items() for path, m in zip(each, found[part], strict=True) if not m
    ]
    if unmatched:
        raise DataError(
            f"{name}: --group-by {by} is not found in {many(len(unmatched), 'path')}, as {printable(unmatched[0])}"
        )
    return {
        part: [(m[1] if pattern.groups else m[0]) or "" for m in matches if m]
        for part, matches in found.items()
    }


def split_groups(labels: Labels, groups: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """(rows taken, rows left), both ascending: whole groups, near that share of the images, every class in both.

    Folds of scikit-learn's `StratifiedGroupKFold`; the one whose classes are nearest to their shares is taken.

    Raises:
        DataError: no fold leaves every class on both sides.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sizes = np.bincount(labels)
    best: tuple[float, Rows, Rows] | None = None
    most = min(max(2, round(1 / share)), len(np.unique(groups)))
    for folds in range(most, 1, -1):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
            try:
                made = list(splitter.split(np.zeros(len(labels)), labels, groups))
            except ValueError:  # no class has as many images as folds
                continue
        for left, taken in made:
            counts = np.bincount(labels[taken], minlength=len(sizes))
            if ((counts == 0) | (counts == sizes))[sizes > 0].any():
                continue
            off = float(np.abs(counts - share * sizes).sum())
            if best is None or off < best[0]:
                best = (off, np.sort(taken), np.sort(left))
    if best is None:
        raise DataError(
            "no split by groups leaves every class on both sides; put the images into folders train, val and test"
        )
    return best[1], best[2]


__all__ = ["Keys", "keys_of_paths", "split_groups", "with_groups"]
