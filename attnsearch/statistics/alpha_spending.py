"""Looking at the verdicts after every seed block, and stopping for what is decided, without more false ones.

Each look is made at a nominal level of its own. Its course over the looks is that of Lan and DeMets (Biometrika 70:659,
1983) for one comparison of known variance; one factor on it, found by simulating whole tables with the rules of
`compare`, makes up for the several variants and for noise that is estimated from few runs, so that 5 % of tables have a
false verdict over all looks and variants.

    spending(t)            error spent at information t, O'Brien and Fleming's or a power of t
    boundaries(fractions)  critical z of each look, by recursive integration (Armitage, McPherson and Rowe 1969)
    levels(blocks, k)      nominal level of each look in a table of k variants
    judge(table)           every variant at the first look that decides it; its interval holds for all looks together
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attnsearch.statistics.dunnett import HALF, LEAST_DEGREES, dunnett_cdf
from attnsearch.statistics.effects import NO_NOISE
from attnsearch.statistics.error_table import Table, fit
from attnsearch.statistics.noise import pooled_variance
from attnsearch.statistics.power import ALPHA, seeds_needed
from attnsearch.statistics.verdict_types import DECIDED, Analysis, Verdict
from attnsearch.statistics.verdicts import compare

Floats = NDArray[np.float64]
Spending = Callable[[float], float]

FIRST = 3  # blocks at the first look, or more: with two, a verdict takes an effect of 5 run sds or more
TABLES = 20_000  # simulated for the factor
POWER = 2.0  # of the spending function used: between Pocock's (1) and O'Brien and Fleming's (3)


def obrien_fleming(t: float, alpha: float = ALPHA) -> float:
    """Two-sided error spent at information t of 0..1, nearly as by O'Brien and Fleming's constant boundary on sums."""
    return float(4 * special.ndtr(special.ndtri(alpha / 4) / math.sqrt(t))) if t > 0 else 0.0


def power_family(t: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """Error spent alpha t^power (Kim and DeMets, Biometrika 74:149, 1987)."""
    return float(alpha * t**power)


def boundaries(fractions: Sequence[float], spending: Spending = power_family) -> tuple[float, ...]:
    """Two-sided critical z of each look at these shares of the information, one comparison of known variance.

    The density of the sum is carried from look to look on a grid (step 0.01 to 0.02), 0 outside the boundary.
    """
    criticals: list[float] = []
    sums, density, before, spent = np.zeros(1), np.ones(1), 0.0, 0.0
    for t in fractions:
        increment = max(spending(t) - spent, 1e-12)
        spent += increment
        step = math.sqrt(t - before)

        def beyond(
            z: float, sums: Floats = sums, mass: Floats = density, t: float = t, step: float = step
        ) -> float:
            edge = z * math.sqrt(t)
            return float(mass @ (special.ndtr((-edge - sums) / step) + special.ndtr((sums - edge) / step)))

        low, high = 0.0, 12.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if beyond(middle) > increment else (low, middle)
        criticals.append(high)
        edge = high * math.sqrt(t)
        grid = np.linspace(-edge, edge, 801)
        kernel = np.exp(-0.5 * ((grid[:, None] - sums) / step) ** 2) / (step * math.sqrt(2 * math.pi))
        weights = np.full(len(grid), grid[1] - grid[0])
        weights[[0, -1]] /= 2
        sums, density, before = grid, (kernel @ density) * weights, t
    return tuple(criticals)


def first_look(k: int) -> int:
    """Blocks at the first look of a table of k variants: three, or as many as leave three degrees of freedom."""
    return max(FIRST, 1 + math.ceil(LEAST_DEGREES / (k - 1)))


@lru_cache(maxsize=64)
def levels(blocks: int, k: int) -> Mapping[int, float]:
    """Nominal level of the simultaneous comparisons at each look, by seed blocks seen, of `blocks` planned ones.

    Args:
        k: variants with the baseline.
    """
    looks = range(min(first_look(k), blocks), blocks + 1)
    course = [2 * float(special.ndtr(-z)) for z in boundaries([n / blocks for n in looks])]
    y = np.random.default_rng(1983).standard_normal((TABLES, k, blocks))
    least = np.min([_p_values(y[..., :n]) / level for n, level in zip(looks, course, strict=True)], axis=0)
    factor = float(np.quantile(least, ALPHA))
    return {n: min(factor * level, 0.5) for n, level in zip(looks, course, strict=True)}


def _p_values(y: Floats) -> Floats:
    """(tables,) smallest p value that `compare` gives a variant of tables (..., k, n), the first row the baseline's."""
    k, n = y.shape[-2:]
    variance, noisy = pooled_variance(y, baseline=0)
    gaps = y[:, :1] - y[:, 1:]
    own = noisy[:, 1:] | noisy[:, :1]
    mean = np.abs(gaps.mean(axis=2))
    shared = _p(mean / np.sqrt(2 * variance / n)[:, None], k - 1, (k - 1) * (n - 1))
    paired = _p(mean * math.sqrt(n) / gaps.std(axis=2, ddof=1), k - 1, n - 1)
    return np.asarray(np.where(own, paired, shared).min(axis=1))


