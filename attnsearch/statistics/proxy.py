"""Does the short training rank archs like the long one? The audit of a proxy.

    choose   which archs to train to full length
    pairs    trials -> one short and one or more long errors per arch
    audit    -> Audit: rank agreement beyond what cost tells anyway, regret of believing the proxy, a verdict

Cost alone ranks archs about as well as many a proxy, so the measure that counts is the partial rank
correlation given cost, and the regret among archs of like cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.trial import TrialResult
from attnsearch.statistics.front import pooled_sd
from attnsearch.statistics.pareto import pareto

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Trust = Literal["trust", "use with re-evaluation", "do not trust"]

TRUSTED = 0.2  # lower bound of the partial tau above which a proxy is trusted; 30 archs can reach it
REGRET = 0.5  # points that the best of the proxy's three may cost within a band
BANDS = 6  # of cost, that archs are chosen evenly over
PER_BAND = 5  # archs in a band of like cost
LEAST = 8  # archs below which no interval is worth its name
SLACK = 0.25  # sds of the long-by-short line within which an arch still counts as on the proxy's front


@dataclass(frozen=True)
class Pair:
    """One arch trained short and long; errors in percent, one long error per seed."""

    key: str
    cost: float
    short: float
    long: tuple[float, ...]


@dataclass(frozen=True)
class Audit:
    """What the pairs say; intervals are 95 % percentile bootstraps over archs, within bands.

    Args:
        archs: how many; bands: groups of like cost that regret is taken in.
        tau: Kendall's rank correlation of short and long errors; partial_tau: the same given the cost.
        cost_tau: rank correlation of cost and long accuracy: what ranking by cost alone would reach.
        ceiling: tau that a perfect proxy would show against one long run, at the noise of repeated long runs;
            None without repeats.
        regret_1, regret_3: points lost within a band by taking the proxy's best, or the best of its best
            three.
        front_kept: share of the long front that stands within 0.25 sd of the short front.
        run_sd: sd of a long run over seeds in points; None without repeats.
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

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Audit:
        """From the plain values that a study keeps."""
        return cls(**{field.name: kept[field.name] for field in fields(cls)})

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
        ceiling = "" if self.ceiling is None else f"; a perfect proxy would reach about {self.ceiling:.2f}"
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


def choose(costs: ArrayLike, short: ArrayLike, size: int = 30, *, seed: int = 0) -> list[int]:
    """Indices of archs to train long: even over bands of cost and, within each, over thirds by short error.

    Bands and thirds hold equal numbers of archs, so that the sample's rank correlation is the population's.
    """
    price, error = np.asarray(costs, dtype=float), np.asarray(short, dtype=float)
    usable = np.flatnonzero(np.isfinite(price) & np.isfinite(error))
    if len(usable) <= size:
        return [int(i) for i in usable]
    rng = np.random.default_rng(seed)
    cells: list[list[int]] = []
    for band in np.array_split(usable[np.argsort(price[usable], kind="stable")], BANDS):
        for third in np.array_split(band[np.argsort(error[band], kind="stable")], 3):
            cells.append([int(i) for i in rng.permutation(third)])
    chosen: list[int] = []
    while len(chosen) < size:  # one from each cell in turn, the cells in a new order each time
        for i in rng.permutation(len(cells)):
            if cells[i] and len(chosen) < size:
                chosen.append(cells[i].pop())
    return sorted(chosen)


def pairs(trials: Iterable[TrialResult], cost: str) -> list[Pair]:
    """Complete long `audit` trials, each with the first complete shorter trial of the same arch.

    The short one may be of any role: an audit also trains archs that the study had not. Seeds that shift all archs
    alike, as those of a half-trained network do by tens of points, must not rank the archs that had them: each further
    seed is freed of its mean difference from the commonest one, over the archs that had both.

    Raises:
        UsageError: a trial lacks the cost.
    """
    done = [trial for trial in trials if trial.finished]
    long: dict[str, list[TrialResult]] = {}
    for trial in done:
        if trial.role == "audit":
            long.setdefault(trial.key, []).append(trial)
    found, shift = [], _seed_shifts([run for runs in long.values() for run in runs])
    for key, runs in long.items():
        length = max(run.epochs for run in runs)
        short = [t for t in done if t.key == key and t.epochs < length]
        if short:
            first = min(short, key=lambda trial: trial.number)
            if cost not in first.costs:
                raise UsageError(
                    f"Trial {first.number} has no cost '{cost}'. It has: {', '.join(first.costs)}"
                )
            errors = tuple(
                float(run.error or 0.0) - shift[run.seed, length] for run in runs if run.epochs == length
            )
            found.append(Pair(key, first.costs[cost], float(first.error or 0.0), errors))
    return found


