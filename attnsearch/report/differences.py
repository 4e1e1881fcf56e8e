"""Differences from the baseline on shared seeds, of a search's architectures: points, positive is better."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from attnsearch.core.estimate import Estimate
from attnsearch.statistics import Table, fit
from attnsearch.statistics.arch_runs import ArchRuns
from attnsearch.statistics.dunnett import LEAST_DEGREES, t_critical
from attnsearch.statistics.effects import NO_NOISE, UNKNOWN, around
from attnsearch.statistics.front import Front
from attnsearch.statistics.noise import near_chance
from attnsearch.statistics.power import ALPHA


def with_interval(mean: float, interval: tuple[float, float], n: int) -> Estimate:
    """A difference with its interval; an interval without ends is none."""
    low, high = interval
    return Estimate(mean, low, high, n) if math.isfinite(low) and math.isfinite(high) else Estimate(mean, n=n)


def over_baseline(front: Front, baseline: str | None, guessing: float = math.inf) -> dict[str, Estimate]:
    """Each arch over the baseline on the seeds that both had.

    Fresh seeds where an arch has any, else search seeds; of the baseline all, as no result chose it.
    Intervals (95 %, each for itself) come from the block model over the archs with two shared seeds or more;
    an arch with one shared seed gets none, nor does any near the error of `guessing`, or beside a baseline near it.
    """
    archs = list(front)
    plain = next((arch for arch in archs if arch.key == baseline), None)
    if plain is None:
        return {}
    by_key = {arch.key: arch for arch in archs}
    own = {**plain.search_errors, **plain.fresh_errors}
    found: dict[str, Estimate] = {}
    for fresh in (True, False):
        cells = {arch.key: _shared(arch, own) for arch in archs if arch is not plain and arch.fresh == fresh}
        found |= {key: _plain_difference(errors, own) for key, errors in cells.items() if errors}
        repeated = {
            key: errors
            for key, errors in cells.items()
            if len(errors) > 1 and not near_chance([plain.mean, by_key[key].mean], guessing).any()
        }
        found |= _block_differences(repeated, own)
    return found


def _shared(arch: ArchRuns, own: Mapping[int, float]) -> dict[int, float]:
    return {seed: error for seed, error in arch.shown_errors.items() if seed in own}


def _plain_difference(errors: Mapping[int, float], own: Mapping[int, float]) -> Estimate:
    return Estimate(sum(own[seed] - error for seed, error in errors.items()) / len(errors), n=len(errors))


def _block_differences(
    cells: Mapping[str, Mapping[int, float]], own: Mapping[int, float]
) -> dict[str, Estimate]:
    if not cells:
        return {}
    seeds = {seed for errors in cells.values() for seed in errors}
    rows = {"": {seed: own[seed] for seed in seeds}, **cells}
    blocks = Table.of_cells({(key, seed): error for key, row in rows.items() for seed, error in row.items()})
    fitted = fit(blocks.errors)
    found = {}
    for key, errors in cells.items():
        weights = np.zeros(len(blocks.variants))
        weights[blocks.row(key)], weights[blocks.row("")] = 1, -1
        estimate, error = fitted.contrast(weights)
        known = fitted.degrees >= LEAST_DEGREES and fitted.sd > NO_NOISE
        interval = around(estimate, t_critical(fitted.degrees, ALPHA) * error) if known else UNKNOWN
        found[key] = with_interval(estimate, interval, len(errors))
    return found
