"""Seeds: of a study's trials, in ranges by purpose, and of each random choice within a training.

A study of seed s owns the trial seeds 1000 s to 1000 s + 999: one for each repeat, the same for all archs. Repeat 0 is
the seed of a search; the last hundred are reserved, so that what reports, audits and tests claim rests on trainings
that no choice has seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from enum import Enum

from attnsearch.core.errors import UsageError

PER_STUDY = 1000


class Repeats(Enum):
    """Which repeats serve which purpose."""

    STUDY = range(900)  # of a search, from 0, and of a design
    REPORT = range(900, 950)  # the last trainings of a search, which alone are claimed
    AUDIT = range(950, 980)  # of `validate`
    TEST = range(980, 1000)  # before the test split is opened

    def take(self, count: int, used: Collection[int] = ()) -> tuple[int, ...]:
        """The first so many repeats of this purpose that are not in use; raises `UsageError` where fewer are left."""
        free = [repeat for repeat in self.value if repeat not in used][:count]
        if len(free) < count:
            raise UsageError(
                f"a study keeps {len(self.value)} seeds for {self.name.lower()} trainings and {len(free)} are free, "
                f"not {count}"
            )
        return tuple(free)


def trial_seed(study_seed: int, repeat: int) -> int:
    """Seed of the trainings of one repeat."""
    return PER_STUDY * study_seed + repeat


def repeat_of(seed: int) -> int:
    """The repeat that a trial's seed belongs to."""
    return seed % PER_STUDY


def derive(seed: int, *words: str) -> int:
    """A generator's seed (56 bits) for a purpose within a training, unrelated for unequal words."""
    return int.from_bytes(hashlib.sha256("/".join((str(seed), *words)).encode()).digest()[:7], "big")


def uniform(seed: int, word: str) -> float:
    """A number in 0..1 that is the same for the same seed and word, wherever it is drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{word}".encode()).digest()[:8], "big") / 2**64
