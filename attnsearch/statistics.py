"""Is the gain real? Variants compared with a baseline over shared seeds.

The table has a row per variant and a column per seed block; what a seed decides is shared down a column. The
model is error = variant + block + noise with one noise sd, fitted by least squares, so that a table with
holes needs nothing else (the intra-block analysis; Cochran and Cox 1957, chapter 9).

    Table           errors in percent, by variant and block
    compare         -> Analysis: one Verdict per variant, Dunnett's simultaneous intervals
    contrasts       any pairs, Holm
    factor_effects  main effects and two-way interactions of a two-level design

Effects are points of accuracy: positive is better than the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from attnsearch.dunnett import Family, t_critical
from attnsearch.errors import NoResultError, UsageError, did_you_mean
from attnsearch.noise import NOISY, equal_noise, pooled_variance, residuals, seed_correlation
from attnsearch.power import ALPHA, detectable, noncentrality
from attnsearch.trial import TrialResult

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Outcome = Literal["gain", "harm", "equivalent", "no evidence"]

UNKNOWN: Interval = (-math.inf, math.inf)
NO_NOISE = 1e-9  # points; a standard error below it means that the runs do not vary


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
                (names[trial.key], trial.seed): trial.error
                for trial in trials
                if trial.key in names and trial.state == "complete" and trial.error is not None
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


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one variant against the baseline.

    Args:
        outcome: gain or harm when the simultaneous 95 % interval leaves out 0; else equivalent when two
            one-sided simultaneous tests at 5 % place the variant within +-margin and the design could have
            seen an effect of that size; else no evidence.
        estimate: difference in points of accuracy; positive is better than the baseline.
        interval: 95 % for this comparison alone; simultaneous: 95 % for all comparisons of the table
            together.
        p: adjusted for all comparisons.
        n: seed blocks in which both the variant and the baseline ran.
        mde: smallest effect that the verdict finds with 80 % power, at the noise seen.
        margin, within_margin: points below which nothing matters, if stated; whether the tests place it
            there.
        capacity: whether a gain was not shown over the width-matched host too; None where that was not asked.
        over_matched: difference from the width-matched host, with its own 95 % interval.
        own_noise: judged by its own paired differences, since it or the baseline is much noisier than the
            rest.
        same_as: the variant with the same result in every block: both are one network.
        prices: what it costs beside the baseline; filled by the caller.
    """

    variant: str
    outcome: Outcome
    estimate: float
    n: int
    interval: Interval = UNKNOWN
    simultaneous: Interval = UNKNOWN
    p: float = 1.0
    mde: float = math.inf
    margin: float | None = None
    within_margin: bool = False
    capacity: bool | None = None
    over_matched: tuple[float, Interval] | None = None
    own_noise: bool = False
    same_as: str | None = None
    prices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    """Verdicts on all variants but the baseline, and what they rest on.

    Args:
        blocks: seed blocks that tell of a difference.
        sd, degrees: sd of a run within blocks, in points, and its degrees of freedom.
        rho: share of the run variance that the seed block explains, with its 95 % interval: what pairing
            achieved.
        critical: the simultaneous critical value of t.
        sd_ratio: largest over smallest residual sd of a variant; p_equal_noise: Brown and Forsythe's test
            that there is no such difference. None where the table is too small.
        notes: what a reader must know beside the numbers, one sentence each.
    """

    baseline: str
    verdicts: tuple[Verdict, ...]
    blocks: int
    sd: float
    degrees: int
    rho: float
    rho_interval: Interval
    critical: float
    sd_ratio: float | None
    p_equal_noise: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Effect:
    """One contrast in points of accuracy, with its own 95 % interval, its own p, and Holm's over its list."""

    name: str
    estimate: float
    interval: Interval
    p: float
    p_holm: float
    aliases: tuple[str, ...] = ()
    own_noise: bool = False


