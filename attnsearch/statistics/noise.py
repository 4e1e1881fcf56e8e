"""How noisy the runs of a table are: pooled, of each variant, and shared by the runs of one seed block.

Tables are (..., variants, blocks) arrays of errors; leading axes are tables side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

GUESSING = 0.9  # share of the error of guessing from which a network has learned next to nothing
NOISY = 1.5  # a variant whose own residual sd is over this many pooled ones is judged by its own pairs
CHANCE = 0.04  # level of the F test that the baseline must pass as well
# Sets where a noisy variant's part in the pool is cut: at 1 + KEPT / (blocks - 1) pooled variances.
KEPT = 2.4


def near_chance(error: ArrayLike, guessing: float) -> NDArray[np.bool_]:
    """Whether mean errors are those of networks that have learned next to nothing; `guessing`: the error of guessing,
    infinite where it is not known.
    """
    return np.asarray(np.asarray(error, dtype=float) >= GUESSING * guessing)


def pooled_sd(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """Sd of a run around its arch's mean, pooled over all replicated archs, and its degrees of freedom."""
    arrays = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in arrays)
    if not degrees:
        return None, 0
    return math.sqrt(sum(float(((g - g.mean()) ** 2).sum()) for g in arrays) / degrees), degrees


def residuals(errors: ArrayLike) -> Floats:
    """What variant and block means leave; tables without holes."""
    y = np.asarray(errors, dtype=float)
    return np.asarray(
        y
        - y.mean(axis=-1, keepdims=True)
        - y.mean(axis=-2, keepdims=True)
        + y.mean(axis=(-2, -1), keepdims=True)
    )


def variant_variances(errors: ArrayLike) -> Floats:
    """Residual variance of each of three or more variants (Grubbs 1948; Ehrenberg 1950), (..., variants).

    Unbiased, so it may fall below 0; the mean over the variants is the pooled residual variance.
    """
    rest = residuals(errors)
    k, n = rest.shape[-2:]
    own = (rest**2).sum(axis=-1) / (n - 1)
    return np.asarray((k * (k - 1) * own - own.sum(axis=-1, keepdims=True)) / ((k - 1) * (k - 2)))


def pooled_variance(errors: ArrayLike, baseline: int | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """Pooled residual variance (...) and which variants are too noisy for it (..., variants).

    Noisy is a variant whose own residual sd is over 1.5 pooled ones: its comparisons go by paired differences.
    The baseline, which would take every comparison with it, must pass an F test against the others at 4 % too.
    A noisy variant still counts in the pool, cut at 1 + 2.4 / (blocks - 1) pooled variances. To drop it would
    make the pool too small where it was only chance (family-wise coverage .89 at 3 blocks and 11 variants), to
    keep it whole would blunt the other comparisons (per-comparison coverage .975 under t3 noise). The two
    constants were chosen so that T1 to T3 of `benchmarks/statistics/simulate.py` hold together at 3 and 5 blocks.

    The price, where all variants are equally noisy and normal: the pooled variance comes out too small (its root by 3 %
    for 10 variants in 6 blocks), and instead of 5 % of tables 5.8 % would have a false verdict, 6.3 % at 3 blocks and
    11 variants (40,000 and 80,000 tables); `power.widening` makes up for it.
    """
    y = np.asarray(errors, dtype=float)
    k, n = y.shape[-2:]
    if k < 3:
        plain = (residuals(y) ** 2).sum(axis=(-2, -1)) / ((k - 1) * (n - 1))
        return np.asarray(plain), np.zeros(y.shape[:-1], dtype=bool)
    own = variant_variances(y)
    pooled = own.mean(axis=-1, keepdims=True)
    noisy = own > NOISY**2 * pooled
    if baseline is not None:
        others = (k * pooled[..., 0] - own[..., baseline]) / (k - 1)
        by_chance = float(special.fdtri(n - 1, (k - 2) * (n - 1), 1 - CHANCE))
        noisy[..., baseline] &= own[..., baseline] > by_chance * others
    cut = (1 + KEPT / (n - 1)) * pooled
    return np.where(noisy, np.minimum(own, cut), own).mean(axis=-1), np.asarray(noisy)


def equal_noise(errors: ArrayLike) -> tuple[float | None, float | None]:
    """Largest over smallest residual sd of a variant, and Brown and Forsythe's p that all are equally noisy.

    From one (variants, blocks) table without holes; None where it is too small or does not vary.
    """
    y = np.asarray(errors, dtype=float)
    if y.shape[0] < 3 or y.shape[1] < 3:
        return None, None
    rest = residuals(y)
    sds = rest.std(axis=1, ddof=1)
    if sds.min() <= 1e-12 * max(1.0, float(np.abs(y).max())):
        return None, None
    k, n = rest.shape
    far = np.abs(rest - np.median(rest, axis=1, keepdims=True))  # Brown and Forsythe, JASA 69:364, 1974
    between = n * k * float(far.mean(axis=1).var()) / (k - 1)
    within = float(far.var(axis=1).mean()) * n / (n - 1)
    p = float(special.fdtrc(k - 1, k * (n - 1), between / within)) if within > 0 else math.nan
    return float(sds.max() / sds.min()), p


def seed_correlation(errors: ArrayLike) -> tuple[float, tuple[float, float]]:
    """Correlation of two variants' runs in one seed block, with its 95 % interval: what sharing the seed achieved.

    The intraclass correlation freed of variant means, (MS_block - MS_error) / (MS_block + (k - 1) MS_error),
    and its interval from the F distribution (Shrout and Fleiss 1979, ICC(3,1)). NaN where there is nothing to
    see.
    """
    y = np.asarray(errors, dtype=float)
    k, n = y.shape
    nothing = math.nan, (math.nan, math.nan)
    if k < 2 or n < 2:
        return nothing
    within = float((residuals(y) ** 2).sum()) / ((k - 1) * (n - 1))
    between = k * float(y.mean(axis=0).var(ddof=1))
    if within == 0:
        return nothing
    df = n - 1, (n - 1) * (k - 1)
    bounds = (float(special.fdtri(*df, 0.975)), float(special.fdtri(*df, 0.025)))
    ratio = between / within
    rho, low, high = ((f - 1) / (f + k - 1) for f in (ratio, ratio / bounds[0], ratio / bounds[1]))
    return rho, (low, high)


def sd_interval(sd: float, degrees: int, alpha: float) -> tuple[float, float]:
    """The (1 - alpha) interval of a standard deviation by chi-square; at 95 %, from 3 runs, it spans a factor of 12."""
    if degrees <= 0:
        return 0.0, math.inf
    high, low = special.chdtri(degrees, [1 - alpha / 2, alpha / 2])
    return sd * math.sqrt(degrees / float(low)), sd * math.sqrt(degrees / float(high))
