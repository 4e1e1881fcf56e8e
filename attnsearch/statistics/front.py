"""The Pareto front of error against cost, and how sure it is of each of its points.

    assess(archs)            `ArchRuns` -> `Front` of one `ArchResult` each: mean, interval, P(front), status
    tied_with_best           archs whose error does not differ from the lowest

`arch_runs` has the errors of each architecture by seed, `front_probability` the model behind P(front), and `next_runs`
what would decide the undecided.

Costs are counted, so they are known exactly; only the error is uncertain. Everything is minimised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.estimate import Estimate
from attnsearch.statistics import front_probability
from attnsearch.statistics.arch_runs import ArchRuns
from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.effects import NO_NOISE
from attnsearch.statistics.noise import near_chance, pooled_sd
from attnsearch.statistics.pareto import Floats, pareto

CONFIRMED = 0.95  # P(front) from which an architecture counts as on the front
DOMINATED = 0.05  # P(front) up to which it counts as dominated
INDEPENDENT = 2  # seeds that the choice has not seen, from which a place may be confirmed: one has no spread
DRAWS = 20_000  # Monte-Carlo error of a probability: at most 0.0035
MOST_DRAWN = 20_000_000  # errors: of 6,000 architectures 3,333 draws, Monte-Carlo error at most 0.009


class Status(StrEnum):
    """Where an architecture stands: the one vocabulary of tables, sentences and plots."""

    BY_COST = "by its cost"
    CONFIRMED = "confirmed"
    UNDECIDED = "undecided"
    NOT_CONFIRMED = "not confirmed"
    DOMINATED = "dominated"
    UNKNOWN = "unknown"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Status.BY_COST: "on the front whatever its error, since no other architecture costs as little",
    Status.CONFIRMED: f"P(front) at least {CONFIRMED:.2f}, with {INDEPENDENT} independent seeds or more",
    Status.UNDECIDED: "may be on the Pareto front; more seeds would decide",
    Status.NOT_CONFIRMED: "looked good in the search, but independent seeds did not confirm it",
    Status.DOMINATED: "an architecture of equal or lower cost has a lower error (P(front) at most "
    f"{DOMINATED:.2f})",
    Status.UNKNOWN: "too few repeated seeds to know the noise, an error no better than guessing, or a recipe far from "
    "converged",
}


@dataclass(frozen=True, kw_only=True)
class ArchResult(ArchRuns):
    """What is known of one architecture: of its error, its place on the front, and its difference from the baseline.

    Args:
        error: mean over `shown_errors` with its 95 % t interval (pooled sd; no ends without any replicate).
        p_front: probability that no other architecture has both no more cost and no more error.
        observed: on the front of the plain means.
        optimism: mean of the fresh runs minus mean of the searched ones, in percentage points; positive where
            the search underestimated the error.
        number: in tables, plots and commands, by rising cost; 0 outside a report.
        baseline, control: whether it is the baseline; which control of an ablation it is, if any.
        ratio: first cost over the baseline's.
        difference: baseline's error minus its own, paired over seeds, in percentage points.
        tied: whether its error does not differ significantly from the lowest.
        next_seeds: seeds that it would get of the next runs that decide most.
        name, verdict: of a variant of an ablation; empty for a search.
    """

    error: Estimate
    p_front: float | None
    status: Status
    observed: bool
    optimism: float | None
    number: int = 0
    baseline: bool = False
    control: str = ""
    ratio: float | None = None
    difference: Estimate | None = None
    tied: bool = False
    next_seeds: int = 0
    name: str = ""
    verdict: str = ""

    @property
    def mean(self) -> float:
        return self.error.mean

    @property
    def outcome(self) -> str:
        """One or two words for tables: the verdict in an ablation, else the status."""
        return self.verdict or ("control" if self.control else str(self.status))

    @property
    def title(self) -> str:
        """For people: the variant's name in an ablation, else the architecture and what it stands for."""
        if self.name:
            return self.name
        extra = "baseline" if self.baseline else self.control
        return f"{self.label} ({extra})" if extra else self.label


@dataclass(frozen=True)
class Front:
    """One result for each architecture, by rising cost, with the noise they were judged by.

    `sd` is the pooled sd of a run in percentage points with its degrees of freedom; None when no architecture has
    two seeds, and then nothing is said of certainty.
    """

    results: tuple[ArchResult, ...]
    sd: float | None
    degrees: int

    def __iter__(self) -> Iterator[ArchResult]:
        return iter(self.results)