def compare(
    table: Table,
    baseline: str,
    *,
    margin: float | None = None,
    matched: Mapping[str, str] | None = None,
    alpha: float = ALPHA,
) -> Analysis:
    """Judge every variant against the baseline.

    Args:
        margin: points of accuracy below which a difference would not matter; without it nothing is
            equivalent.
        matched: variant -> its width-matched host in the same table, a plain host of equal cost.

    Raises:
        UsageError: the baseline or a matched host is not in the table, or the margin is not above 0.
        NoResultError: no variant ran in a block together with the baseline.
    """
    for name in (baseline, *(matched or {}).values()):
        table.row(name)
    if margin is not None and not margin > 0:
        raise UsageError(f"The margin must be above 0 points, got {margin:g}")
    joined, lost = _joined(table, baseline)
    unique, twins = _without_twins(joined)
    if len(joined.variants) < 2:
        raise NoResultError(f"No variant ran in a seed block together with the baseline '{baseline}'")
    judge = _Judge.of(unique, baseline, margin, alpha)
    verdicts = {name: judge.verdict(name) for name in unique.variants if name != baseline}
    verdicts |= _with_capacity(verdicts, judge, {v: twins.get(m, m) for v, m in (matched or {}).items()})
    verdicts |= {name: _twin(name, of, verdicts, judge) for name, of in twins.items()}
    rho, rho_interval = seed_correlation(unique.whole)
    sd_ratio, p_equal_noise = equal_noise(unique.whole)
    return Analysis(
        baseline=baseline,
        verdicts=tuple(verdicts[name] for name in table.variants if name in verdicts),
        blocks=len(unique.blocks),
        sd=judge.fit.sd,
        degrees=judge.fit.degrees,
        rho=rho,
        rho_interval=rho_interval,
        critical=judge.family.critical(alpha),
        sd_ratio=sd_ratio,
        p_equal_noise=p_equal_noise,
        notes=tuple(_notes(lost, twins, judge)),
    )


def _joined(table: Table, baseline: str) -> tuple[Table, list[str]]:
    """What a chain of shared blocks joins to the baseline, the baseline first; the names of the rest."""
    here, first = np.isfinite(table.errors), table.row(baseline)
    joined = np.arange(len(here)) == first
    while True:
        reached = joined | here[:, here[joined].any(axis=0)].any(axis=1)
        if (reached == joined).all():
            break
        joined = reached
    kept = table.take([first, *(int(i) for i in np.flatnonzero(joined) if i != first)])
    telling = np.isfinite(kept.errors).sum(axis=0) > 1  # one cell alone tells nothing of a difference
    blocks = tuple(block for block, tells in zip(kept.blocks, telling, strict=True) if tells)
    lost = [name for name, is_joined in zip(table.variants, joined, strict=True) if not is_joined]
    return replace(kept, blocks=blocks, errors=kept.errors[:, telling]), lost


def _without_twins(table: Table) -> tuple[Table, dict[str, str]]:
    """Fold variants with the same results in two or more blocks: copies of a run would shrink the noise."""
    first: dict[bytes, str] = {}
    twins: dict[str, str] = {}
    for name, row in zip(table.variants, table.errors, strict=True):
        of = first.setdefault(row.tobytes(), name)
        varies = len(set(row[np.isfinite(row)])) > 1  # else both may stand at one limit, such as 0 % error
        if of != name and varies:
            twins[name] = of
    return table.take([i for i, name in enumerate(table.variants) if name not in twins]), twins


@dataclass(frozen=True)
class _Judge:
    """A fitted table, who in it is noisy, and the family that the comparisons with the baseline form."""

    table: Table
    fit: Fit
    family: Family
    noisy: frozenset[str]
    baseline: str
    margin: float | None
    alpha: float

    @classmethod
    def of(cls, table: Table, baseline: str, margin: float | None, alpha: float) -> _Judge:
        fitted, noisy = _noise(table, fit(table.errors), baseline)
        against = np.delete(np.eye(len(table.variants)), table.row(baseline), axis=0)
        against[:, table.row(baseline)] = -1
        comparisons = against @ fitted.covariance @ against.T
        family = Family.of(comparisons, fitted.degrees) if len(against) else Family.whole(1, fitted.degrees)
        return cls(table, fitted, family, noisy, baseline, margin, alpha)

    def pair(self, a: str, b: str) -> tuple[float, float, int, bool]:
        """Estimate of a over b, standard error, degrees of freedom, and whether from their pairs alone."""
        i, j = self.table.row(a), self.table.row(b)
        gaps = self.table.errors[j] - self.table.errors[i]
        gaps = gaps[np.isfinite(gaps)]
        if {a, b} & self.noisy and len(gaps) > 1:
            return float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(len(gaps)), len(gaps) - 1, True
        weights = np.zeros(len(self.table.variants))
        weights[i] += 1
        weights[j] -= 1
        return *self.fit.contrast(weights), self.fit.degrees, False

    def verdict(self, name: str) -> Verdict:
        """Judge one variant; the class `Verdict` says by which rules."""
        estimate, se, degrees, own = self.pair(name, self.baseline)
        cells = self.table.errors[[self.table.row(name), self.table.row(self.baseline)]]
        n = int(np.isfinite(cells).all(axis=0).sum())
        if degrees == 0 or se < NO_NOISE:  # nothing is known of the noise
            return Verdict(name, "no evidence", estimate, n, margin=self.margin)
        family = self._family(degrees, own)
        wide = family.critical(self.alpha)
        simultaneous = _around(estimate, wide * se)
        inner = _around(estimate, family.critical(2 * self.alpha) * se)
        within = self.margin is not None and max(-inner[0], inner[1]) < self.margin
        blocks, variants = len(self.table.blocks), len(self.table.variants)
        mde = se * (noncentrality(wide, degrees) if own else detectable(blocks, variants, alpha=self.alpha))
        seen = self.margin is not None and mde <= self.margin
        return Verdict(
            variant=name,
            outcome=_outcome(simultaneous, within and seen),
            estimate=estimate,
            n=n,
            interval=_around(estimate, t_critical(degrees, self.alpha) * se),
            simultaneous=simultaneous,
            p=family.p_value(estimate / se),
            mde=mde,
            margin=self.margin,
            within_margin=within,
            own_noise=own,
        )

    def _family(self, degrees: int, own: bool) -> Family:
        """Of all comparisons; for one with noise of its own, at the degrees of freedom of its pairs."""
        return Family.whole(len(self.family.loadings), degrees) if own else self.family


