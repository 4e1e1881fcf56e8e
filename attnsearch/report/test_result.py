"""What the last opening of the test split said, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from attnsearch.core.estimate import Estimate
from attnsearch.core.metrics import Metric, binomial_variance
from attnsearch.core.study_attrs import TestResult
from attnsearch.report.formatting import Column, Table
from attnsearch.statistics.dunnett import LEAST_DEGREES, t_critical
from attnsearch.statistics.noise import pooled_sd

ERROR = (
    "mean over independent seeds, ± half a 95 % confidence interval for the noise between seeds (pooled) and "
    "the sampling of the images"
)
SEEDS_ALONE = (
    "mean over independent seeds, ± half a 95 % confidence interval for the noise between seeds (pooled) alone: the "
    "sampling of the images is not in it, since a macro-F1 has no formula for it"
)
GAP = "validation minus test {error} of the same runs; negative where validation was optimistic"


def final_table(entries: Sequence[TestResult], metric: Metric) -> Table | None:
    """One row per frozen arch; None where the test split was never opened, or nothing came of it."""
    complete = [entry for entry in entries if entry.errors]
    if not complete:
        return None
    entry = complete[-1]
    note = SEEDS_ALONE if metric.name == "macro_f1" else ERROR
    columns = (
        Column("arch", "arch"),
        Column("seeds", "seeds", "integer"),
        Column(f"test_{metric.error_column}", f"test {metric.error} (%)", "estimate", note=note),
        Column(f"val_{metric.error_column}", f"validation {metric.error} (%)", "estimate"),
        Column("gap_points", "validation - test (points)", "estimate", signed=True, note=metric.say(GAP)),
    )
    rows = tuple((entry.archs[key], len(entry.seeds), *_estimates(entry, key)) for key in entry.errors)
    times = len(entries)
    often = "once" if times == 1 else f"{times} times; each further use makes it less independent"
    remark = f"the test split was opened {often}; frozen archs {entry.digest}, {entry.test_images:,} images"
    return Table("test", "On the test split", columns, rows, (remark,))


def _estimates(entry: TestResult, key: str) -> tuple[Estimate, Estimate, Estimate]:
    val, test = ({k: np.array(e[part]) for k, e in entry.errors.items()} for part in ("val", "test"))
    chance = {part: _chance(entry, key, part) for part in ("val", "test")}
    gaps = {k: val[k] - test[k] for k in val}
    return (
        _estimate(test, key, chance["test"], (0.0, 100.0)),
        _estimate(val, key, chance["val"], (0.0, 100.0)),
        _estimate(gaps, key, chance["val"] + chance["test"], (-100.0, 100.0)),
    )


def _chance(entry: TestResult, key: str, part: str) -> float:
    """Variance of an arch's error on other images, in points squared, mean over its seeds."""
    if entry.variances:
        return fmean(entry.variances[key][part])
    images = entry.val_images if part == "val" else entry.test_images
    return binomial_variance(
        fmean(entry.errors[key][part]), images
    )  # early studies know the plain error alone


def _estimate(
    found: Mapping[str, np.ndarray[Any, Any]], key: str, chance: float, possible: tuple[float, float]
) -> Estimate:
    """Mean over the seeds of one arch, with an interval for other seeds and images within what is `possible`."""
    values = found[key]
    mean = float(values.mean())
    sd, degrees = pooled_sd([list(group) for group in found.values()])
    if sd is None or degrees < LEAST_DEGREES:
        return Estimate(mean, n=len(values))
    seeds = t_critical(degrees, 0.05) ** 2 * sd**2 / len(values)
    half = math.sqrt(seeds + 1.96**2 * chance)
    return Estimate(mean, max(possible[0], mean - half), min(possible[1], mean + half), len(values))
