"""A real table: fronts found on the runs of one seed, measured on the runs of the others.

Each method searches as the tool does, with the pruner's own rungs on whole learning curves; its front is that of the
errors it saw, and counts with the errors of seeds it did not see. Repetitions differ in the sampler's seed, and take
the seeds of the table in turn to search on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from attnsearch.front import pareto
from attnsearch.pruning import MoAsha, NeverStop, ParetoAtRung, Pruner
from attnsearch.samplers.ehvi import hypervolume
from benchmarks.replay import SAMPLERS, Curve, Search, Trace
from benchmarks.tables import Floats, Table

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
    return len(table.rungs) > 1 and table.errors.shape[1] > 1


def searches(table: Table, repetitions: int, units: float) -> Iterator[tuple[str, list[Trace]]]:
    """Each method's searches of so many units, volumes on fresh seeds, as a share of the whole space's there."""
    for name, (sampler, make) in METHODS.items():
        traces = []
        for seed in range(repetitions):
            seen, fresh = _halves(table, seed % table.errors.shape[1])
            pruner = make(seed)
            curves = [Curve(seen, epoch / epochs(table)) for epoch in pruner.rungs(epochs(table))]
            search = Search(seen, SAMPLERS[sampler](seen, seed), seed, pruner=pruner, curves=curves)
            traces.append(judged(search.run(units), fresh))
        yield name, traces


def epochs(table: Table) -> int:
    """Of a whole training: rungs are after each epoch but the last."""
    return len(table.rungs) + 1


def ranking(table: Table) -> Floats:
    """Kendall's tau of the errors after each epoch but the last with the final ones, mean over seeds."""
    from scipy.stats import kendalltau

    return np.array(
        [
            np.mean(
                [kendalltau(early, final)[0] for early, final in zip(errors.T, table.errors.T, strict=True)]
            )
            for _, errors in sorted(table.rungs.items())
        ]
    )


def judged(trace: Trace, fresh: Table) -> Trace:
    """The same search; its volume is that of the front it saw, at the errors that `fresh` has for it."""
    volume = []
    done: list[tuple[float, float]] = []
    rows: list[int] = []
    for row, run in zip(trace.rows, trace.runs, strict=True):
        if run.error is not None:
            done.append((run.cost, run.error))
            rows.append(row)
        front = [rows[i] for i in np.flatnonzero(pareto(np.array(done)))] if done else []
        log_cost = np.log10(fresh.cost_of(front))
        volume.append(hypervolume(fresh.true_error(front), log_cost, fresh.reference) / fresh.whole)
    return Trace(trace.spent, volume, trace.rows, trace.runs, trace.finals)


def _halves(table: Table, column: int) -> tuple[Table, Table]:
    """The runs of one seed, and those of all others."""
    others = [i for i in range(table.errors.shape[1]) if i != column]
    return table.of_seeds([column]), table.of_seeds(others)