def _noise(table: Table, fitted: Fit, baseline: str | None) -> tuple[Fit, frozenset[str]]:
    """The fit with the part of noisy variants in its sd cut, and their names; seen in the whole blocks."""
    whole = table.whole
    if fitted.degrees == 0 or min(whole.shape) < 2:
        return fitted, frozenset()
    variance, noisy = pooled_variance(whole, None if baseline is None else table.row(baseline))
    plain = float((residuals(whole) ** 2).sum()) / ((whole.shape[0] - 1) * (whole.shape[1] - 1))
    kept = math.sqrt(float(variance) / plain) if noisy.any() else 1.0
    names = frozenset(name for name, is_noisy in zip(table.variants, noisy, strict=True) if is_noisy)
    return replace(fitted, sd=fitted.sd * kept), names


def _outcome(simultaneous: Interval, equivalent: bool) -> Outcome:
    if simultaneous[0] > 0:
        return "gain"
    if simultaneous[1] < 0:
        return "harm"
    return "equivalent" if equivalent else "no evidence"


def _around(centre: float, half: float) -> Interval:
    return centre - half, centre + half


def _two_sided(t: float, degrees: int) -> float:
    return 2 * float(special.stdtr(degrees, -abs(t)))


def _twin(name: str, of: str, verdicts: Mapping[str, Verdict], judge: _Judge) -> Verdict:
    if of in verdicts:
        return replace(verdicts[of], variant=name, same_as=of)
    n = int(np.isfinite(judge.table.errors[judge.table.row(of)]).sum())
    exact: Interval = (0.0, 0.0)
    return Verdict(
        name,
        "equivalent",
        0.0,
        n,
        interval=exact,
        simultaneous=exact,
        mde=0.0,
        margin=judge.margin,
        same_as=of,
    )


def _with_capacity(
    verdicts: Mapping[str, Verdict], judge: _Judge, matched: Mapping[str, str]
) -> dict[str, Verdict]:
    """Ask of each gain whether it also beats its width-matched host, by Holm over the gains."""
    gains = [name for name, v in verdicts.items() if v.outcome == "gain" and matched.get(name, name) != name]
    gains = [name for name in gains if matched[name] in judge.table.variants]
    effects = _pairs(judge, [(name, matched[name]) for name in gains])
    return {
        name: replace(
            verdicts[name],
            capacity=not (effect.p_holm <= judge.alpha and effect.estimate > 0),
            over_matched=(effect.estimate, effect.interval),
        )
        for name, effect in zip(gains, effects, strict=True)
    }


def _notes(lost: Sequence[str], twins: Mapping[str, str], judge: _Judge) -> Iterable[str]:
    if lost:
        yield f"Left out, since no chain of shared seed blocks joins them to the baseline: {', '.join(lost)}."
    for name, of in twins.items():
        yield f"{name} gave the same result as {of} in every block: they are one network."
    holes = int(np.isnan(judge.table.errors).sum())
    if holes:
        yield f"{holes} of {judge.table.errors.size} cells are missing; estimates are by least squares."
    if judge.fit.degrees == 0:
        yield "One seed block: nothing is known of the noise."
    elif judge.fit.sd < NO_NOISE:
        yield "The runs do not vary beyond their blocks: nothing is known of the noise."
    for name in judge.table.variants:
        if name in judge.noisy:
            who = "so all comparisons are" if name == judge.baseline else "it is"
            noise = f"{name} is over {NOISY:g} times as noisy as the table"
            yield f"{noise}; {who} judged by paired differences alone."


def contrasts(table: Table, pairs: Sequence[tuple[str, str]], *, alpha: float = ALPHA) -> list[Effect]:
    """Any pairs (a, b), each "a over b" in points of accuracy, with p values by Holm over the pairs given.

    Raises:
        UsageError: a name is not in the table. NoResultError: two of them share no chain of blocks.
    """
    if not pairs:
        return []
    first = pairs[0][0]
    joined, lost = _joined(table, first)
    for name in {name for pair in pairs for name in pair}:
        table.row(name)
        if name in lost:
            raise NoResultError(f"'{name}' and '{first}' share no chain of seed blocks")
    fitted, noisy = _noise(joined, fit(joined.errors), None)
    family = Family.whole(1, fitted.degrees)  # each p is the pair's own; Holm makes them simultaneous
    return _pairs(_Judge(joined, fitted, family, noisy, first, None, alpha), pairs)


