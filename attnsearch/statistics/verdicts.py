"""Is the gain real? Variants compared with a baseline over shared seeds, and with each other.

Effects are points of accuracy: positive is better than the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.statistics.dunnett import LEAST_DEGREES, Family, t_critical
from attnsearch.statistics.effects import NO_NOISE, Effect, Interval, around, by_holm, effect_of
from attnsearch.statistics.error_table import Fit, Floats, Table, fit
from attnsearch.statistics.noise import (
    NOISY,
    equal_noise,
    near_chance,
    pooled_variance,
    residuals,
    seed_correlation,
)
from attnsearch.statistics.power import ALPHA, detectable, noncentrality, widening
from attnsearch.statistics.verdict_types import (
    FEW_DEGREES,
    NEAR_CHANCE,
    NO_VARIATION,
    Analysis,
    Outcome,
    Verdict,
    no_verdict,
)


def compare(
    table: Table,
    baseline: str,
    *,
    margin: float | None = None,
    matched: Mapping[str, str] | None = None,
    level: float = ALPHA,
    guessing: float = math.inf,
) -> Analysis:
    """Judge every variant against the baseline.

    There is no verdict and no interval below three degrees of freedom, where the runs do not vary, and of a variant or
    a baseline near chance level. Variants near chance level say nothing of the others' noise either.

    Args:
        margin: points of accuracy below which a difference would not matter; without it nothing is
            equivalent.
        matched: variant -> its width-matched host in the same table, a plain host of equal cost.
        level: nominal, of the simultaneous intervals and tests; below 5 % at one look of several (`sequential`), where
            an interval within the margin is enough for `equivalent`.
        guessing: error of guessing in percent; infinite where it is not known.

    Raises:
        UsageError: the baseline or a matched host is not in the table, or the margin is not above 0.
        NoResultError: no variant ran in a block together with the baseline.
    """
    for name in (baseline, *(matched or {}).values()):
        table.row(name)
    if margin is not None and not margin > 0:
        raise UsageError(f"The margin must be above 0 points, got {margin:g}")
    near = _near_chance(table, guessing)
    unjudged = near if baseline not in near else set(table.variants)
    none = {name: _unjudged(table, name, baseline, margin) for name in unjudged - {baseline}}
    rest = table.take([i for i, name in enumerate(table.variants) if name not in none])
    analysis = (
        _nothing(table, baseline)
        if len(rest.variants) < 2 and none
        else _judged(rest, baseline, margin, matched or {}, level)
    )
    verdicts = none | {verdict.variant: verdict for verdict in analysis.verdicts}
    return replace(analysis, verdicts=tuple(verdicts[name] for name in table.variants if name in verdicts))


def _near_chance(table: Table, guessing: float) -> set[str]:
    """Names of the variants whose mean error is that of guessing, or nearly."""
    ran = np.isfinite(table.errors)
    means = np.where(ran, table.errors, 0.0).sum(axis=1) / np.maximum(ran.sum(axis=1), 1)
    return {table.variants[i] for i in np.flatnonzero(near_chance(means, guessing))}


def _unjudged(table: Table, name: str, baseline: str, margin: float | None) -> Verdict:
    gaps = table.errors[table.row(baseline)] - table.errors[table.row(name)]
    shared = gaps[np.isfinite(gaps)]
    mean = float(shared.mean()) if len(shared) else math.nan
    return no_verdict(name, mean, len(shared), NEAR_CHANCE, margin)


def _nothing(table: Table, baseline: str) -> Analysis:
    """Of a table of which nothing can be judged."""
    nan = math.nan
    return Analysis(baseline, (), len(table.blocks), nan, 0, nan, (nan, nan), math.inf, None, None, ())


def _judged(
    table: Table, baseline: str, margin: float | None, matched: Mapping[str, str], level: float
) -> Analysis:
    """The analysis of variants that have all learned something."""
    joined, lost = _joined(table, baseline)
    unique, twins = _without_twins(joined)
    if len(joined.variants) < 2:
        raise NoResultError(f"No variant ran in a seed block together with the baseline '{baseline}'")
    judge = _Judge.of(unique, baseline, margin)
    if level < ALPHA:
        # Variants that are decided have holes, which must not make the others' family another one.
        family = Family.whole(len(unique.variants) - 1, judge.fit.degrees)
        judge = replace(judge, level=level, family=family)
    verdicts = {name: judge.verdict(name) for name in unique.variants if name != baseline}
    verdicts |= _with_capacity(verdicts, judge, {v: twins.get(m, m) for v, m in matched.items()})
    verdicts |= {name: _twin(name, of, verdicts, judge) for name, of in twins.items()}
    rho, rho_interval = seed_correlation(unique.whole)
    sd_ratio, p_equal_noise = equal_noise(unique.whole)
    return Analysis(
        baseline=baseline,
        verdicts=tuple(verdicts.values()),
        blocks=len(unique.blocks),
        sd=judge.fit.sd,
        degrees=judge.fit.degrees,
        rho=rho,
        rho_interval=rho_interval,
        critical=judge.wider * judge.family.critical(level),
        sd_ratio=sd_ratio,
        p_equal_noise=p_equal_noise,
        notes=tuple(_notes(lost, twins, judge)),
    )


def contrasts(table: Table, pairs: Sequence[tuple[str, str]]) -> list[Effect]:
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
    return _pairs(_Judge(joined, fitted, family, noisy, first, None), pairs)


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
    twins: dict[str, str] = {}
    for i, name in enumerate(table.variants):
        for j in range(i):
            if table.variants[j] not in twins and _alike(table.errors[j], table.errors[i]):
                twins[name] = table.variants[j]
                break
    return table.take([i for i, name in enumerate(table.variants) if name not in twins]), twins


def _alike(one: Floats, other: Floats) -> bool:
    """Whether all runs of the other variant, two at least, are runs of the one as well."""
    ran = np.isfinite(other)
    shared = other[ran]
    # Else both may stand at one limit, such as 0 % error.
    varies = len(set(shared.tolist())) > 1
    return varies and bool((one[ran] == shared).all())


@dataclass(frozen=True)
class _Judge:
    """A fitted table, who in it is noisy, and the family that the comparisons with the baseline form."""

    table: Table
    fit: Fit
    family: Family
    noisy: frozenset[str]
    baseline: str
    margin: float | None
    level: float = ALPHA

    @classmethod
    def of(cls, table: Table, baseline: str, margin: float | None) -> _Judge:
        fitted, noisy = _noise(table, fit(table.errors), baseline)
        against = np.delete(np.eye(len(table.variants)), table.row(baseline), axis=0)
        against[:, table.row(baseline)] = -1
        comparisons = against @ fitted.covariance @ against.T
        family = Family.of(comparisons, fitted.degrees) if len(against) else Family.whole(1, fitted.degrees)
        return cls(table, fitted, family, noisy, baseline, margin)

    @property
    def wider(self) -> float:
        """Factor on the critical value that makes up for variants set apart as noisy by chance."""
        return widening(len(self.table.blocks), len(self.table.variants)) if self.noisy else 1.0

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
        if degrees < LEAST_DEGREES or se < NO_NOISE:
            reason = FEW_DEGREES if degrees < LEAST_DEGREES else NO_VARIATION
            return no_verdict(name, estimate, n, reason, self.margin)
        family = self._family(degrees, own)
        blocks, variants, wider = len(self.table.blocks), len(self.table.variants), self.wider
        wide = wider * family.critical(self.level)
        simultaneous = around(estimate, wide * se)
        inner = around(estimate, wider * family.critical(2 * self.level) * se)
        within = self.margin is not None and max(-inner[0], inner[1]) < self.margin
        exact = not own and self.level == ALPHA
        mde = se * (detectable(blocks, variants) if exact else noncentrality(wide, degrees))
        seen = self.margin is not None and (mde <= self.margin or self.level < ALPHA)
        return Verdict(
            variant=name,
            outcome=_outcome(simultaneous, within and seen),
            estimate=estimate,
            n=n,
            se=se,
            interval=around(estimate, t_critical(degrees, ALPHA) * se),
            simultaneous=simultaneous,
            p=family.p_value(estimate / se / wider),
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
            capacity=not (effect.p_holm <= ALPHA and effect.estimate > 0),
            over_matched=(effect.estimate, effect.interval),
        )
        for name, effect in zip(gains, effects, strict=True)
    }


def _pairs(judge: _Judge, pairs: Sequence[tuple[str, str]]) -> list[Effect]:
    effects = []
    for a, b in pairs:
        estimate, se, degrees, own = judge.pair(a, b)
        effects.append(effect_of(f"{a} over {b}", estimate, se, degrees, own_noise=own))
    return by_holm(effects)


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
