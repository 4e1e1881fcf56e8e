"""Which split a folder, a file or an array belongs to, by the words of its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attnsearch.data.dataset import SplitName

SPLIT_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
}


def words(name: str) -> list[str]:
    """Words of a name in lower case: `X_train-01` and `xTrain` -> x, train; `trainset` -> train.

    Whatever is no Latin letter separates words, and so does a capital after a small letter.
    """
    found = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    return [word.removesuffix("set") if word.removesuffix("set") in SPLIT_WORDS else word for word in found]


def split_of(name: str) -> SplitName | None:
    """The split that a name speaks of; None where it speaks of none or of several."""
    splits = {SPLIT_WORDS[word] for word in words(name) if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def is_split_word(name: str) -> bool:
    """Whether a split's word is all there is to a name: `Training`, `train2017`, but not `train_images`."""
    return split_of(name) is not None and len(words(name)) == 1


def by_split(names: Iterable[str]) -> dict[SplitName, str]:
    """{split: the name that speaks of it}; `train` goes before `train_small`, else the first one."""
    chosen: dict[SplitName, str] = {}
    for name in sorted(names, key=lambda name: not is_split_word(name)):
        if split := split_of(name):
            chosen.setdefault(split, name)
    return chosen
