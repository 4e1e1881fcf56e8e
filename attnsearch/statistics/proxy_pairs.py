"""Archs trained short and long: which to train for the audit of a proxy, and what their trainings amount to.

choose   archs, even over cost and over the error of the short training
pairs    trials -> one `Pair` an arch, its short and its long errors
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attnsearch.core.errors import UsageError
from attnsearch.core.trial import TrialResult

BANDS = 6  # of cost, that archs are chosen evenly over


@dataclass(frozen=True)
class Pair:
    """One arch trained short and long: errors in percent, one a seed."""

    key: str
    cost: float
    short: tuple[float, ...]
    long: tuple[float, ...]


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


def pairs(trials: Iterable[TrialResult], cost: str, seeds: int = 1) -> list[Pair]:
    """Complete long `audit` trials, each with complete shorter trials of the same arch.

    The short ones may be of any role but `report`, whose images are others: an audit also trains archs that the study
    had not. An arch counts with the `seeds` of its short ones that most archs have. Seeds that shift all archs alike,
    as those of a half-trained network do by tens of points, must not rank the archs that had them: each further seed is
    freed of its mean difference from the commonest one, over the archs that had both.

    Raises:
        UsageError: a trial lacks the cost.
    """
    done = [trial for trial in trials if trial.finished and trial.role != "report"]
    length = {
        key: max(trial.epochs for trial in done if trial.key == key and trial.role == "audit")
        for key in dict.fromkeys(trial.key for trial in done if trial.role == "audit")
    }
    long = [t for t in done if t.role == "audit" and t.epochs == length[t.key]]
    short = [t for t in done if t.epochs < length.get(t.key, 0)]
    common = Counter(trial.seed for trial in short)
    short.sort(key=lambda trial: (-common[trial.seed], trial.number))
    found, shifts = [], (_seed_shifts(short), _seed_shifts(long))
    for key in length:
        runs = list({trial.seed: trial for trial in reversed([t for t in short if t.key == key])}.values())
        runs = runs[::-1][:seeds]
        if not runs:
            continue
        if cost not in runs[0].costs:
            known = ", ".join(runs[0].costs)
            raise UsageError(f"Trial {runs[0].number} has no cost '{cost}'. It has: {known}")
        errors = [
            tuple(float(run.error or 0.0) - shift[run.seed, run.epochs] for run in chosen)
            for chosen, shift in zip((runs, [t for t in long if t.key == key]), shifts, strict=True)
        ]
        found.append(Pair(key, runs[0].costs[cost], *errors))
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
