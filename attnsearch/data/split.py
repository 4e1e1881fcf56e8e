"""The fixed split into train, val and test: stratified, decided by the order of the rows and a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.core.text import many
from attnsearch.data.dataset import SPLITS, Labels, Rows, SplitName
from attnsearch.data.grouping import split_groups

VAL_SHARE = TEST_SHARE = 0.15  # of a data set that comes in one piece
VAL_OF_TRAIN = 0.1  # where the owner set test images apart; the custom on CIFAR: 45,000 + 5,000 + 10,000

Plan = dict[SplitName, tuple[str, Rows]]  # split -> (part of the pool, ascending rows of it)


def plan_splits(
    labels: Mapping[str, Labels],
    *,
    seed: int,
    limit: int | None,
    groups: Mapping[str, Rows] | None = None,
) -> Plan:
    """Which rows of which part make each split: the owner's parts; what is missing is cut from train.

    Args:
        labels: {part: (N,)}; one part alone is cut in three. A set with train and val only has no test split.
        groups: {part: (N,)} of rows that must stay together; None where each stands for itself.
        limit: at most so many rows over all splits, classes and splits in proportion.

    Raises:
        DataError: a limit that leaves a class without an image in a split.
    """
    if len(labels) == 1:
        part = next(iter(labels))
        three = split_three(labels[part], seed, groups[part] if groups else None)
        plan: Plan = {split: (part, rows) for split, rows in zip(SPLITS, three, strict=True)}
    else:
        plan = {split: (split, np.arange(len(labels[split]))) for split in SPLITS if split in labels}
        if "val" not in plan:
            val, train = (
                split_groups(labels["train"], groups["train"], VAL_OF_TRAIN, seed)
                if groups
                else cut(labels["train"], VAL_OF_TRAIN, np.random.default_rng([seed, 1]))
            )
            plan |= {"train": ("train", train), "val": ("train", val)}
    total = sum(len(rows) for _, rows in plan.values())
    least = sum(len(np.unique(labels[part][rows])) for part, rows in plan.values())
    if limit is not None and limit < least:
        raise DataError(
            f"a limit of {many(limit, 'image')} is too low: one per class and split makes {least:,}"
        )
    if limit is None or limit >= total:
        return plan
    sizes: dict[SplitName, int] = {}
    for split in ("val", "test"):
        if split in plan:
            part, rows = plan[split]
            sizes[split] = max(limit * len(rows) // total, len(np.unique(labels[part][rows])))
    sizes["train"] = limit - sum(sizes.values())
    return {
        split: (part, rows[stratified(labels[part][rows], sizes[split], seed)])
        for split, (part, rows) in plan.items()
    }


def split_three(labels: Labels, seed: int, groups: Rows | None = None) -> tuple[Rows, Rows, Rows]:
    """Rows (ascending) of train, val and test: 70, 15 and 15 percent of every class, at least one each.

    With groups, whole ones, as near to that as they allow.
    """
    if groups is not None:
        test, rest = split_groups(labels, groups, TEST_SHARE, seed)
        val, train = split_groups(labels[rest], groups[rest], VAL_SHARE / (1 - TEST_SHARE), seed)
        return rest[train], rest[val], test
    test, rest = cut(labels, TEST_SHARE, np.random.default_rng([seed, 0]))
    val, train = cut(labels[rest], VAL_SHARE / (1 - TEST_SHARE), np.random.default_rng([seed, 1]))
    return rest[train], rest[val], test


def cut(labels: Labels, share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """(rows taken, rows left), both ascending: that share of every class, rounded, at least one of each."""
    order = rng.permutation(len(labels))
    taken = np.zeros(len(labels), bool)
    for kind in np.unique(labels):
        members = order[labels[order] == kind]
        taken[members[: max(1, round(len(members) * share))]] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def stratified(labels: Labels, count: int, seed: int = 0) -> Rows:
    """Ascending rows of at most `count`, classes in proportion (largest remainder), at least one of each."""
    kinds, sizes = np.unique(labels, return_counts=True)
    exact = sizes * min(count, len(labels)) / len(labels)
    quota = np.maximum(exact.astype(np.int64), 1)
    spare = min(count, len(labels)) - int(quota.sum())
    if spare > 0:
        quota[np.argsort(quota - exact, kind="stable")[:spare]] += 1
    while quota.sum() > max(count, len(kinds)):
        quota[np.argmax(quota)] -= 1
    order = np.random.default_rng([seed, 2]).permutation(len(labels))
    rows = [order[labels[order] == kind][:n] for kind, n in zip(kinds, quota, strict=True)]
    return np.sort(np.concatenate(rows))


def check_classes(classes: tuple[str, ...], labels: Mapping[str, Labels], where: str) -> None:
    """Every class has to have an image in train and val, and in a test split that is made here.

    Raises:
        DataError: fewer than two classes, or one with too few images; all such classes are named.
    """
    if len(classes) < 2:
        found = "".join(f": '{name}'" for name in classes)
        raise DataError(f"{where}: need ≥ 2 classes, found {len(classes)}{found}")
    apart = len(labels) > 1  # the owner split it
    problems = []
    for part, values in labels.items():
        if part == "test" and apart:
            continue
        needed = 1 if apart and (part != "train" or "val" in labels) else 2 if apart else 3
        for name, count in zip(classes, np.bincount(values, minlength=len(classes)).tolist(), strict=True):
            if count == 0 and apart:
                problems.append(f"class '{name}' has no image in {part}")
            elif count < needed:
                splits = "both train and val" if count < 2 or needed < 3 else "each of train, val and test"
                problems.append(f"class '{name}' has {many(count, 'image')}; cannot be in {splits}")
    if problems:
        advice = "add images, or leave small classes out with --min-per-class"
        raise DataError(f"{where}: " + "\n  ".join([*problems, advice]))
