"""The Pareto front of error against cost, and how sure it is of each of its points.

    pareto, hypervolume      points as they stand
    candidates, assess       archs with their seeds -> a `Standing` each: P(front), interval, tie group
    next_cells               the (arch, seed) runs that would decide what is undecided

Costs are counted, so they are known exactly; only the error is uncertain. Everything is minimised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnsearch.core.errors import UsageError
from attnsearch.core.trial import TrialResult

Floats = NDArray[np.float64]
Status = Literal["confirmed", "undecided", "dominated", "unknown"]

CONFIRMED = 0.90  # P(front) from which an arch counts as on the front
DOMINATED = 0.05  # P(front) up to which it counts as dominated for sure
DRAWS = 20_000  # Monte-Carlo error of a probability: at most 0.0035


def pareto(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats: as good everywhere and better somewhere.

    Args:
        points: (n, m), m objectives to minimise. A point that is not finite is never on the front;
            points that are equal are on it together.

    Returns:
        (n,) mask. n log n for two objectives, n times the front's size beyond.
    """
    values = _points(points)
    mask = np.zeros(len(values), dtype=bool)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    # By the first objective, ties by the next: rivals come first.
    order = finite[np.lexsort(values[finite].T[::-1])]
    if values.shape[1] == 2:
        mask[order] = _pareto_sorted_2d(values[order])
        return mask
    front = np.empty((0, values.shape[1]))
    for index in order:
        point = values[index]
        beaten = ((front <= point).all(axis=1) & (front < point).any(axis=1)).any()
        if not beaten:
            mask[index] = True
            front = np.vstack([front, point])
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate up to `reference`; exact, in the product of the objectives' units.

    Args:
        points: (n, m) to minimise; those not below the reference everywhere add nothing.
        reference: (m,).
    """
    values, bound = _points(points), np.asarray(reference, dtype=float)
    if bound.shape != (values.shape[1],):
        raise UsageError(f"hypervolume: points have {values.shape[1]} objectives, the reference {bound.size}")
    inside = values[np.isfinite(values).all(axis=1) & (values < bound).all(axis=1)]
    return _volume(np.unique(inside[pareto(inside)], axis=0), bound) if len(inside) else 0.0


def _points(points: ArrayLike) -> Floats:
    values = np.asarray(points, dtype=float)
    if values.ndim != 2 or values.shape[1] < 1:
        raise UsageError(f"expected points of shape (n, objectives), got {values.shape}")
    return values


def _pareto_sorted_2d(values: Floats) -> NDArray[np.bool_]:
    if not len(values):
        return np.zeros(0, dtype=bool)
    before = np.concatenate([[np.inf], np.minimum.accumulate(values[:, 1])[:-1]])
    equal = np.concatenate([[False], (values[1:] == values[:-1]).all(axis=1)])
    better = values[:, 1] < before
    start = np.maximum.accumulate(np.where(equal, 0, np.arange(len(values))))
    return np.asarray(better[start])  # a copy of a point stands or falls with the first of its kind


def _volume(front: Floats, bound: Floats) -> float:
    """Slice along the last objective: each slab is a volume in one dimension less (While et al. 2006)."""
    if front.shape[1] == 1:
        return float(bound[0] - front.min())
    front = front[np.argsort(front[:, -1], kind="stable")]
    edges = np.append(front[:, -1], bound[-1])
    total = 0.0
    for i, height in enumerate(np.diff(edges)):
        if height > 0:
            slab = front[: i + 1, :-1]
            total += float(height) * _volume(slab[pareto(slab)], bound[:-1])
    return total


@dataclass(frozen=True)
class Candidate:
    """One arch as the front sees it.

    Args:
        key, label: canonical key, and the string for people.
        costs: the known costs, in the order of the front's axes.
        searched: error in percent by seed, of runs that may have chosen the arch.
        fresh: error by seed, of runs made after it was chosen; only these give an unbiased mean.
    """

    key: str
    label: str
    costs: tuple[float, ...]
    searched: Mapping[int, float] = field(default_factory=dict)
    fresh: Mapping[int, float] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[float, ...]:
        return (*self.searched.values(), *self.fresh.values())

    @property
    def seeds(self) -> frozenset[int]:
        return frozenset(self.searched) | frozenset(self.fresh)


@dataclass(frozen=True)
class Standing:
    """What is known of one arch's place.

    Args:
        n, mean: runs, and their mean error in percent; over fresh seeds only as soon as there is one.
        fresh: whether that mean is over fresh seeds only.
        low, high: 95 % t interval of the mean, pooled sd; None without a single replicate in the whole table.
        p_front: probability that no other arch of the table has both no more cost and no more error.
        status: confirmed, undecided, dominated; unknown where `p_front` is None.
        observed: on the front of the plain means.
        tied_with: key of the arch of the observed front, no dearer than this one, from whose error this one's
            cannot be told; None for an arch on that front and for one that is clearly worse.
        optimism: mean of the fresh runs minus mean of the searched ones, in points; positive when the search
            flattered.
    """

    candidate: Candidate
    n: int
    mean: float
    fresh: bool
    low: float | None
    high: float | None
    p_front: float | None
    status: Status
    observed: bool
    tied_with: str | None
    optimism: float | None


@dataclass(frozen=True)
class Front:
    """Every arch's standing, by rising cost, with the noise they were judged by.

    `sd` is the pooled sd of a run in points with its degrees of freedom; None when no arch has two seeds, and
    then nothing is said of certainty.
    """

    standings: tuple[Standing, ...]
    sd: float | None
    degrees: int

    def __iter__(self) -> Iterator[Standing]:
        return iter(self.standings)


def candidates(trials: Iterable[TrialResult], costs: Sequence[str]) -> list[Candidate]:
    """Complete trials gathered by arch key.

    Search trials choose, so runs of other roles count as fresh. Runs of the role `confirm`, asked for one by
    one as the front moves, choose a little too: once an arch has runs of the role `report`, only these count
    as fresh. Audits train longer and are left out. Of a repeated (arch, seed) the last counts.

    Raises:
        UsageError: a trial lacks one of the costs.
    """
    found: dict[str, dict[str, dict[int, float]]] = {}
    facts: dict[str, TrialResult] = {}
    for trial in trials:
        usable = trial.state == "complete" and trial.error is not None and math.isfinite(trial.error)
        if usable and trial.role != "audit":
            facts.setdefault(trial.key, trial)
            found.setdefault(trial.key, {}).setdefault(trial.role, {})[trial.seed] = float(trial.error or 0.0)
    gathered = []
    for key, by_role in found.items():
        searched, fresh = by_role.pop("search", {}), by_role.pop("report", {})
        rest = {seed: error for runs in by_role.values() for seed, error in runs.items()}
        if fresh:
            searched = {**searched, **rest}
        else:
            fresh = rest
        searched = {seed: error for seed, error in searched.items() if seed not in fresh}
        gathered.append(Candidate(key, facts[key].arch, _costs(facts[key], costs), searched, fresh))
    return gathered


def _costs(trial: TrialResult, names: Sequence[str]) -> tuple[float, ...]:
    missing = [name for name in names if name not in trial.costs]
    if missing:
        raise UsageError(
            f"Trial {trial.number} has no cost '{missing[0]}'. It has: {', '.join(trial.costs) or 'none'}"
        )
    return tuple(trial.costs[name] for name in names)


def pooled_sd(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """Sd of a run around its arch's mean, pooled over all replicated archs, and its degrees of freedom."""
    arrays = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in arrays)
    if not degrees:
        return None, 0
    return math.sqrt(sum(float(((g - g.mean()) ** 2).sum()) for g in arrays) / degrees), degrees


