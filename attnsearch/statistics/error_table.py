"""Errors by variant and seed block, and the least squares of both.

The model is error = variant + block + noise with one noise sd, fitted by least squares, so that a table with
holes needs nothing else (the intra-block analysis; Cochran and Cox 1957, chapter 9).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnsearch.core.errors import NoResultError, UsageError, did_you_mean
from attnsearch.core.trial import TrialResult

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Errors in percent, (variants, blocks); NaN where a cell has not run or has failed."""

    variants: tuple[str, ...]
    blocks: tuple[int, ...]
    errors: Floats

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Table:
        """From tidy rows with the columns `variant`, `block`, `error`; of a repeated cell the last counts."""
        missing = [name for name in ("variant", "block", "error") if name not in frame.columns]
        if missing:
            has = ", ".join(map(str, frame.columns))
            raise UsageError(f"The table has no column '{missing[0]}'. It has: {has}")
        rows = zip(frame["variant"], frame["block"], frame["error"], strict=True)
        return cls.of_cells({(str(v), int(b)): float(e) for v, b, e in rows})

    @classmethod
    def of_trials(cls, trials: Iterable[TrialResult], names: Mapping[str, str]) -> Table:
        """From trials; blocks are their seeds. `names` maps arch key to variant; other archs are left out."""
        return cls.of_cells(
            {
                (names[trial.key], trial.seed): float(trial.error or 0.0)
                for trial in trials
                if trial.key in names and trial.finished
            }
        )

    @classmethod
    def of_cells(cls, cells: Mapping[tuple[str, int], float]) -> Table:
        """From {(variant, block): error}; variants in order of appearance, blocks sorted."""
        variants = tuple(dict.fromkeys(variant for variant, _ in cells))
        blocks = tuple(sorted({block for _, block in cells}))
        errors = np.full((len(variants), len(blocks)), np.nan)
        for (variant, block), error in cells.items():
            if math.isfinite(error):
                errors[variants.index(variant), blocks.index(block)] = error
        return cls(variants, blocks, errors)

    def row(self, variant: str) -> int:
        """Index of a variant; an unknown one is a `UsageError` with the nearest right word."""
        if variant not in self.variants:
            hint = did_you_mean(variant, self.variants)
            raise UsageError(f"No variant '{variant}' in the table.{hint} It has: {', '.join(self.variants)}")
        return self.variants.index(variant)

    def take(self, rows: Sequence[int]) -> Table:
        """The table with these rows alone, in this order."""
        return replace(self, variants=tuple(self.variants[i] for i in rows), errors=self.errors[list(rows)])

    @property
    def whole(self) -> Floats:
        """(variants, whole blocks): the blocks in which every variant ran."""
        return np.asarray(self.errors[:, np.isfinite(self.errors).all(axis=0)])


@dataclass(frozen=True)
class Fit:
    """Least squares of variant + block.

    Args:
        effects: (k,) variant effects on the error, up to a constant.
        covariance: (k, k) of `effects` in units of the noise variance; only its contrasts mean anything.
        sd, degrees: pooled residual sd in points and its degrees of freedom; NaN and 0 in a single block.
    """

    effects: Floats
    covariance: Floats
    sd: float
    degrees: int

    def contrast(self, weights: ArrayLike) -> tuple[float, float]:
        """Estimate and standard error, in points of accuracy, of a contrast (weights that sum to 0)."""
        w = np.asarray(weights, dtype=float)
        return -float(w @ self.effects), self.sd * math.sqrt(max(0.0, float(w @ self.covariance @ w)))


def fit(errors: ArrayLike) -> Fit:
    """Fit a (variants, blocks) table, NaN for holes.

    Raises:
        NoResultError: some variants share no chain of blocks with the others, so they cannot be compared.
    """
    y = np.asarray(errors, dtype=float)
    y = y[:, np.isfinite(y).any(axis=0)]
    here = np.isfinite(y)
    cells, size = np.where(here, y, 0.0), here.sum(axis=0)
    share = here / size
    information = np.diag(here.sum(axis=1).astype(float)) - share @ here.T
    if np.linalg.matrix_rank(information, hermitian=True) < len(y) - 1:
        raise NoResultError(
            "Some variants share no seed block with the others: whole blocks would compare them"
        )
    covariance = np.linalg.pinv(information, hermitian=True)
    effects = covariance @ (cells.sum(axis=1) - share @ cells.sum(axis=0))
    rest = np.where(here, y - effects[:, None], 0.0)
    rest = np.where(here, rest - rest.sum(axis=0) / size, 0.0)
    degrees = int(here.sum()) - y.shape[1] - (len(y) - 1)
    sd = math.sqrt(float((rest**2).sum()) / degrees) if degrees > 0 else math.nan
    return Fit(effects, covariance, sd, max(degrees, 0))
