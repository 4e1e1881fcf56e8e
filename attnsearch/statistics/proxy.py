"""Does the short training rank archs like the long one? `audit` judges a proxy by archs trained both ways.

Cost alone ranks archs about as well as many a proxy, so the measure that counts is the partial rank
correlation given cost, and the regret among archs of like cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from attnsearch.core.errors import NoResultError
from attnsearch.statistics.noise import pooled_sd
from attnsearch.statistics.pareto import pareto
from attnsearch.statistics.proxy_pairs import Pair

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Trust = Literal["trust", "use with re-evaluation", "do not trust"]

TRUSTED = 0.2  # lower bound of the partial tau above which a proxy is trusted; 30 archs can reach it
REGRET = 0.5  # points that the best of the proxy's three may cost within a band
PER_BAND = 5  # archs in a band of like cost
LEAST = 8  # archs below which no interval is worth its name
CEILING_DRAWS = 400  # of a perfect proxy: its mean tau is known to 0.005
SLACK = 0.25  # sds of the long-by-short line within which an arch still counts as on the proxy's front


@dataclass(frozen=True)
class Audit:
    """What the pairs say; intervals are 95 % percentile bootstraps over archs, within bands.

    Args:
        archs: how many; bands: groups of like cost that regret is taken in.
        tau: Kendall's rank correlation of short and long errors; partial_tau: the same given the cost.
        cost_tau: rank correlation of cost and long accuracy: what ranking by cost alone would reach.
        ceiling: tau that a perfect proxy would show in the mean with as many seeds, at the noise between repeated
            runs; None without long repeats, too high without short ones.
        regret_1, regret_3: points lost within a band by taking the proxy's best, or the best of its best
            three.
        front_kept: share of the long front that stands within 0.25 sd of the short front.
        run_sd: sd of a long run over seeds in points; None without repeats. short_sd: of a short one.
        spread: sd of the archs' long errors without their noise, in points.
        spearman: Spearman's rank correlation; spearman_ceiling: as `ceiling`.
    """

    verdict: Trust
    archs: int
    bands: int
    tau: float
    tau_interval: Interval
    partial_tau: float
    partial_interval: Interval
    cost_tau: float
    ceiling: float | None
    regret_1: float
    regret_1_interval: Interval
    regret_3: float
    regret_3_interval: Interval
    front_kept: float
    run_sd: float | None
    short_sd: float | None = None
    spread: float | None = None
    spearman: float | None = None
    spearman_interval: Interval | None = None
    spearman_ceiling: float | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Audit:
        """From the plain values that a study keeps; earlier versions kept fewer."""
        return cls(**{field.name: kept[field.name] for field in fields(cls) if field.name in kept})

    @property
    def beats_cost(self) -> bool:
        """Whether the proxy tells more than cost alone: the partial tau's interval is above 0."""
        return self.partial_interval[0] > 0

    def __str__(self) -> str:
        """The verdict on the proxy, and the numbers that it rests on."""
        low, high = self.partial_interval
        known = f"partial tau {self.partial_tau:.2f} given cost, 95 % interval {low:.2f} to {high:.2f}"
        if not self.beats_cost:
            beyond = f"it was not shown to rank archs better than their cost alone ({known})"
        else:
            beyond = f"it ranks archs of like cost ({known})"
        ceiling = (
            ""
            if self.ceiling is None
            else f"; a perfect proxy would show about {self.ceiling:.2f} at this noise"
        )
        regret = self.regret_3_interval[1]
        return (
            f"On {self.archs} archs trained short and long the proxy's verdict is: {self.verdict}. "
            f"Over all costs tau is {self.tau:.2f}, cost alone reaches {self.cost_tau:.2f}{ceiling}; {beyond}. "
            f"The best of its best three among like costs loses {self.regret_3:.2f} points, {regret:.2f} at most."
            f"{self._why_not()}"
        )

    def _why_not(self) -> str:
        if self.verdict != "use with re-evaluation":
            return ""
        if self.partial_interval[0] <= TRUSTED:
            wanted = f"a partial tau above {TRUSTED:g} at the interval's lower end"
            return f" Trust would take {wanted}: more archs may show it."
        return f" Trust would take a loss of at most {max(REGRET, self.run_sd or 0.0):.2f} points."