def membership(
    means: ArrayLike,
    counts: ArrayLike,
    costs: ArrayLike,
    sd: float,
    degrees: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Floats:
    """P(front) of each arch: draws from the posterior of the true errors, fronts of the draws counted.

    The posterior is normal around each mean with sd / sqrt(runs), and the pooled sd itself is drawn from its
    scaled inverse chi-square, so that the marginals are Student t. Flat prior.

    Args:
        means, counts: (n,) mean error and number of runs of each arch.
        costs: (n,) or (n, m), known.
        sd, degrees: pooled sd of a run and its degrees of freedom.

    Returns:
        (n,) probabilities with Monte-Carlo error at most 0.5 / sqrt(draws).
    """
    centre, scale = np.asarray(means, dtype=float), 1 / np.sqrt(np.asarray(counts, dtype=float))
    price = np.asarray(costs, dtype=float).reshape(len(centre), -1)
    rng = np.random.default_rng(seed)
    wins, done = np.zeros(len(centre)), 0
    while done < draws:
        size = min(draws - done, max(1, 2_000_000 // max(1, len(centre))))  # 16 MB at a time
        run_sd = sd * np.sqrt(degrees / rng.chisquare(degrees, size=(size, 1)))
        errors = rng.standard_normal((size, len(centre)))
        errors *= run_sd * scale
        errors += centre
        wins += _on_front(errors, price).sum(axis=0)
        done += size
    return np.asarray(wins / draws)


def _on_front(errors: Floats, costs: Floats) -> NDArray[np.bool_]:
    """(draws, n) errors, (n, m) costs -> (draws, n): no arch of no more cost has less error."""
    if costs.shape[1] == 1:
        order = np.argsort(costs[:, 0], kind="stable")
        best = np.minimum.accumulate(np.take(errors, order, axis=1), axis=1)
        last = np.searchsorted(costs[order, 0], costs[:, 0], side="right") - 1  # equal costs are rivals too
        return np.asarray(errors <= np.take(best, last, axis=1))
    rivals = np.asarray((costs[None, :, :] <= costs[:, None, :]).all(axis=2))
    strongest = np.where(rivals, errors.mean(axis=0), np.inf).argmin(axis=1)
    wins = np.asarray(errors <= errors[:, strongest])  # few do, and only they are held against all rivals
    for i in np.flatnonzero(wins.any(axis=0)):
        drawn = np.flatnonzero(wins[:, i])
        wins[drawn, i] = errors[drawn, i] <= errors[np.ix_(drawn, rivals[i])].min(axis=1)
    return wins


def assess(archs: Sequence[Candidate], *, draws: int = DRAWS, seed: int = 0) -> Front:
    """Judge every arch's place on the front of error against its costs.

    All runs of an arch, searched and fresh, inform its probability. The mean shown is over fresh seeds
    alone, as soon as there is one. Archs with a single run are judged by the sd of the replicated ones.
    """
    archs = sorted(archs, key=lambda arch: (arch.costs, np.mean(arch.errors)))
    if not archs:
        return Front((), None, 0)
    sd, degrees = pooled_sd([arch.errors for arch in archs])
    means = np.array([np.mean(arch.errors) for arch in archs])
    counts = np.array([len(arch.errors) for arch in archs])
    costs = np.array([arch.costs for arch in archs], dtype=float)
    observed = pareto(np.column_stack([costs, means]))
    if sd is None:
        chances: list[float | None] = [None] * len(archs)
    else:
        chances = [float(p) for p in membership(means, counts, costs, sd, degrees, draws=draws, seed=seed)]
    ties = _ties(archs, means, counts, costs, observed, sd, degrees)
    rows = [
        _standing(arch, p, bool(on), tie, sd, degrees)
        for arch, p, on, tie in zip(archs, chances, observed, ties, strict=True)
    ]
    return Front(tuple(rows), sd, degrees)


def beside(front: Front, archs: Iterable[Candidate]) -> tuple[Standing, ...]:
    """Standings of archs that are no rivals, such as the controls of a design: the same noise, no place."""
    return tuple(_standing(arch, None, False, None, front.sd, front.degrees) for arch in archs)


def _standing(
    arch: Candidate, p: float | None, observed: bool, tie: str | None, sd: float | None, degrees: int
) -> Standing:
    told = list(arch.fresh.values()) or list(arch.searched.values())
    mean = float(np.mean(told))
    half = None if sd is None else _quantile(degrees) * sd / math.sqrt(len(told))
    both = bool(arch.fresh) and bool(arch.searched)
    return Standing(
        candidate=arch,
        n=len(told),
        mean=mean,
        fresh=bool(arch.fresh),
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        p_front=p,
        status=_status(p),
        observed=observed,
        tied_with=tie,
        optimism=mean - float(np.mean(list(arch.searched.values()))) if both else None,
    )


def _status(p: float | None) -> Status:
    if p is None:
        return "unknown"
    return "confirmed" if p >= CONFIRMED else "dominated" if p <= DOMINATED else "undecided"


def _quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def _ties(
    archs: Sequence[Candidate],
    means: Floats,
    counts: NDArray[np.int64],
    costs: Floats,
    observed: NDArray[np.bool_],
    sd: float | None,
    degrees: int,
) -> list[str | None]:
    """For each arch off the observed front: the best one on it that is no dearer, if within the noise."""
    ties: list[str | None] = []
    for i in range(len(archs)):
        rivals = np.flatnonzero(observed & (costs <= costs[i]).all(axis=1))
        if observed[i] or sd is None or not len(rivals):
            ties.append(None)
            continue
        best = rivals[np.argmin(means[rivals])]
        noise = _quantile(degrees) * sd * math.sqrt(1 / counts[i] + 1 / counts[best])
        ties.append(archs[best].key if means[i] - means[best] <= noise else None)
    return ties


def next_cells(front: Front, count: int) -> list[tuple[str, int]]:
    """The (arch key, seed) runs to make next so that undecided archs become confirmed or dominated.

    Greedy: each cell goes to the undecided arch with the largest p (1 - p) / sqrt(1 + runs), and then counts
    as run. Without any replicate nothing is known of the noise: the observed front is repeated first.
    Seeds are the smallest ones that the arch has not had. Empty when all is decided.
    """
    runs = {row.candidate.key: len(row.candidate.errors) for row in front.standings}
    used = {row.candidate.key: set(row.candidate.seeds) for row in front.standings}
    cells: list[tuple[str, int]] = []
    if front.sd is None:
        wanted = [row.candidate.key for row in front.standings if row.observed]
        worth = dict.fromkeys(wanted, 1.0)
    else:
        worth = {
            row.candidate.key: row.p_front * (1 - row.p_front)
            for row in front.standings
            if row.p_front is not None and row.status == "undecided"
        }
    while worth and len(cells) < count:
        key = max(worth, key=lambda k: worth[k] / math.sqrt(1 + runs[k]))
        fresh = next(s for s in range(len(used[key]) + 1) if s not in used[key])
        cells.append((key, fresh))
        used[key].add(fresh)
        runs[key] += 1
    return cells


def final_cells(front: Front, seeds: Sequence[int]) -> list[tuple[str, int]]:
    """The last block: every confirmed arch once in each of these seeds, seed by seed.

    Run it with the role `report` once the confirmed set is settled. The runs that settled it flatter: after 40
    runs over 100 archs of NAS-Bench-Macro their means were 0.5 to 0.6 run sds too good, those of this block 0.05.

    Raises:
        UsageError: a seed that one of the archs has already had.
    """
    confirmed = [row.candidate for row in front.standings if row.status == "confirmed"]
    used = sorted({seed for arch in confirmed for seed in arch.seeds} & set(seeds))
    if used:
        raise UsageError(f"Seed {used[0]} has already had a say in the front; the last block needs new ones")
    return [(arch.key, seed) for seed in seeds for arch in confirmed]