def _p(t: Floats, comparisons: int, degrees: int) -> Floats:
    """Dunnett's p of each |t|, by interpolation of log p; 1 below `LEAST_DEGREES`."""
    if degrees < LEAST_DEGREES:
        return np.ones_like(t)
    grid = np.concatenate([np.linspace(0, 8, 60), np.linspace(8.5, 60, 30)])
    loadings = (HALF,) * comparisons
    p = np.array([max(1 - dunnett_cdf(d, loadings, degrees), 1e-13) for d in grid])
    return np.asarray(np.exp(np.interp(t, grid, np.log(p))))


def planned_blocks(table: Table, effect: float, most: int) -> int:
    """Seed blocks at most, so that `effect` points are found with some 80 % power at the noise of the first blocks.

    Those of a design with a fixed number, and 8 % on top: what looking early costs in power (`benchmarks.statistics`).
    The noise is taken from the first `FIRST` blocks, whose sd says nothing of any difference.
    """
    first = fit(table.errors[:, :FIRST])
    if not first.sd > NO_NOISE:
        return most
    needed = seeds_needed(effect, len(table.variants), sd=first.sd)
    least = first_look(len(table.variants))
    return most if needed is None else max(least, min(most, round(1.08 * needed)))


def judge(
    table: Table,
    baseline: str,
    blocks: int,
    *,
    margin: float | None = None,
    matched: Mapping[str, str] | None = None,
    guessing: float = math.inf,
) -> tuple[Analysis, frozenset[str]]:
    """Verdicts, each from the first look that decides it, and the variants that are still open.

    A variant that is decided is trained no further, so its row ends there. Intervals are repeated confidence intervals
    (Jennison and Turnbull 1989): whatever the look, all of them hold together in 95 of 100 studies.

    Args:
        table: blocks in the order in which they were run.
        blocks: that were planned; at the last one everything is decided as far as it can be.
        margin, matched, guessing: as of `compare`.
    """
    by_look = levels(blocks, len(table.variants))
    done: dict[str, Verdict] = {}
    analysis: Analysis | None = None
    for n in range(min(by_look), min(blocks, len(table.blocks)) + 1):
        seen = replace(table, blocks=table.blocks[:n], errors=table.errors[:, :n])
        analysis = compare(
            seen, baseline, margin=margin, matched=matched, level=by_look[n], guessing=guessing
        )
        found = [v for v in analysis.verdicts if v.outcome in DECIDED]
        done |= {v.variant: v for v in found if v.variant not in done}
    if analysis is None:
        analysis = compare(table, baseline, margin=margin, matched=matched, guessing=guessing)
    verdicts = tuple(done.get(v.variant, v) for v in analysis.verdicts)
    still = frozenset(v.variant for v in verdicts if v.variant not in done)
    return replace(analysis, verdicts=verdicts), still