def _seed_shifts(runs: Sequence[TrialResult]) -> dict[tuple[int, int], float]:
    """(seed, epochs) -> points by which that seed errs more than the commonest one of that length."""
    shifts: dict[tuple[int, int], float] = {}
    for length in {run.epochs for run in runs}:
        errors: dict[int, dict[str, float]] = {}
        for run in runs:
            if run.epochs == length:
                errors.setdefault(run.seed, {})[run.key] = float(run.error or 0.0)
        common = max(errors.values(), key=len)
        for seed, found in errors.items():
            gaps = [error - common[key] for key, error in found.items() if key in common]
            shifts[seed, length] = float(np.mean(gaps)) if gaps else 0.0
    return shifts


def audit(found: Sequence[Pair], *, draws: int = 2_000, seed: int = 0) -> Audit:
    """Judge a proxy from archs trained short and long.

    trust: the partial tau's lower bound is over 0.2, and the upper bound of the regret of the proxy's best
    three is at most half a point or one run sd; use with re-evaluation: the lower bound is over 0; else do
    not trust.

    Raises:
        NoResultError: fewer than 8 archs.
    """
    if len(found) < LEAST:
        raise NoResultError(f"An audit needs {LEAST} archs trained short and long, there are {len(found)}")
    cost = np.array([pair.cost for pair in found])
    short = np.array([pair.short for pair in found])
    long = np.array([float(np.mean(pair.long)) for pair in found])
    sd, _ = pooled_sd([pair.long for pair in found])
    bands = _bands(cost)
    ranks = Ranks.of(short, long, cost)
    counts = _resampled(bands, draws, seed)
    everything = np.ones((1, len(found)))
    taus, partials, _ = ranks.taus(counts)
    regrets = _regrets(short, long, bands, counts)
    (tau,), (partial,), (cost_tau,) = ranks.taus(everything)
    ((regret_1, regret_3),) = _regrets(short, long, bands, everything)
    partial_interval, regret_3_interval = _interval(partials), _interval(regrets[:, 1])
    return Audit(
        verdict=_verdict(partial_interval[0], regret_3_interval[1], sd),
        archs=len(found),
        bands=len(bands),
        tau=float(tau),
        tau_interval=_interval(taus),
        partial_tau=float(partial),
        partial_interval=partial_interval,
        cost_tau=-float(cost_tau),  # costlier archs should have less error
        ceiling=None if sd is None else _ceiling(long, sd, seed),
        regret_1=float(regret_1),
        regret_1_interval=_interval(regrets[:, 0]),
        regret_3=float(regret_3),
        regret_3_interval=regret_3_interval,
        front_kept=_front_kept(cost, short, long),
        run_sd=sd,
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


def _ceiling(long: Floats, sd: float, seed: int) -> float:
    """Tau of true long errors, the spread of the measured ones freed of noise, with those of one run."""
    spread = float(long.var(ddof=1))
    kept = max(0.0, 1 - sd**2 / spread) if spread > 0 else 0.0
    true = long.mean() + (long - long.mean()) * math.sqrt(kept)
    rng = np.random.default_rng(seed)
    return float(np.mean([kendall(true, true + rng.normal(0, sd, len(true))) for _ in range(200)]))


def _front_kept(cost: Floats, short: Floats, long: Floats) -> float:
    """Share of the front of (cost, long) whose short error is within a slack of the best one that costs no more."""
    line = np.polyfit(short, long, 1) if np.ptp(short) > 0 else np.array([0.0, long.mean()])
    spread = float(np.std(long - np.polyval(line, short), ddof=2))
    order = np.argsort(cost, kind="stable")
    best = np.minimum.accumulate(short[order])[np.searchsorted(cost[order], cost, side="right") - 1]
    front = pareto(np.column_stack([cost, long]))
    return float((short[front] <= best[front] + SLACK * spread).mean())
