"""A real table: fronts found on the runs of one seed, measured on the runs of the others.

Each method searches as the tool does, with the pruner's own rungs on whole learning curves; its front is that of the
errors it saw, and counts with the errors of seeds it did not see. Repetitions differ in the sampler's seed, and take
the seeds that every arch was trained with in turn to search on. The others may be missing where no front needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from attnsearch.sample.mo_asha import MoAsha
from attnsearch.sample.pareto_at_rung import ParetoAtRung
from attnsearch.sample.pruner_base import NeverStop, Pruner
from attnsearch.statistics.pareto import hypervolume, pareto
from benchmarks.search.replay import SAMPLERS, Curve, Search, Trace
from benchmarks.search.tables import Floats, Table

METHODS: dict[str, tuple[str, Callable[[int], Pruner]]] = {
    "random": ("random", lambda seed: NeverStop()),
    "random, one-epoch": ("random", lambda seed: MoAsha(first_only=True)),
    "random, MO-ASHA": ("random", lambda seed: MoAsha()),
    "random, PAR": ("random", lambda seed: ParetoAtRung(seed)),
    "PoolEHVI": ("PoolEHVI", lambda seed: NeverStop()),
    "PoolEHVI, PAR": ("PoolEHVI", lambda seed: ParetoAtRung(seed)),
}


def usable(table: Table) -> bool:
    """Whether a table has what this takes: whole curves, and a second seed."""
    return len(table.rungs) > 1 and table.errors.shape[1] > 1 and len(whole_seeds(table)) > 0


def searches(table: Table, repetitions: int, units: float) -> Iterator[tuple[str, list[Trace]]]:
    """Each method's searches of so many units; volumes on fresh seeds, as a share of all that is known there."""
    whole = whole_seeds(table)
    for name, (sampler, make) in METHODS.items():
        traces = []
        for seed in range(repetitions):
            column = whole[seed % len(whole)]
            seen = table.of_seeds([column])
            unseen = np.delete(table.errors, column, axis=1)
            pruner = make(seed)
            curves = [Curve(seen, epoch / epochs(table)) for epoch in pruner.rungs(epochs(table))]
            search = Search(seen, SAMPLERS[sampler](seen, seed), seed, pruner=pruner, curves=curves)
            traces.append(judged(search.run(units), table, unseen))
        yield name, traces


def epochs(table: Table) -> int:
    """Of a whole training: rungs are after each epoch but the last."""
    return len(table.rungs) + 1


def ranking(table: Table) -> Floats:
    """Kendall's tau of the errors after each epoch but the last with the final ones, mean over whole seeds."""
    columns = whole_seeds(table)
    ladder = [errors for _, errors in sorted(table.rungs.items())]
    taus = [[kendalltau(rung[:, i], table.errors[:, i])[0] for i in columns] for rung in ladder]
    mean: Floats = np.mean(taus, axis=1)
    return mean


def whole_seeds(table: Table) -> NDArray[np.int64]:
    """Columns of the seeds that every arch was trained with."""
    return np.flatnonzero(np.isfinite(table.errors).all(axis=0))


def judged(trace: Trace, table: Table, unseen: Floats) -> Trace:
    """The same search; its volume that of the front it saw, at the mean `unseen` errors (archs, seeds) of its archs.

    Archs without any count for nothing.
    """
    runs = np.isfinite(unseen).sum(1)
    errors = np.where(runs > 0, np.nansum(unseen, axis=1) / np.maximum(runs, 1), np.inf)
    log_cost = np.log10(table.cost)
    whole = hypervolume(np.column_stack([errors, log_cost]), table.reference)
    volume = []
    done: list[tuple[float, float]] = []
    rows: list[int] = []
    for row, run in zip(trace.rows, trace.runs, strict=True):
        if run.error is not None:
            done.append((run.costs[0], run.error))
            rows.append(row)
        front = [rows[i] for i in np.flatnonzero(pareto(np.array(done)))] if done else []
        volume.append(hypervolume(np.column_stack([errors[front], log_cost[front]]), table.reference) / whole)
    return Trace(trace.spent, volume, trace.rows, trace.runs, trace.finals)