def audit(pairs: Sequence[Pair], *, draws: int = 2_000, seed: int = 0) -> Audit:
    """Judge a proxy from archs trained short and long.

    trust: the partial tau's lower bound is over 0.2, and the upper bound of the regret of the proxy's best
    three is at most half a point or one run sd; use with re-evaluation: the lower bound is over 0; else do
    not trust.

    Raises:
        NoResultError: fewer than 8 archs.
    """
    if len(pairs) < LEAST:
        raise NoResultError(f"An audit needs {LEAST} archs trained short and long, there are {len(pairs)}")
    cost = np.array([pair.cost for pair in pairs])
    short = np.array([float(np.mean(pair.short)) for pair in pairs])
    long = np.array([float(np.mean(pair.long)) for pair in pairs])
    short_sd, _ = pooled_sd([pair.short for pair in pairs])
    sd, _ = pooled_sd([pair.long for pair in pairs])
    ceiling, spearman_ceiling = (None, None) if sd is None else _ceilings(pairs, short_sd or 0.0, sd, seed)
    bands = _bands(cost)
    ranks = Ranks.of(short, long, cost)
    counts = _resampled(bands, draws, seed)
    everything = np.ones((1, len(pairs)))
    taus, partials, _ = ranks.taus(counts)
    regrets = _regrets(short, long, bands, counts)
    (tau,), (partial,), (cost_tau,) = ranks.taus(everything)
    ((regret_1, regret_3),) = _regrets(short, long, bands, everything)
    partial_interval, regret_3_interval = _interval(partials), _interval(regrets[:, 1])
    return Audit(
        verdict=_verdict(partial_interval[0], regret_3_interval[1], sd),
        archs=len(pairs),
        bands=len(bands),
        tau=float(tau),
        tau_interval=_interval(taus),
        partial_tau=float(partial),
        partial_interval=partial_interval,
        cost_tau=-float(cost_tau),  # costlier archs should have less error
        ceiling=ceiling,
        regret_1=float(regret_1),
        regret_1_interval=_interval(regrets[:, 0]),
        regret_3=float(regret_3),
        regret_3_interval=regret_3_interval,
        front_kept=_front_kept(cost, short, long),
        run_sd=sd,
        short_sd=short_sd,
        spread=None if sd is None else float(_without_noise(long, [p.long for p in pairs], sd).std(ddof=1)),
        spearman=spearman(short, long),
        spearman_interval=_interval(_spearmans(short, long, counts)),
        spearman_ceiling=spearman_ceiling,
    )


def _verdict(partial_low: float, regret_high: float, sd: float | None) -> Trust:
    if partial_low > TRUSTED and regret_high <= max(REGRET, sd or 0.0):
        return "trust"
    return "use with re-evaluation" if partial_low > 0 else "do not trust"


