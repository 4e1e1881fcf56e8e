"""What a design can see, before it is run: effects, seeds and hours.

Everything is the power of the test behind a verdict: Dunnett's simultaneous comparison with the baseline at 5
%, with its fallback for noisy variants. k counts the variants with the baseline, n the seed blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attnsearch.core.errors import UsageError
from attnsearch.statistics.dunnett import LEAST_DEGREES, dunnett_critical
from attnsearch.statistics.noise import pooled_variance, sd_interval

Floats = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.80
# Blocks from which a plain variant is judged noisy so rarely (under 1 %) that the closed form serves.
MANY = 16
SEARCHED = 100_000  # the most seeds that are considered
TABLES = 40_000  # simulated: 5 % are known to 0.1


def mde(n: int, k: int, *, sd: float = 1.0, rho: float = 0.0, power: float = POWER) -> float:
    """Smallest effect, in the unit of `sd`, that a verdict finds with the given power.

    Args:
        n, k: seed blocks; variants with the baseline.
        sd: standard deviation of a run over seeds; rho: the share of its variance that blocks take away.

    Returns:
        Points where `sd` is in points; infinite below three degrees of freedom.
    """
    _check(n, k, sd, rho)
    return detectable(n, k, power) * _standard_error(n, sd, rho)


def power_of(effect: float, n: int, k: int, *, sd: float, rho: float = 0.0) -> float:
    """Probability that a verdict finds a true difference of `effect` (same unit as `sd`) for what it is."""
    _check(n, k, sd, rho)
    shift = abs(effect) / _standard_error(n, sd, rho)
    degrees = (k - 1) * (n - 1)
    if degrees < LEAST_DEGREES:
        return 0.0
    if k > 2 and n < MANY:
        return float(np.searchsorted(_needed(n, k), shift) / len(_needed(n, k)))
    return float(1 - special.nctdtr(degrees, shift, dunnett_critical(k - 1, degrees)))


def seeds_needed(effect: float, k: int, *, sd: float, rho: float = 0.0, power: float = POWER) -> int | None:
    """Fewest seed blocks whose verdicts find `effect` with the given power; None beyond 100,000."""
    if effect <= 0:
        raise UsageError(f"The effect to be seen must be above 0 points, got {effect:g}")
    _check(2, k, sd, rho)

    def enough(n: int) -> bool:
        return mde(n, k, sd=sd, rho=rho, power=power) <= effect

    low, high = 1, 2  # `low` is not enough
    while not enough(high):
        if high == SEARCHED:
            return None
        low, high = high, min(2 * high, SEARCHED)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def detectable(n: int, k: int, power: float = POWER) -> float:
    """Effect, in standard errors, that a verdict finds with the given power; infinite below `LEAST_DEGREES`."""
    degrees = (k - 1) * (n - 1)
    if degrees < LEAST_DEGREES:
        return math.inf
    if k > 2 and n < MANY:
        return float(np.quantile(_needed(n, k), power, method="higher"))  # some are infinite
    return noncentrality(dunnett_critical(k - 1, degrees), degrees, power)


def noncentrality(critical: float, degrees: int, power: float = POWER) -> float:
    """Effect, in standard errors, at which t passes `critical` with the given power (noncentral t)."""
    return float(special.nctdtrinc(degrees, 1 - power, critical)) if math.isfinite(critical) else math.inf


@lru_cache(maxsize=128)
def widening(n: int, k: int) -> float:
    """Factor on the simultaneous critical value, in tables where a variant is judged noisy.

    It keeps false verdicts at 5 % of all tables. By itself the rule (`noise.pooled_variance`) would let 5.8 to 6.3 %
    through where all variants are equally noisy and normal: it sets some apart by chance and cuts their part in the
    pool. 1 where the rule is not applied, and from 16 blocks on, where chance hardly sets one apart.
    """
    if k < 3 or n < 2 or n >= MANY:
        return 1.0
    gaps, widths, noisy = _comparisons(n, k)
    reach = np.sort((np.abs(gaps) / widths).max(axis=1)[noisy])[::-1]
    false_elsewhere = int(((np.abs(gaps) > widths).any(axis=1) & ~noisy).sum())
    left = round(ALPHA * len(gaps)) - false_elsewhere
    return max(1.0, float(reach[left])) if 0 <= left < len(reach) else 1.0


@lru_cache(maxsize=128)
def _needed(n: int, k: int) -> Floats:
    """Sorted: the effect at which each comparison of simulated tables would have become a gain.

    In standard errors. Its quantile at p is the effect that is found with power p. Simulated since with few
    blocks a plain variant is often judged noisy by chance, which costs power that no closed form counts.
    """
    gaps, widths, noisy = _comparisons(n, k)
    wider = np.where(noisy, widening(n, k), 1.0)[:, None]
    return np.sort((wider * widths - gaps).ravel()) / math.sqrt(2 / n)


@lru_cache(maxsize=8)
def _comparisons(n: int, k: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of tables of run sd 1 without effects: (tables, k - 1) estimates, half the widths of their intervals, and
    which tables have a variant that is judged noisy.
    """
    y = np.random.default_rng(1955).standard_normal((TABLES, k, n))
    variance, noisy = pooled_variance(y, baseline=0)
    gaps = y[:, :1] - y[:, 1:]
    own = noisy[:, 1:] | noisy[:, :1]
    shared = dunnett_critical(k - 1, (k - 1) * (n - 1)) * np.sqrt(2 * variance / n)[:, None]
    paired = dunnett_critical(k - 1, n - 1) * gaps.std(axis=2, ddof=1) / math.sqrt(n)
    return gaps.mean(axis=2), np.where(own, paired, shared), np.asarray(noisy.any(axis=1))