def membership(errors: Floats, costs: Floats) -> Floats:
    """P(front) of each architecture: the share of draws in which nothing of no more cost has a lower error.

    Args:
        errors: (draws, n) true errors, from their posterior. costs: (n,) or (n, m), known.
    """
    return np.asarray(_on_front(errors, costs.reshape(len(costs), -1)).mean(axis=0))


def _chances(archs: Sequence[ArchRuns], costs: Floats, draws: int, seed: int) -> Floats:
    """`membership` (n,) of all architectures, from draws that are not held at once."""
    draws = min(draws, max(1, MOST_DRAWN // len(archs)))
    on = np.zeros(len(archs))
    for errors in front_probability.batches(_flat(archs), draws, np.random.default_rng(seed)):
        on += _on_front(errors, costs).sum(axis=0)
    return np.asarray(on / draws)


def _on_front(errors: Floats, costs: Floats) -> NDArray[np.bool_]:
    """(draws, n) errors, (n, m) costs -> (draws, n): no arch of no more cost has less error."""
    if costs.shape[1] == 1:
        order = np.argsort(costs[:, 0], kind="stable")
        best = np.take(errors, order, axis=1)
        np.minimum.accumulate(best, axis=1, out=best)
        last = np.searchsorted(costs[order, 0], costs[:, 0], side="right") - 1  # equal costs compete too
        return np.asarray(errors <= np.take(best, last, axis=1))
    rivals = np.asarray((costs[None, :, :] <= costs[:, None, :]).all(axis=2))
    strongest = np.where(rivals, errors.mean(axis=0), np.inf).argmin(axis=1)
    wins = np.asarray(errors <= errors[:, strongest])  # few do, and only they are held against all rivals
    for i in np.flatnonzero(wins.any(axis=0)):
        drawn = np.flatnonzero(wins[:, i])
        wins[drawn, i] = errors[drawn, i] <= errors[np.ix_(drawn, rivals[i])].min(axis=1)
    return wins


def assess(
    archs: Sequence[ArchRuns],
    *,
    baseline: str | None = None,
    guessing: float = math.inf,
    draws: int = DRAWS,
    seed: int = 0,
) -> Front:
    """Judge every architecture's place on the front of error against its costs.

    All runs, searched and fresh, inform P(front), by the model of `front_probability`. The mean shown is over fresh
    seeds alone, as soon as there is one. The `baseline` (key) was chosen by no result, so its search seeds can confirm
    it. Nothing is said of the certainty of architectures that err nearly as often as `guessing` does (percent), nor of
    any while the noise has fewer than three degrees of freedom or repeated runs do not vary.
    """
    archs = sorted(archs, key=lambda arch: (arch.costs, np.mean(arch.errors)))
    if not archs:
        return Front((), None, 0)
    means = np.array([np.mean(arch.errors) for arch in archs])
    costs = np.array([arch.costs for arch in archs], dtype=float)
    learned = ~near_chance(means, guessing)
    sd, degrees = _noise([arch for arch, has in zip(archs, learned, strict=True) if has])
    chances: list[float | None] = [None] * len(archs)
    if sd is not None:
        known = [i for i in range(len(archs)) if learned[i]]
        for i, p in zip(known, _chances([archs[i] for i in known], costs[known], draws, seed), strict=True):
            chances[i] = float(p)
    observed = pareto(np.column_stack([costs, means]))
    alone = [bool((costs <= costs[i]).all(axis=1).sum() == 1) for i in range(len(archs))]
    rows = tuple(
        _result(arch, p, bool(on), sd if has else None, degrees, arch.key == baseline, cheapest)
        for arch, p, on, has, cheapest in zip(archs, chances, observed, learned, alone, strict=True)
    )
    return Front(_on_one_scale(rows, baseline), sd, degrees)


def _noise(archs: Iterable[ArchRuns]) -> tuple[float | None, int]:
    """Pooled sd of a run and its degrees of freedom, from runs that were judged on the same images."""
    groups = [group for arch in archs for group in _by_images(arch)]
    sd, degrees = pooled_sd(groups)
    return (None, degrees) if sd is None or degrees < LEAST_DEGREES or sd < NO_NOISE else (sd, degrees)


def _by_images(arch: ArchRuns) -> list[list[float]]:
    if arch.other_images:
        return [list(arch.search_errors.values()), list(arch.fresh_errors.values())]
    return [list(arch.errors)]


def _flat(archs: Sequence[ArchRuns]) -> front_probability.Runs:
    """All runs in a row, seeds numbered."""
    rows = [
        (i, seed, int(arch.other_images and seed in arch.fresh_errors), error)
        for i, arch in enumerate(archs)
        for seed, error in {**arch.search_errors, **arch.fresh_errors}.items()
    ]
    arch, seeds, images, errors = zip(*rows, strict=True)
    return front_probability.Runs(
        arch=np.array(arch),
        seed=np.unique(np.array(seeds), return_inverse=True)[1],
        images=np.array(images),
        errors=np.array(errors, dtype=float),
        costs=np.array([arch.costs[0] for arch in archs], dtype=float),
    )


def _on_one_scale(rows: tuple[ArchResult, ...], baseline: str | None) -> tuple[ArchResult, ...]:
    """Optimism where the fresh runs were judged on other images: less what these do to the baseline, or none."""
    plain = next((row for row in rows if row.key == baseline), None)
    shift = None if plain is None or not plain.other_images else plain.optimism
    moved = [row for row in rows if row.other_images and row.optimism is not None]
    known = {row.key: None if shift is None else (row.optimism or 0.0) - shift for row in moved}
    return tuple(replace(row, optimism=known[row.key]) if row.key in known else row for row in rows)


def unranked(front: Front) -> Front:
    """The same errors and intervals without any place on the front: of a recipe that is far from converged, the order
    is that of speed.
    """
    rows = (replace(row, p_front=None, status=Status.UNKNOWN, observed=False) for row in front)
    return replace(front, results=tuple(rows))


def off_front(
    front: Front, archs: Iterable[ArchRuns], *, guessing: float = math.inf
) -> tuple[ArchResult, ...]:
    """Results of architectures that do not compete, such as an ablation's controls: the same noise, no place."""

    def sd(arch: ArchRuns) -> float | None:
        return None if near_chance(np.mean(arch.errors), guessing) else front.sd

    return tuple(_result(arch, None, False, sd(arch), front.degrees, False, False) for arch in archs)


def _result(
    arch: ArchRuns,
    p: float | None,
    observed: bool,
    sd: float | None,
    degrees: int,
    baseline: bool,
    cheapest: bool,
) -> ArchResult:
    shown = list(arch.shown_errors.values())
    mean = float(np.mean(shown))
    half = None if sd is None else _quantile(degrees) * sd / math.sqrt(len(shown))
    error = Estimate(mean, n=len(shown))
    if half is not None:  # an error lies between 0 and 100 %
        error = replace(error, low=max(0.0, mean - half), high=min(100.0, mean + half))
    both = bool(arch.fresh_errors) and bool(arch.search_errors)
    return ArchResult(
        **vars(arch),
        error=error,
        p_front=p,
        status=Status.BY_COST if cheapest else _status(arch, p, baseline),
        observed=observed,
        optimism=mean - float(np.mean(list(arch.search_errors.values()))) if both else None,
    )


def _status(arch: ArchRuns, p: float | None, baseline: bool) -> Status:
    """A search value alone confirms nothing: it chose the architecture."""
    if p is None:
        return Status.UNKNOWN
    if p <= DOMINATED:
        return Status.NOT_CONFIRMED if arch.fresh and arch.search_errors else Status.DOMINATED
    independent = len(arch.errors) if baseline else len(arch.fresh_errors)
    return Status.CONFIRMED if p >= CONFIRMED and independent >= INDEPENDENT else Status.UNDECIDED


def _quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def tied_with_best(archs: Iterable[ArchRuns]) -> set[str]:
    """Keys of the architectures whose error does not differ significantly from the lowest, itself included.

    95 % t interval of the difference of two means over the shown runs, sd pooled over the same runs; cost does not
    count.
    """
    shown = {arch.key: list(arch.shown_errors.values()) for arch in archs}
    if not shown:
        return set()
    means = {key: float(np.mean(errors)) for key, errors in shown.items()}
    best = min(means, key=lambda key: means[key])
    sd, degrees = pooled_sd(shown.values())
    t = 0.0 if sd is None else _quantile(degrees) * sd
    half = {key: t * math.sqrt(1 / len(errors) + 1 / len(shown[best])) for key, errors in shown.items()}
    return {key for key, mean in means.items() if mean - means[best] <= (0.0 if key == best else half[key])}