def _interval(values: Floats) -> Interval:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Ranks:
    """Signs of all pairwise differences, from which Kendall's tau-b of any resample follows by its counts."""

    short: Floats
    long: Floats
    cost: Floats

    @classmethod
    def of(cls, *values: Floats) -> Ranks:
        return cls(*(np.sign(value[:, None] - value[None, :]) for value in values))

    def taus(self, counts: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Of short and long, of the two given cost, and of cost and long; `counts` is (draws, archs)."""
        w = np.asarray(counts, dtype=float)
        tau = self._tau(self.short, self.long, w)
        by_short, by_long = self._tau(self.short, self.cost, w), self._tau(self.long, self.cost, w)
        with np.errstate(divide="ignore", invalid="ignore"):
            partial = (tau - by_short * by_long) / np.sqrt((1 - by_short**2) * (1 - by_long**2))
        return tau, np.where(np.isfinite(partial), partial, 0.0), by_long

    @staticmethod
    def _tau(a: Floats, b: Floats, w: Floats) -> Floats:
        def total(signs: Floats) -> Floats:
            return np.asarray(((w @ signs) * w).sum(axis=1))

        with np.errstate(divide="ignore", invalid="ignore"):
            tau = total(a * b) / np.sqrt(total(np.abs(a)) * total(np.abs(b)))
        return np.where(np.isfinite(tau), tau, 0.0)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b; 0 where one of the two does not vary."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    (tau,), _, _ = Ranks.of(x, y, np.zeros(len(x))).taus(np.ones((1, len(x))))
    return float(tau)


def _bands(cost: Floats) -> list[NDArray[np.int64]]:
    order = np.argsort(cost, kind="stable")
    return [np.asarray(band) for band in np.array_split(order, max(1, len(cost) // PER_BAND))]


def _resampled(bands: Sequence[NDArray[np.int64]], draws: int, seed: int) -> NDArray[np.int64]:
    """(draws, archs): how often each arch is drawn, each band keeping its size as it had in the choice."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((draws, sum(map(len, bands))), dtype=np.int64)
    for band in bands:
        counts[:, band] = rng.multinomial(len(band), [1 / len(band)] * len(band), size=draws)
    return counts


def _regrets(short: Floats, long: Floats, bands: Sequence[NDArray[np.int64]], counts: ArrayLike) -> Floats:
    """(draws, archs) counts -> (draws, 2): points lost with the proxy's best, and with its best three.

    Mean over bands of the long error of the best one taken over the least of the band.
    """
    drawn = np.asarray(counts)
    lost = []
    for band in bands:
        ranked = band[np.argsort(short[band], kind="stable")]
        here = drawn[:, ranked]
        before = np.cumsum(here, axis=1) - here
        errors = np.where(here > 0, long[ranked], np.inf)
        taken = [np.where(before < k, errors, np.inf).min(axis=1) for k in (1, 3)]
        lost.append(np.stack(taken, axis=1) - errors.min(axis=1)[:, None])
    return np.asarray(np.mean(lost, axis=0))


def _ceilings(pairs: Sequence[Pair], short_sd: float, long_sd: float, seed: int) -> tuple[float, float]:
    """Mean Kendall's tau and Spearman's rho of a proxy whose true errors are in the order of the true long ones.

    Simulated: the short errors without their noise, put into that order, and both with the noise of their seeds again.
    """
    shorts, longs = [pair.short for pair in pairs], [pair.long for pair in pairs]
    long = _without_noise(np.array([np.mean(errors) for errors in longs]), longs, long_sd)
    short = _without_noise(np.array([np.mean(errors) for errors in shorts]), shorts, short_sd)
    short = np.sort(short)[np.argsort(np.argsort(long, kind="stable"), kind="stable")]
    rng = np.random.default_rng(seed)

    def drawn(true: Floats, errors: Sequence[tuple[float, ...]], sd: float) -> Floats:
        return np.asarray(true + rng.normal(0, sd, len(true)) / np.sqrt([len(each) for each in errors]))

    draws = [(drawn(short, shorts, short_sd), drawn(long, longs, long_sd)) for _ in range(CEILING_DRAWS)]
    return float(np.mean([kendall(*d) for d in draws])), float(np.mean([spearman(*d) for d in draws]))


def _without_noise(means: Floats, errors: Sequence[tuple[float, ...]], sd: float) -> Floats:
    """Means over seeds drawn together until they spread as the true errors do."""
    spread = float(means.var(ddof=1))
    noise = sd**2 * float(np.mean([1 / len(each) for each in errors]))
    kept = max(0.0, 1 - noise / spread) if spread > 0 else 0.0
    return np.asarray(means.mean() + (means - means.mean()) * math.sqrt(kept))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one of the two does not vary."""
    (rho,) = _spearmans(
        np.asarray(a, dtype=float), np.asarray(b, dtype=float), np.ones((1, len(np.asarray(a))), int)
    )
    return float(rho)


def _spearmans(short: Floats, long: Floats, counts: NDArray[np.int64]) -> Floats:
    """(draws,) of resamples, each arch as often as `counts` (draws, archs) says."""
    rows = np.stack([np.repeat(np.arange(len(short)), count) for count in counts])
    x, y = (rankdata(values[rows], axis=1) - (rows.shape[1] + 1) / 2 for values in (short, long))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(np.isfinite(rho), rho, 0.0)


def _front_kept(cost: Floats, short: Floats, long: Floats) -> float:
    """Share of the front of (cost, long) whose short error is within a slack of the best one that costs no more."""
    line = np.polyfit(short, long, 1) if np.ptp(short) > 0 else np.array([0.0, long.mean()])
    spread = float(np.std(long - np.polyval(line, short), ddof=2))
    order = np.argsort(cost, kind="stable")
    best = np.minimum.accumulate(short[order])[np.searchsorted(cost[order], cost, side="right") - 1]
    front = pareto(np.column_stack([cost, long]))
    return float((short[front] <= best[front] + SLACK * spread).mean())