def _pairs(judge: _Judge, pairs: Sequence[tuple[str, str]]) -> list[Effect]:
    effects = []
    for a, b in pairs:
        estimate, se, degrees, own = judge.pair(a, b)
        effects.append(_effect(f"{a} over {b}", estimate, se, degrees, judge.alpha, own_noise=own))
    return _by_holm(effects)


def _effect(
    name: str,
    estimate: float,
    se: float,
    degrees: int,
    alpha: float,
    *,
    aliases: tuple[str, ...] = (),
    own_noise: bool = False,
) -> Effect:
    known = degrees > 0 and se >= NO_NOISE
    p = _two_sided(estimate / se, degrees) if known else 1.0
    interval = _around(estimate, t_critical(degrees, alpha) * se) if known else UNKNOWN
    return Effect(name, estimate, interval, p, p, aliases, own_noise)


def _by_holm(effects: Sequence[Effect]) -> list[Effect]:
    adjusted = holm([effect.p for effect in effects])
    return [replace(effect, p_holm=float(p)) for effect, p in zip(effects, adjusted, strict=True)]


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 6:65, 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1.0)
    return adjusted


def factor_effects(
    table: Table,
    settings: Mapping[str, Mapping[str, str]],
    *,
    interactions: bool = True,
    alpha: float = ALPHA,
) -> list[Effect]:
    """Main effects and two-way interactions of a two-level factorial design, in points of accuracy.

    A main effect is the mean accuracy at a site's second option minus that at its first; an interaction is
    half the difference that one site makes to the effect of the other. Effects which the design cannot tell
    apart are one row, whose `aliases` name the others, with a minus where the sign is opposite.

    Args:
        settings: variant -> site -> option; two options per site, of which the first seen is the lower.

    Raises:
        UsageError: a site with more than two options, or none of the variants in the table.
        NoResultError: so many variants are missing that effects cannot be told apart.
    """
    names = [name for name in settings if name in table.variants]
    if not names:
        raise UsageError("None of the table's variants is in the design")
    columns = effect_columns([settings[name] for name in names], interactions=interactions)
    groups = _alias_groups(columns)
    design = np.column_stack([np.ones(len(names)), *(columns[term] for term in groups)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise NoResultError("Too few of the design's variants have run to tell its effects apart")
    fitted = fit(table.take([table.row(name) for name in names]).errors)
    weights = (
        2 * np.linalg.pinv(design)[1:]
    )  # in a whole design: the mean at one level minus that at the other
    effects = []
    for (term, aliases), row in zip(groups.items(), weights, strict=True):
        estimate, se = fitted.contrast(row)
        effects.append(_effect(term, estimate, se, fitted.degrees, alpha, aliases=aliases))
    return _by_holm(effects)


def effect_columns(
    settings: Sequence[Mapping[str, str]], *, interactions: bool = True
) -> dict[str, NDArray[np.int64]]:
    """-1 or 1 per variant for each main effect and two-way interaction of the sites that change."""
    levels: dict[str, NDArray[np.int64]] = {}
    for site in settings[0]:
        said = [options[site] for options in settings]
        known = list(dict.fromkeys(said))
        if len(known) > 2:
            raise UsageError(f"Site '{site}' has {len(known)} options in the design; main effects need two")
        if len(known) == 2:
            levels[site] = np.array([-1 if option == known[0] else 1 for option in said])
    pairs = combinations(levels, 2) if interactions else ()
    return levels | {f"{a} x {b}": levels[a] * levels[b] for a, b in pairs}


def _alias_groups(columns: Mapping[str, NDArray[np.int64]]) -> dict[str, tuple[str, ...]]:
    """The first term of each set of equal or opposite columns, with the names of the others."""
    groups: dict[str, list[str]] = {}
    for term, column in columns.items():
        twins = [first for first in groups if abs(column @ columns[first]) == len(column)]
        if twins:
            sign = "-" if column @ columns[twins[0]] < 0 else ""
            groups[twins[0]].append(sign + term)
        elif np.ptp(column) > 0:  # a column that never changes is the mean
            groups[term] = []
    return {term: tuple(others) for term, others in groups.items()}


def aliases(settings: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """Main effects and two-way interactions that a design cannot tell apart, in groups of names."""
    groups = _alias_groups(effect_columns(settings))
    return [(first, *others) for first, others in groups.items() if others]
