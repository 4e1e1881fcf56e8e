"""Contrasts as effects: of the sites of a two-level design, each with its interval, its p and Holm's over a list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.statistics.dunnett import LEAST_DEGREES, t_critical
from attnsearch.statistics.error_table import Floats, Table, fit
from attnsearch.statistics.power import ALPHA

Interval = tuple[float, float]

UNKNOWN: Interval = (-math.inf, math.inf)
MOST = 100.0  # points; no accuracies differ by more
NO_NOISE = 1e-9  # points; a standard error below it means that the runs do not vary


@dataclass(frozen=True)
class Effect:
    """One contrast in points of accuracy, with its own 95 % interval, its own p, and Holm's over its list.

    Below three degrees of freedom, or where the runs do not vary, the interval is `UNKNOWN` and p is 1.
    """

    name: str
    estimate: float
    interval: Interval
    p: float
    p_holm: float
    aliases: tuple[str, ...] = ()
    own_noise: bool = False


def factor_effects(
    table: Table,
    settings: Mapping[str, Mapping[str, str]],
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
    columns = effect_columns([settings[name] for name in names])
    groups = _alias_groups(columns)
    design = np.column_stack([np.ones(len(names)), *(columns[term] for term in groups)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise NoResultError("Too few of the design's variants have run to tell its effects apart")
    fitted = fit(table.take([table.row(name) for name in names]).errors)
    # In a whole design: the mean at one level minus that at the other.
    weights = 2 * np.linalg.pinv(design)[1:]
    effects = []
    for (term, aliases), row in zip(groups.items(), weights, strict=True):
        estimate, se = fitted.contrast(row)
        effects.append(effect_of(term, estimate, se, fitted.degrees, aliases=aliases))
    return by_holm(effects)


def effect_columns(settings: Sequence[Mapping[str, str]]) -> dict[str, NDArray[np.int64]]:
    """-1 or 1 per variant for each main effect and two-way interaction of the sites that change."""
    levels: dict[str, NDArray[np.int64]] = {}
    for site in settings[0]:
        chosen = [options[site] for options in settings]
        known = list(dict.fromkeys(chosen))
        if len(known) > 2:
            raise UsageError(f"Site '{site}' has {len(known)} options in the design; main effects need two")
        if len(known) == 2:
            levels[site] = np.array([-1 if option == known[0] else 1 for option in chosen])
    return levels | {f"{a} x {b}": levels[a] * levels[b] for a, b in combinations(levels, 2)}


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


def effect_of(
    name: str,
    estimate: float,
    se: float,
    degrees: int,
    *,
    aliases: tuple[str, ...] = (),
    own_noise: bool = False,
) -> Effect:
    known = degrees >= LEAST_DEGREES and se >= NO_NOISE
    p = _two_sided(estimate / se, degrees) if known else 1.0
    interval = around(estimate, t_critical(degrees, ALPHA) * se) if known else UNKNOWN
    return Effect(name, estimate, interval, p, p, aliases, own_noise)


def by_holm(effects: Sequence[Effect]) -> list[Effect]:
    adjusted = holm([effect.p for effect in effects])
    return [replace(effect, p_holm=float(p)) for effect, p in zip(effects, adjusted, strict=True)]


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 6:65, 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1.0)
    return adjusted


def around(centre: float, half: float) -> Interval:
    """The interval of a difference, which lies between -100 and 100 points; `UNKNOWN` where `half` is infinite."""
    if not math.isfinite(half):
        return UNKNOWN
    return max(-MOST, centre - half), min(MOST, centre + half)


def _two_sided(t: float, degrees: int) -> float:
    return 2 * float(special.stdtr(degrees, -abs(t)))