def _standard_error(n: int, sd: float, rho: float) -> float:
    return sd * math.sqrt((1 - rho) * 2 / n)


def _check(n: int, k: int, sd: float, rho: float) -> None:
    if n < 1 or k < 2:
        raise UsageError(
            f"A plan needs at least one seed and two variants (the baseline and one more), got {n} and {k}"
        )
    if not (sd > 0 and math.isfinite(sd)) or not -1 < rho < 1:
        raise UsageError(
            f"A plan needs an sd above 0 and a correlation between -1 and 1, got {sd:g} and {rho:g}"
        )


@dataclass(frozen=True)
class Plan:
    """Seeds and hours for a wanted effect.

    Args:
        seeds: for the sd as given; None beyond 100,000. seeds_low, seeds_high: over the 80 % interval of that
            sd.
        trials, hours: for `seeds` whole blocks; hours is None when the seconds of a trial are not known.
        achieved: smallest effect that `at_hand` seeds can see; None where that was not asked, and where they see none.
    """

    effect: float
    variants: int
    sd: float
    rho: float
    power: float
    seeds: int | None
    seeds_low: int | None
    seeds_high: int | None
    trials: int | None
    hours: float | None
    at_hand: int | None
    achieved: float | None

    def __str__(self) -> str:
        """Seeds and hours for the wanted effect, how sure that is, and what the seeds at hand would see."""
        among = f"{self.variants} variants, baseline and controls included,"
        wanted = f"To see {self.effect:.2f} points with {100 * self.power:.0f} % power among {among}"
        noise = f"at a run sd of {self.sd:.2f} points" + (
            f" and a seed correlation of {self.rho:.2f}" if self.rho else ""
        )
        if self.seeds is None:
            needed = f"{wanted} {noise} takes over 100,000 seeds: out of reach."
        else:
            hours = "" if self.hours is None else f", about {duration(self.hours)}"
            needed = f"{wanted} {noise} takes {self.seeds} seeds, {self.trials} trials{hours}{self._range()}."
        if self.at_hand is None:
            return needed
        if self.achieved is None:
            return f"{needed} {self.at_hand} seeds would give no interval, and so see nothing."
        seen = f"{self.at_hand} seeds would see {self.achieved:.2f} points"
        less = "" if self.achieved <= self.effect else ", and could not tell a smaller effect from none"
        return f"{needed} {seen}{less}."

    def _range(self) -> str:
        if (self.seeds_low, self.seeds_high) == (self.seeds, self.seeds):
            return ""
        high = "over 100,000" if self.seeds_high is None else str(self.seeds_high)
        return f" (between {self.seeds_low} and {high}, as the sd itself rests on few runs)"


def plan(
    effect: float,
    variants: int,
    *,
    sd: float,
    degrees: int | None = None,
    rho: float = 0.0,
    power: float = POWER,
    seconds: float | None = None,
    workers: int = 1,
    at_hand: int | None = None,
) -> Plan:
    """Seeds, trials and hours that verdicts need to find `effect` points.

    Args:
        variants: with the baseline.
        sd, degrees: run sd in points and the degrees of freedom that it rests on (runs - 1 of the baseline);
            None takes it as known.
        seconds: of one trial; workers: trials side by side.
        at_hand: seeds that could be afforded; the plan says what they would see.
    """
    seeds = seeds_needed(effect, variants, sd=sd, rho=rho, power=power)
    low, high = sd_interval(sd, degrees, alpha=0.2) if degrees is not None else (sd, sd)
    bounds = [
        seeds_needed(effect, variants, sd=bound, rho=rho, power=power) if 0 < bound < math.inf else None
        for bound in (low, high)
    ]
    trials = None if seeds is None else seeds * variants
    achieved = math.inf if at_hand is None else mde(at_hand, variants, sd=sd, rho=rho, power=power)
    return Plan(
        effect=effect,
        variants=variants,
        sd=sd,
        rho=rho,
        power=power,
        seeds=seeds,
        seeds_low=bounds[0],
        seeds_high=bounds[1],
        trials=trials,
        hours=None if trials is None or seconds is None else math.ceil(trials / workers) * seconds / 3600,
        at_hand=at_hand,
        achieved=achieved if math.isfinite(achieved) else None,
    )


def duration(hours: float) -> str:
    """`12 minutes`, `3.4 hours`, `2.1 days`."""
    if hours < 1:
        return f"{max(1, round(60 * hours))} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
