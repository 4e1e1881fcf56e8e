"""Candidates of a model in the order of their gain, kept while further archs are taken from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attnsearch.sample.domain import Bools, Codes, Floats

BLOCK = 256  # candidates scored anew at once


class Shortlist:
    """Candidates by falling gain.

    When an arch is taken and believed to come out at its mean, the model grows surer of all others and the front can
    only fall: no gain rises. The gains from before are therefore bounds, and a candidate whose new gain is not below
    the bounds of all that were not scored anew is the best (lazy evaluation, Minoux 1978).

    Args:
        codes: candidates (m, S). gains: theirs, (m,).
    """

    def __init__(self, codes: Codes, gains: Floats) -> None:
        self._codes, self._gains = codes, gains
        self._sort()

    def best(self, fresh: Callable[[Codes], Bools]) -> tuple[Codes, float] | None:
        """The candidate of largest gain among those that `fresh` lets pass, by the latest scores."""
        keep = fresh(self._codes)
        if not keep.any():
            return None
        first = int(np.argmax(keep))
        return self._codes[first], float(self._gains[first])

    def rescore(self, gain: Callable[[Codes], Floats], fresh: Callable[[Codes], Bools]) -> None:
        """Score by a model that has taken more archs, as many as the best needs; drops those no longer fresh."""
        keep = fresh(self._codes)
        self._codes, self._gains = self._codes[keep], self._gains[keep]
        for start in range(0, len(self._codes), BLOCK):
            rows = slice(start, start + BLOCK)
            self._gains[rows] = gain(self._codes[rows])
            if self._gains[: start + BLOCK].max() >= max(self._gains[start + BLOCK :], default=0.0):
                break
        self._sort()

    def _sort(self) -> None:
        order = best_first(self._gains)
        self._codes, self._gains = self._codes[order], self._gains[order]


def best_first(gains: Floats) -> NDArray[np.intp]:
    """Rows by falling gain; gains alike to six digits of the largest keep their order.

    The last bits of a product of matrices depend on where in memory they lie: a resumed study, which must propose
    what an uninterrupted one would, may not see an order in them.
    """
    if len(gains) == 0:
        return np.empty(0, np.intp)
    return np.argsort(-np.round(gains / (gains.max() or 1.0), 6), kind="stable")
